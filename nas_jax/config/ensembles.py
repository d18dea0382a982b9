"""The check of an ensemble of evaluators, `sweep.ensemble`."""

import math

from ml_collections import ConfigDict

from nas_jax import plugins
from nas_jax.config import defaults

_FIELD = "config.sweep.ensemble.members"
_ALONE = ("ensemble", "kl", "table", "trained")  # evaluators that are no members


def check(sweep: ConfigDict) -> None:
    """Check the members of an ensemble: (evaluator, weight) each, one at least if it evaluates.

    Raises: ValueError that names the member.
    """
    if sweep.score == "ensemble" and not sweep.ensemble.members:
        raise ValueError(
            f"{_FIELD} is empty, but sweep.score='ensemble' combines evaluators: give them with "
            "their weights, (('accuracy', 1.0), ('naswot', 1.0))"
        )
    for member in sweep.ensemble.members:
        _check_member(member)
    names = [str(name) for name, _ in sweep.ensemble.members]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{_FIELD} has {', '.join(doubled)} more than once")


def _check_member(member):
    rule = defaults.RULES["sweep.score"]
    if not isinstance(member, tuple | list) or len(member) != 2:
        raise ValueError(f"{_FIELD}: {member!r} is no (evaluator, weight)")
    name, weight = member
    plugins.check(_FIELD, name, [each for each in rule.names if each not in _ALONE], rule.kind)
    if not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"{_FIELD}: the weight of {name!r}, {weight!r}, must be a number above 0")
