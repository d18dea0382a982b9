"""Variants of a config: the same but for a few fields. Imports nothing heavy, as `config`."""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict


def resolve(config: ConfigDict) -> dict[str, ConfigDict]:
    """The config of every variant of `study.variants`, by its label; the first is the reference.

    Raises: ValueError if a variant names a field that there is not, or one of `data`.
    """
    return {label: changed(config, label, fields) for label, *fields in config.study.variants}


def changed(config: ConfigDict, label: str, fields: Iterable[tuple[str, Any]]) -> ConfigDict:
    """A copy with (field, value) set; `label` is for the errors, which are those of `resolve`."""
    varied = config.copy_and_resolve_references()
    for name, value in fields:
        if name not in dict(flatten(config)):
            raise ValueError(f"config.study.variants, {label!r}: config.{name} is no field")
        if name.startswith("data."):
            raise ValueError(
                f"config.study.variants, {label!r} sets config.{name}: the variants of a study are "
                "judged on the same data; make it a study of its own"
            )
        varied.update_from_flattened_dict({name: value})
    return varied


def flatten(tree: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """('a.b', value) of every field."""
    for key, value in tree.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
