"""Variants of a config, which differ in a few fields. The module imports nothing heavy."""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from nas_jax import plugins
from nas_jax.config import defaults, field_names, recipes

# Fields in which variants may differ; a study shares candidates, data and stand-alone networks.
VARIED = (
    *("seed", "space.", "network.", "supernet.", "sweep.bn", "sweep.num_checkpoints"),
    *("sweep.strategy", "sweep.options", "sweep.num_candidates"),
    *("sweep.score", "sweep.ensemble.", "sweep.proxy."),  # of the part "signals"
)


def resolve(config: ConfigDict) -> dict[str, ConfigDict]:
    """Return the config of every variant of `study.variants`, by its label.

    The first is the reference.

    Raises: ValueError if there is no variant; or one that names a variant if that is not (label,
      (field, value), ...), has a field outside of `VARIED`, or has the label of another.
    """
    given = config.study.variants
    if not given:
        raise ValueError("config.study.variants is empty: name one at least, (('supernet',),)")
    varied = {}
    for variant in given:
        if not isinstance(variant, tuple | list) or not variant:
            raise ValueError(
                f"config.study.variants: {variant!r} is no (name, (field, value), ..); one that "
                "differs in nothing is ('name',)"
            )
        label, *fields = variant
        if label in varied:
            raise ValueError(
                f"config.study.variants has {label!r} twice: give each a name of its own"
            )
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
    """Return a copy of a config with each (field, value) set, and the recipe of its variant.

    Raises: ValueError that names the variant `label`, if there is no such field.
    """
    varied, fields = config.copy_and_resolve_references(), list(fields)
    present = dict(flatten(config))
    for name, value in fields:
        where = f"config.study.variants, {label!r}: config.{name}"
        if name not in present:
            try:
                field_names.check(name, present)
            except ValueError as error:
                raise ValueError(f"config.study.variants, {label!r}: {error}") from None
        try:
            varied.update_from_flattened_dict({name: value})
        except TypeError as error:
            raise ValueError(f"{where} cannot be {value!r}: {error}") from error
    recipes.follow(varied, config, [name for name, _ in fields])
    return recipes.with_form(varied)


def flatten(tree: ConfigDict | dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ('a.b', value) of every field of a config, or of what config.json has."""
    for key, value in tree.items():
        if isinstance(value, ConfigDict | dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differing(fields: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return those of (field, value) pairs whose value is not the default; lists are as tuples."""
    known = dict(flatten(defaults.default()))
    return [
        (name, value)
        for name, value in fields
        if name not in known or known[name] != plugins.as_tuples(value)
    ]
