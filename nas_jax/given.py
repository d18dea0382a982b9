"""Objects from Python in place of what a config names, and what config.json says of them.

A run with such objects goes on only where it gets equal ones. By the command it cannot: the config
that the command reads has other names.
"""

import dataclasses

from ml_collections import ConfigDict

from nas_jax import plugins
from nas_jax.data.dataset import Data
from nas_jax.spaces import SPACES, Space


def check(space: Space | None = None, data: Data | None = None) -> None:
    """Check that objects are of their kinds. Raises: ValueError that names the other one."""
    for name, value, kind in (("space", space, Space), ("data", data, Data)):
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{name}={value!r:.60} must be a {kind.__module__}.{kind.__name__}")


def recorded(
    config: ConfigDict, space: Space | None = None, data: Data | None = None
) -> ConfigDict:
    """Return a copy of a config that names the objects which are used instead of its own.

    A space is named by its class, "module:Class" unless it comes with the package, and by its
    fields; a data set by its name and its numbers of images. Its content is in data.json.

    Raises: ValueError if the objects are of another kind, or the config is a study, whose variants
      make their spaces.
    """
    check(space, data)
    config = config.copy_and_resolve_references()
    if space is not None and not _is_value(space):
        raise ValueError(
            f"space: {type(space).__name__} must be a frozen dataclass whose fields have a hash"
        )
    if space is not None and config.study.parts:
        raise ValueError("space: a study makes the spaces of its variants; name it in config.space")
    with config.unlocked():
        if space is not None:
            config.space = ConfigDict({"name": _name(space), **_fields(space)})
        if data is not None:
            config.data.name = data.name
            config.data.data_dir, config.data.image_size = "", 0
            config.data.shuffle_seed = data.shuffle_seed
            sizes = zip(("train", "valid", "test"), data.sizes)
            config.data.update({split: f"{size} images" for split, size in sizes})
    return config


def _name(space):
    for name, kind in SPACES.items():
        if type(space) is kind:
            return name
    return plugins.name_of(type(space))


def _fields(space):
    if not dataclasses.is_dataclass(space):
        return {}
    fields = dataclasses.fields(space)
    return {field.name: plugins.plain(getattr(space, field.name)) for field in fields}


def _is_value(space):
    try:
        hash(space)
    except TypeError:
        return False
    return dataclasses.is_dataclass(space)
