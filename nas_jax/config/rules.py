"""Rules of a config's fields: the allowed values, beside the type of the default."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Rule(NamedTuple):
    """The allowed values of a field.

    Attributes:
      must_be: the allowed values in words, for an error.
      allows: (value, or item of a tuple) -> whether it is allowed.
      most: the largest magnitude of a number; None: the largest of the type.
      items: type of the items of a tuple; None: any.
      names: the allowed names; (): any.
      kind: of plug-ins, allowed beside `names` (`plugins.resolve` finds them); "": none.
    """

    must_be: str = ""
    allows: Callable[[float], bool] | None = None
    most: float | None = None
    items: type | None = None
    names: tuple[str, ...] = ()
    kind: str = ""


FREE = Rule()  # any number of the type
LONG = math.inf  # `most` of a whole number without a bound
SHARE = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
PART = Rule("above 0 and at most 1", lambda value: 0 < value <= 1)
ABOVE_0 = Rule("above 0", lambda value: value > 0)


def at_least(least: int, most: float | None = None, items: type | None = None) -> Rule:
    """Allow numbers from `least` on."""
    return Rule(f"{least} or more", lambda value: value >= least, most, items)


def at_most(most: int) -> Rule:
    """Allow numbers up to `most`."""
    return Rule(most=most)


def items(kind: type) -> Rule:
    """Allow tuples of items of one type."""
    return Rule(items=kind)


def one_of(*names: str, or_of: str = "") -> Rule:
    """Allow these names; with `or_of` also objects of that kind, of a user or a plug-in."""
    return Rule(names=names, kind=or_of)


def some_of(*names: str, or_of: str) -> Rule:
    """Allow tuples of these names, and of objects of that kind, of a user or a plug-in."""
    return Rule(items=str, names=names, kind=or_of)


def within(section: str, rules: dict[str, Rule]) -> dict[str, Rule]:
    """Name the fields of a section in full: "l2" of "supernet.train" is "supernet.train.l2"."""
    return {f"{section}.{field}": rule for field, rule in rules.items()}
