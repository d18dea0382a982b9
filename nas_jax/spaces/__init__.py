"""Search spaces, by name."""

import dataclasses
from typing import Any

from nas_jax import naming
from nas_jax.spaces.base import Space, arch_id
from nas_jax.spaces.cell import CellSpace
from nas_jax.spaces.nasbench201 import NasBench201Space
from nas_jax.spaces.nasbench_macro import NasBenchMacroSpace

SPACES = {
    "cell": CellSpace,
    "nasbench201": NasBench201Space,
    "nasbench_macro": NasBenchMacroSpace,
}


def make(name: str, **fields) -> Space:
    """Make the search space of that name; fields are those of its class.

    Raises: ValueError for an unknown name (with the nearest that exists) or an unknown field.
    """
    existing = defaults(name)
    for field in fields:
        if field not in existing:
            raise ValueError(
                f"space.{field} is no field of {name!r}, which has {', '.join(existing)}"
            )
    return _class(name)(**fields)


def defaults(name: str) -> dict[str, Any]:
    """Return the fields of the space of that name, with their defaults.

    Raises: ValueError if there is no such space.
    """
    return {field.name: field.default for field in dataclasses.fields(_class(name))}


def _class(name):
    naming.check("space.name", name, SPACES)
    return SPACES[name]


__all__ = ["SPACES", "Space", "arch_id", "defaults", "make"]
