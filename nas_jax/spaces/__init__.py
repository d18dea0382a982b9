"""Search spaces, by name."""

import dataclasses
import importlib
from typing import Any

from nas_jax import naming
from nas_jax.spaces.base import Space, arch_id

# name -> (module of this package, class)
SPACES = {
    "cell": ("cell", "CellSpace"),
    "nasbench201": ("nasbench201", "NasBench201Space"),
    "nasbench_macro": ("nasbench_macro", "NasBenchMacroSpace"),
}


def make(name: str, **fields) -> Space:
    """The search space of that name; fields are those of its class.

    Raises: ValueError for an unknown name or field, with the nearest that there is.
    """
    known = defaults(name)
    for field in fields:
        if field not in known:
            raise ValueError(f"space.{field} is no field of {name!r}, which has {', '.join(known)}")
    return _class(name)(**fields)


def defaults(name: str) -> dict[str, Any]:
    """The fields of the space of that name, with their defaults. Raises: ValueError: no name."""
    return {field.name: field.default for field in dataclasses.fields(_class(name))}


def _class(name):
    naming.check("space.name", name, SPACES)
    module, class_name = SPACES[name]
    return getattr(importlib.import_module(f"nas_jax.spaces.{module}"), class_name)


__all__ = ["SPACES", "Space", "arch_id", "defaults", "make"]
