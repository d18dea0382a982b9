"""Variants of a config: the same but for a few fields. Nothing heavy is imported."""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

# What supernets may differ in; candidates, data and stand-alone networks are the study's.
VARIED = (
    *("seed", "space.", "network.", "supernet.", "sweep.bn", "sweep.num_checkpoints"),
    *("sweep.strategy", "sweep.options", "sweep.num_candidates"),
)


def resolve(config: ConfigDict) -> dict[str, ConfigDict]:
    """Return the config of every variant of `study.variants`, by its label.

    The first is the reference.

    Raises: ValueError that names the variant, if it is not (label, (field, value), ...) with
      fields in which supernets may differ, or if its label is another's; or if there is none.
    """
    given = config.study.variants
    if not given:
        raise ValueError(
            "config.study.variants is empty: name one at least, (('one-shot model',),)"
        )
    varied = {}
    for variant in given:
        if not isinstance(variant, tuple | list) or not variant:
            raise ValueError(
                f"config.study.variants: {variant!r} is no (label, (field, value), ..)"
            )
        label, *fields = variant
        if label in varied:
            raise ValueError(f"config.study.variants has {label!r} twice; labels must differ")
        for field in fields:
            _check(label, field)
        varied[label] = changed(config, label, fields)
    return varied


def _check(label, field):
    where = f"config.study.variants, {label!r}"
    if not isinstance(field, tuple | list) or len(field) != 2:
        raise ValueError(f"{where}: {field!r} is no (field, value)")
    if not str(field[0]).startswith(VARIED):
        raise ValueError(
            f"{where} sets config.{field[0]}: supernets may differ in {', '.join(VARIED)} alone, "
            "to be compared on the same architectures, images and networks"
        )


def changed(config: ConfigDict, label: str, fields: Iterable[tuple[str, Any]]) -> ConfigDict:
    """Return a copy with (field, value) set.

    Raises: ValueError, which names the variant `label`, if there is no such field.
    """
    varied = config.copy_and_resolve_references()
    known = dict(flatten(config))
    for name, value in fields:
        where = f"config.study.variants, {label!r}: config.{name}"
        if name not in known:
            raise ValueError(f"{where} is no field")
        try:
            varied.update_from_flattened_dict({name: value})
        except TypeError as error:
            raise ValueError(f"{where} cannot be {value!r}: {error}") from error
    return varied


def flatten(tree: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ('a.b', value) of every field."""
    for key, value in tree.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
