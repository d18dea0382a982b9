"""Each field of the config has its rule beside it."""

import numbers

import pytest

from nas_jax import config as config_lib
from nas_jax.config import defaults, rules, variants

FIELDS = dict(variants.flatten(config_lib.default()))


def is_number(value):
    """Whether a value is a number or a tuple that begins with one; True and False are none."""
    first = value[0] if isinstance(value, tuple) and value else value
    return isinstance(first, numbers.Real) and not isinstance(first, bool)


@pytest.mark.parametrize("field", [name for name, value in FIELDS.items() if is_number(value)])
def test_a_number_has_a_rule_or_is_free(field):
    assert field in defaults.RULES


@pytest.mark.parametrize(("field", "rule"), defaults.RULES.items())
def test_a_rule_is_of_a_field_and_allows_its_default(field, rule):
    value = FIELDS[field]
    for item in value if isinstance(value, tuple) else (value,):
        assert rule.allows is None or rule.allows(item)
        assert rule.items is None or type(item) is rule.items
        assert not rule.names or item in rule.names
        assert rule.most is None or abs(item) <= rule.most


def test_the_fields_of_a_section_are_named_in_full():
    rule = rules.at_least(1)
    assert rules.within("a.b", {"c": rule, "d.e": rules.FREE}) == {
        "a.b.c": rule,
        "a.b.d.e": rules.FREE,
    }
