"""Schemas of the records in a run's files.

A file may be damaged or come from elsewhere, so it is checked once, when it is read. A schema is a
`Kind`, {field: schema}, [schema] for a list of any length, or {str: schema} for fields of any name.
"""

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """The values that are allowed: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]

    def or_null(self) -> "Kind":
        """Return a kind that allows None as well."""
        return Kind(f"{self.words} or null", lambda x: x is None or self.fits(x))

    def optional(self) -> "Kind":
        """Return a kind that allows None as well, or that the field is absent."""
        return Kind(self.words, lambda x: x is None or x is ABSENT or self.fits(x))


def _number(low: float, high: float, words: str, of: type = int | float) -> Kind:
    """Make a range of numbers. NaN is in no range; True, which Python counts as 1, is no number."""
    return Kind(words, lambda x: isinstance(x, of) and not isinstance(x, bool) and low <= x <= high)


def _is_time(value):
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


ABSENT = object()
MOST = 3.4e38  # what float32 can hold
ANY = Kind("anything", lambda x: True)
_FLAG = Kind("true or false", lambda x: isinstance(x, bool))
TEXT = Kind("a text", lambda x: isinstance(x, str))
NUMBER = _number(-MOST, MOST, "a number")
SHARE = _number(0, 1, "a number from 0 to 1")
PER_CENT = _number(0, 100, "a number from 0 to 100 (per cent)")
AMOUNT = _number(0, MOST, "a number of at least 0")
COUNT = _number(0, 2**63, "a whole number of at least 0", int)
SIZE = _number(1, 2**63, "a whole number of at least 1", int)

OBJECT = {str: ANY}
_SECTION = Kind("an object", lambda x: x is ABSENT or isinstance(x, dict))
CONFIG = {name: _SECTION for name in ("data", "space", "network", "supernet", "sweep", "retrain")}
STEP = {"step": COUNT}
TRIAL = {
    "arch": TEXT,
    "value": NUMBER.or_null(),
    "params": AMOUNT,
    "flops": AMOUNT,
    "latency_ms": NUMBER.optional(),
    "num_images": SIZE,
    "values": Kind("an object", lambda x: x is ABSENT or isinstance(x, dict)),  # of an ensemble
    "selected": _FLAG.optional(),  # true: by the supernet's training, not asked for
}
METRIC = STEP | {
    "loss": NUMBER,
    "accuracy": SHARE,
    "learning_rate": NUMBER,
    "drop_share": SHARE.optional(),
    "drop_rate": SHARE.optional(),  # older runs' name of drop_share
}
_TIME = Kind("a time such as 2026-01-31T12:00:00+00:00", _is_time)
EVENT = {  # of a history
    "time": _TIME,
    "status": TEXT,
    "stage": TEXT.optional(),
    "process": TEXT,
    "devices": TEXT,
    "command": TEXT,
}
MEMBERS = STEP | {"parents": [COUNT]}  # some fields of a line of lineage.jsonl
RESULT = {
    "arch": TEXT,
    "filters": SIZE,
    "seed": COUNT,
    "params": AMOUNT,
    "flops": AMOUNT,
    "valid_accuracy": SHARE.or_null(),
    "test_accuracy": SHARE.or_null(),
    "init": TEXT.optional(),
    "population": SIZE.optional(),  # members of which it was the best
    "seconds": AMOUNT.optional(),
    "dtype": TEXT.optional(),  # not in older files
}
_CROPS = ("square", "centre", "none")
READ_AS = {  # how images were made of files, see `data.records.Reading`
    "crop": Kind(" or ".join(_CROPS), lambda x: x in _CROPS),
    "upright": _FLAG,
    "by_band": _FLAG,
}
DATA = {
    "fingerprint": TEXT,
    **dict.fromkeys(("order", "table", "latency", "path_dropout", "trained"), TEXT.optional()),
    "files": Kind("an object", lambda x: x is ABSENT or isinstance(x, dict)),
    "read_as": Kind(f"{{{', '.join(READ_AS)}}}", lambda x: x is ABSENT or not problem(READ_AS, x)),
}
SELECTION = {str: [TEXT]}
COMPILE = {"compile": Kind("together or each", lambda x: x in ("together", "each"))}
RESOURCES = ("flops", "params", "latency_ms")  # by which width tuning can price channels
NETWORKS = ("full", "left", "tuned", "narrowed")  # of a tuning of widths
_ROUND = {  # of a tuning of several
    "tuned": TEXT,
    "costs": {name: NUMBER for name in ("left", "tuned")},
    "widths": {name: {str: COUNT} for name in ("left", "tuned")},
}
WIDTHS = {
    "arch": TEXT,
    "seed": COUNT,
    "resource": Kind(" or ".join(RESOURCES), lambda x: x in RESOURCES),
    "tuned": TEXT,
    "costs": {name: NUMBER for name in NETWORKS},
    "widths": {name: {str: COUNT} for name in NETWORKS},
    "rounds": Kind("a list of rounds", lambda x: x is ABSENT or not problem([_ROUND], x)),
}
_SIDES = Kind(
    "a height and a width",
    lambda x: isinstance(x, list) and len(x) == 2 and all(map(SIZE.fits, x)),
)
LATENCY = {
    "num_archs": SIZE,
    "error_percent": AMOUNT,
    "spearman": NUMBER.optional(),
    "base_ms": NUMBER,
    "options_ms": {str: [NUMBER]},
    "image_size": _SIDES.optional(),  # not in older files
    "filters": SIZE.optional(),  # nor this
    "batch_size": SIZE,
    "device": TEXT,
}


def problem(schema: Any, value: Any, where: str = "it") -> str:
    """Say what does not fit a schema: "value is 'x', not a number"; "" if everything fits.

    Args:
      schema: see the module.
      value: of JSON.
      where: what the message calls the value.
    """
    if isinstance(schema, Kind):
        return "" if schema.fits(value) else f"{where} is {_short(value)}, not {schema.words}"
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{where} is {_short(value)}, not a list"
        parts = ((schema[0], x, f"{where}[{i}]") for i, x in enumerate(value))
    else:
        if not isinstance(value, dict):
            return f"{where} is {_short(value)}, not an object"
        names = value if str in schema else schema
        inside = "" if where == "it" else f"{where}."
        parts = (
            (schema.get(n, schema.get(str)), value.get(n, ABSENT), inside + _name(n)) for n in names
        )
    return next(filter(None, (problem(*part) for part in parts)), "")


def _name(field):
    return field if field.isprintable() else repr(field)  # an error is one line


def _short(value):
    return "absent" if value is ABSENT else repr(value)[:40]
