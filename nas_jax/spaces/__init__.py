"""Search spaces, by name."""

import difflib
import importlib

from nas_jax.spaces.base import Space, arch_id

# name -> (module of this package, class)
SPACES = {"cell": ("cell", "CellSpace")}


def make(name: str, **fields) -> Space:
    """The search space of that name; fields are those of its class.

    Raises: ValueError for an unknown name or field, with the nearest that there is.
    """
    if name not in SPACES:
        near = difflib.get_close_matches(name, SPACES, 1, 0) or list(SPACES)
        raise ValueError(f"space.name={name!r} is none of {', '.join(SPACES)}; nearest: {near[0]}")
    module, class_name = SPACES[name]
    cls = getattr(importlib.import_module(f"nas_jax.spaces.{module}"), class_name)
    for field in fields:
        if field not in cls.__dataclass_fields__:
            known = list(cls.__dataclass_fields__)
            raise ValueError(f"space.{field} is no field of {name!r}, which has {', '.join(known)}")
    return cls(**fields)


__all__ = ["SPACES", "Space", "arch_id", "make"]
