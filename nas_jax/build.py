"""What a config stands for: its space and its data, checked before anything compiles."""

import contextlib
from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax import spaces, strategies, studies
from nas_jax.config import defaults, validation, variants
from nas_jax.data import loading
from nas_jax.runtime import environment
from nas_jax.spaces import tabular


def known_fields(space_name: str) -> ConfigDict:
    """A config with every field that there is where the space is that of this name."""
    if not isinstance(space_name, str):
        kind = type(space_name).__name__
        raise ValueError(f"config.space.name is a {kind}; it must be a name, such as 'cell'")
    known = defaults.default()
    fields = spaces.defaults(space_name)
    known.space = ConfigDict({"name": space_name, **fields})
    return known


def build(config: ConfigDict) -> tuple[Any, Any]:
    """(space, data) of a config, checked before anything compiles.

    `sweep.num_candidates` is lowered to what an exhaustive search has.

    Raises: ValueError that names the field, its value and what is allowed; or of `runtime.start`.
    """
    space = config.get("space")
    known = known_fields(space.get("name") if isinstance(space, ConfigDict) else None)
    validation.config(config, known)
    varied = variants.resolve(config) if config.study.parts else {}
    for label, variant in varied.items():
        with _said_of(label):
            validation.config(variant, known)
    environment.start()
    if config.study.parts:
        studies.check(config)
    space = spaces.make(**config.space.to_dict())
    _check_strategy(config, space)
    _check_widths(config.retrain, space)
    table = None
    if config.table:
        table = tabular.load(config.table, space)
        table.check_data(config.data.name)
    if config.sweep.strategy == "exhaustive":  # it has no more than these
        most = len(table.rows) if table else space.count()
        config.sweep.num_candidates = min(config.sweep.num_candidates, most)
    fields = config.data.to_dict()
    digits = fields.pop("digits")
    options = digits if fields["name"] == "digits" else {}
    fields["data_dir"] = fields["data_dir"] or None
    fields["image_size"] = fields["image_size"] or None
    if fields["image_size"]:
        space.check_image_size(fields["image_size"])  # before a data set is read in vain
    data = loading.load(**fields, **options)
    num_devices = jax.device_count()
    validation.sizes(config, space, data, num_devices)
    for label, variant in varied.items():
        with _said_of(label):
            own = spaces.make(**variant.space.to_dict())
            _check_strategy(variant, own)
            own.from_str(own.repeated(space.to_str(space.all_on())))  # or it cannot be compared
            validation.sizes(variant, own, data, num_devices)
    return space, data


def _check_strategy(config, space):
    """Raises: ValueError if the strategy cannot be made, or cannot train a supernet and should."""
    sweep = config.sweep
    strategies.check(sweep.strategy, sweep.options)
    reason = "asks for all in order"
    if sweep.strategy != "exhaustive":  # which may have to list a table's architectures
        strategy = strategies.make(sweep.strategy, space, sweep.options)
        reason = strategy.on_host and "cannot be compiled"
        reason = reason or (strategy.exploit and "tunes a population and draws nothing for it")
        if strategy.wrap and sweep.bn != "batch":
            raise ValueError(
                f"config.sweep.bn={sweep.bn!r}, but sweep.strategy={sweep.strategy!r} scores with "
                "the statistics of its images: 'batch'"
            )
    if config.supernet.sampler == "strategy" and reason:
        raise ValueError(
            f"config.supernet.sampler='strategy', but sweep.strategy={sweep.strategy!r} {reason}; "
            "choose another for one of the two"
        )


def _check_widths(retrain, space):
    """Raises: ValueError if widths are to be tuned where the networks have none."""
    for protocol in ("short", "final"):
        groups = retrain[protocol].groups
        if groups.tuned or groups.narrowed:
            try:
                space.layers(space.to_str(space.all_on()))
            except ValueError as error:
                raise ValueError(
                    f"config.retrain.{protocol}.groups.tuned={groups.tuned}, .narrowed="
                    f"{groups.narrowed}: {error}; set both to 0"
                ) from error


@contextlib.contextmanager
def _said_of(label):
    """Errors of one variant of a study name it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"config.study.variants, {label!r}: {error}") from error
