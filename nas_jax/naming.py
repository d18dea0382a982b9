"""Names, options and numbers that a user may have got wrong."""

import difflib
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

REQUIRED = inspect.Parameter.empty  # stands for the default of a keyword that has none


def nearest(name: object, names: Iterable[str]) -> str:
    """Return the one of `names` (one or more) that is most like `name`; case does not count."""
    by_lower = {existing.lower(): existing for existing in names}
    return by_lower[difflib.get_close_matches(str(name).lower(), by_lower, 1, 0)[0]]


def check(field: str, name: object, names: Iterable[str]) -> None:
    """Check that `name` is one of `names`.

    Args:
      field: what errors call the name, such as a field of the config.
      name: as given.
      names: all that exist.

    Raises: ValueError, with the nearest of `names`, if it is none of them.
    """
    existing = list(names)
    if name not in existing:
        near = nearest(name, existing)
        raise ValueError(f"{field}={name!r} is none of {', '.join(existing)}; nearest: {near!r}")


def keywords(function: Callable) -> dict[str, Any]:
    """Return the keyword-only parameters of a function, with their defaults, or `REQUIRED`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(
    field: str, name: str, options: Iterable[tuple[str, Any]], defaults: Mapping[str, Any]
) -> None:
    """Check options given as (option, value) pairs, as in a config.

    Args:
      field: of the config.
      name: what has the options, such as a strategy.
      options: the pairs.
      defaults: {option: default} of all options that exist.

    Raises: ValueError if one is no pair, is unknown (with the nearest name), or has another type
      than its default.
    """
    for option in options:
        is_pair = isinstance(option, tuple | list) and len(option) == 2
        if not is_pair or not isinstance(option[0], str):
            raise ValueError(
                f"{field}: {option!r} is no (option, value); write {(('population', 50),)} for one"
            )
        if option[0] not in defaults:
            there = "none"
            if defaults:
                there = f"{', '.join(defaults)}; nearest: {nearest(option[0], defaults)}"
            raise ValueError(f"{field}: {option[0]!r} is no option of {name}, which has {there}")
        _check_type(field, *option, defaults[option[0]])


def _check_type(field, option, value, default):
    if default is REQUIRED:
        return
    kinds = {float: (int, float), tuple: (tuple, list)}.get(type(default), type(default))
    if not isinstance(value, kinds):
        raise ValueError(
            f"{field}: {option}={value!r} must be {type(default).__name__}, such as its default "
            f"{default!r}"
        )


def shown(value: object) -> str:
    """Write a value for an error: in one line, of which the first 60 characters must do."""
    return f"{' '.join(repr(value).split()):.60}"


def check_whole(field: str, value: object, least: int, way_out: str = "") -> None:
    """Check that a value is a whole number from `least` on.

    Args:
      field: what errors call it.
      value: as given.
      least: lower bound.
      way_out: what else is allowed, such as "or None".

    Raises: ValueError that names the field.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least:
        also = f", {way_out}" if way_out else ""
        raise ValueError(f"{field}={shown(value)} must be a whole number from {least} on{also}")


def check_range(field: str, least: float, most: float | None, **options: float) -> None:
    """Check that options are in [least, most].

    Args:
      field: of the config, that has the options.
      least: lower bound.
      most: upper bound; None for none.
      **options: by name.

    Raises: ValueError that names the option.
    """
    for name, value in options.items():
        if value < least or (most is not None and value > most):
            allowed = f"{least:g} or more" if most is None else f"in [{least:g}, {most:g}]"
            raise ValueError(f"{field}: {name}={value!r} must be {allowed}")
