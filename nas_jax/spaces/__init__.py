"""Search spaces by name: this package's, a plug-in's, or a class of a module or file."""

import dataclasses
from typing import Any

from nas_jax import plugins
from nas_jax.runtime import rng
from nas_jax.spaces.base import Space, arch_id
from nas_jax.spaces.cell import CellSpace
from nas_jax.spaces.chains import ChainSpace
from nas_jax.spaces.checks import check
from nas_jax.spaces.combinations import has_rule, kept
from nas_jax.spaces.nasbench201 import NasBench201Space
from nas_jax.spaces.nasbench_macro import NasBenchMacroSpace

SPACES = {
    "cell": CellSpace,
    "chain": ChainSpace,
    "nasbench201": NasBench201Space,
    "nasbench_macro": NasBenchMacroSpace,
}
_FIELD = "space.name"


def make(name: str | Space, **fields) -> Space:
    """Make the search space of a name; fields are those of its class.

    Args:
      name: one of `SPACES`, the entry point of an installed plug-in (group `nas_jax.spaces`),
        "FILE.py:CLASS", "PACKAGE.MODULE:CLASS", or a `Space`, which is copied with these fields.
      **fields: of the class, a frozen dataclass. Lists, as of a JSON file, become tuples.

    Raises: ValueError, in one line, for an unknown name (with the nearest that exists), an unknown
      field, or a plug-in that raises.
    """
    existing = defaults(name)
    for field in fields:
        if field not in existing:
            what = name if isinstance(name, str) else type(name).__name__
            has = f"which has {', '.join(existing)}" if existing else "which has none"
            raise ValueError(f"space.{field} is no field of {what!r}, {has}")
    fields = {field: plugins.as_tuples(value) for field, value in fields.items()}
    if isinstance(name, Space):
        made = dataclasses.replace(name, **fields) if fields else name
        return _in_one_line(type(name).__name__, lambda: _with_sound_rule(made))
    made = _class(name)
    if made in SPACES.values():
        return made(**fields)
    return _in_one_line(name, lambda: _with_sound_rule(made(**fields)))


def defaults(name: str | Space) -> dict[str, Any]:
    """Return the fields of the space of that name, with their defaults; of a `Space`, its own.

    Raises: ValueError, in one line, if there is no such space, or a field has no default.
    """
    if isinstance(name, Space):
        given = dataclasses.fields(name) if dataclasses.is_dataclass(name) else ()
        return {field.name: getattr(name, field.name) for field in given if field.init}
    return {field.name: _default(name, field) for field in dataclasses.fields(_class(name))}


def chain(*, stages: Any, ops: Any, stem_stride: int = 1, head: int = 0) -> ChainSpace:
    """Make a chain of mixed ops, such as MobileNet's.

        mobile = spaces.chain(stages=((2, 1, 1), (3, 2, 2), (3, 4, 2)), ops=("mb3_k3", "mb6_k5"))

    Arguments are those of `chains.ChainSpace`.

    Raises: ValueError, in one line, if a stage or an op is none.
    """
    return ChainSpace(stages, ops, stem_stride, head)


def as_fields(space: Space) -> dict[str, Any]:
    """Return the section `space` of a config, a dict, that makes an equal space.

    Raises: ValueError if its class cannot be found by a name.
    """
    kind = type(space)
    own = [name for name, made in SPACES.items() if made is kind]
    name = own[0] if own else plugins.name_of(kind)
    if _class(name) is not kind:
        raise ValueError(
            f"{_FIELD}: the class {kind.__qualname__} is not found as {name!r}: define it at the "
            "top of a module or file"
        )
    return {
        "name": name,
        **{field: plugins.plain(value) for field, value in defaults(space).items()},
    }


def _class(name):
    found = plugins.resolve(_FIELD, name, SPACES, "spaces")
    is_space = isinstance(found, type) and issubclass(found, Space)
    if not is_space or not dataclasses.is_dataclass(found) or not found.__hash__:
        raise ValueError(
            f"{_FIELD}={name!r} must be a class: a frozen dataclass, below nas_jax.spaces.Space"
        )
    return found


def _default(name, field):
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise ValueError(f"{_FIELD}={name!r}: its field {field.name!r} needs a default")
    return field.default


def _with_sound_rule(space):
    """Return a space of whose rule is known that JAX traces it, and that it can be kept."""
    if has_rule(space) and not kept(space, space.sample(rng.key(0), (16,))).all():
        raise ValueError(
            f"{_FIELD}: the rule of {type(space).__name__} (its method `allows`) keeps hardly any "
            "of the combinations of its Choices: state it by the Choices themselves"
        )
    return space


def _in_one_line(name, make_space):
    """Call a plug-in. A ValueError is about its fields; another error says where it came from."""
    try:
        return make_space()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{_FIELD}={name!r}: {plugins.described(error)}") from error


__all__ = ["SPACES", "Space", "arch_id", "as_fields", "chain", "check", "defaults", "make"]
