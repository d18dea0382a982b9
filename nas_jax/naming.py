"""Names that somebody may have misspelt."""

import difflib
from collections.abc import Iterable


def nearest(name: object, names: Iterable[str]) -> str:
    """The one of `names`, one or more, that is most like `name`; case does not count."""
    by_lower = {known.lower(): known for known in names}
    return by_lower[difflib.get_close_matches(str(name).lower(), by_lower, 1, 0)[0]]


def check(what: str, name: object, names: Iterable[str]) -> None:
    """Raises: ValueError, with the nearest, if `name` is none of `names`; `what` is named."""
    known = list(names)
    if name not in known:
        raise ValueError(
            f"{what}={name!r} is none of {', '.join(known)}; nearest: {nearest(name, known)!r}"
        )
