"""Search strategies: a file each, found by its name."""

import difflib
import importlib
import pkgutil

from nas_jax.strategies.base import Strategy


def names() -> list[str]:
    """The strategies that there are: every module of this package that has a `make`."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def check_name(name: str) -> None:
    """Raises: ValueError, with the nearest name, if there is no such strategy."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0)[0]
        raise ValueError(
            f"sweep.strategy={name!r} is none of {', '.join(names())}; nearest: {near}"
        )


def make(name: str, space, **options) -> Strategy:
    """The strategy of that name. Raises: ValueError if there is none."""
    check_name(name)
    return importlib.import_module(f"nas_jax.strategies.{name}").make(space, **options)


__all__ = ["Strategy", "make", "names"]
