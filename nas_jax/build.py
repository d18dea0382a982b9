"""The builder of a `Run`: checks a config, reads the data, makes the space and the rest."""

import contextlib
import dataclasses
import functools
import logging
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nas_jax import given, listeners, spaces, strategies
from nas_jax.candidates import evaluators, training_free
from nas_jax.config import defaults, recipes, validation, variants
from nas_jax.costs import latency_table, params_flops
from nas_jax.costs.constraints import Constraints
from nas_jax.data import augment, loading
from nas_jax.data.dataset import Data
from nas_jax.nn import execution
from nas_jax.nn.network import NetworkOptions, default_dtype
from nas_jax.run import Run
from nas_jax.runtime import distributed, environment
from nas_jax.spaces import Space, choices, tabular
from nas_jax.standalone import named, populations, retrain, together, width_tuning
from nas_jax.storage import file_paths
from nas_jax.strategies import exhaustive
from nas_jax.training import losses, optim, supernet
from nas_jax.training import variants as variants_lib

logger = logging.getLogger(__name__)


def build_run(
    config: ConfigDict,
    workdir: str | Path,
    *,
    space: Space | None = None,
    data: Data | None = None,
    num_devices: int | None = None,
) -> Run:
    """Check a config and build its run, before anything compiles.

    The run has a copy of the config. For an exhaustive search its `sweep.num_candidates` is at most
    the number of architectures.

    Args:
      config: of the run; it is not changed.
      workdir: the folder of the run, which need not exist.
      space, data: objects to use instead of what the config names; None: what it names.
      num_devices: among which batches are divided; None: as many as there are.

    Raises: ValueError that names the field and what is allowed; or as of `environment.start`.
    """
    config = given.recorded(config, space, data)
    check_fields(config, space)
    recipes.warn_of_form(config)
    config = recipes.with_form(config)
    environment.start()
    if space is None:
        config = with_space_fields(config)
    space = spaces.make(**({"name": space} if space else config.space.to_dict()))
    _check_names(space)
    width_tuning.check(config, space)
    config.retrain.archs = named.checked(config, space)
    if config.data.image_size:
        space.check_image_size(config.data.image_size)  # before a data set is read in vain
    latencies = latency_table.read(space, config.sweep.latency.table)
    _training_variant(config, space, latencies)  # as soon as it can be checked
    _check_recipes(config)
    data = data or load_data(config.data)
    config = _with_no_more_images_than_there_are(config, data)
    run = assemble(config, data, workdir, space)
    if config.sweep.strategy == "exhaustive":
        run = _with_no_more_than_there_are(run)
    num_devices = num_devices or jax.device_count()
    validation.sizes(config, space, run.data, num_devices, _shared_trainings(config))
    _check_stages(run)
    for label, variant in _variants(config).items():
        with _naming_the_variant(label):
            _check_of_study(variant, run, num_devices)
    return run


def _check_names(space):
    """Check that no two Choices share a name."""
    for name in choices.repeated_names(space.choices):
        raise ValueError(f"config.space: several Choices are called {name!r}; see spaces.check")


def num_cpu_devices(config: ConfigDict) -> int:
    """Return the most devices of a CPU, at most one for each core, that a run can divide among."""
    sizes = [
        size
        for one in (config, *_variants(config).values())
        for size in validation.divided(one, _shared_trainings(one))
    ]
    common = math.gcd(*sizes)
    return max(n for n in range(1, environment.num_cores() + 1) if common % n == 0)


def _shared_trainings(config):
    """Name the trainings whose batches all devices share."""
    tunes = any(together.tunes_widths(config, protocol) for protocol in ("short", "final"))
    is_short = config.sweep.score == "trained" or tunes
    return ["supernet.train", *(["retrain.short.train"] if is_short else [])]


def check_fields(config: ConfigDict, space: Space | None = None) -> None:
    """Check a config and each variant of a study, as far as that needs neither data nor space.

    `space` is an object that the config names (`given.recorded`); None: the config names a class.

    Raises: ValueError that names the field, its value and what is allowed.
    """
    if space is not None:
        complete = defaults.default()
        complete.space = config.space
    else:
        config = with_space_fields(config)
        section = config.get("space")
        complete = all_fields(section.get("name") if isinstance(section, ConfigDict) else None)
    validation.config(config, complete)
    listeners.check(config.listeners)
    strategies.check(config.sweep.strategy, config.sweep.options)
    for label, variant in _variants(config).items():
        with _naming_the_variant(label):
            validation.config(variant, complete)
            strategies.check(variant.sweep.strategy, variant.sweep.options)


def with_space_fields(config: ConfigDict) -> ConfigDict:
    """Copy a config; its section `space` gets the fields of the named space that it lacks.

    A section that has all fields of the default space, and another name, was the default's: the
    fields that the named space does not have are left out.

    Raises: ValueError if there is no such space.
    """
    config = config.copy_and_resolve_references()
    section, default = config.get("space"), defaults.default().space
    if not isinstance(section, ConfigDict) or not isinstance(section.get("name"), str):
        return config
    fields = spaces.defaults(section.name)
    left = set(section) - {"name", *fields} if set(default) <= set(section) else ()
    if left and section.name != default.name:
        logger.info("config.space is now %r; without %s", section.name, ", ".join(sorted(left)))
        section = {field: value for field, value in section.items() if field not in left}
    with config.unlocked():
        config.space = ConfigDict({"name": section["name"], **fields, **section})
    return config


def all_fields(space_name: str) -> ConfigDict:
    """Return a config with every field, for the space of this name.

    Raises: ValueError if the name is no text, or there is no such space.
    """
    if not isinstance(space_name, str):
        kind = type(space_name).__name__
        raise ValueError(f"config.space.name is a {kind}; it must be a name, such as 'cell'")
    complete = defaults.default()
    complete.space = ConfigDict({"name": space_name, **spaces.defaults(space_name)})
    return complete


def assemble(
    config: ConfigDict, data: Data, workdir: str | Path, space: Space | None = None
) -> Run:
    """Make the run of a checked config, from images that were read, and perhaps a space.

    Raises: ValueError if the strategy or the variant cannot be made, or the table does not fit.
    """
    workdir = file_paths.local(workdir, "--workdir")
    space, sweep = space or spaces.make(**config.space.to_dict()), config.sweep
    table = tabular.load(config.table, space) if config.table else None
    if table:
        table.check_data(config.data.name)
    network, timed = network_options(config), sweep.latency.to_dict()
    constraints = Constraints(
        space,
        filters=config.supernet.filters,
        images=params_flops.image_options(data),
        limits=sweep.constraints.to_dict(),
        listed=timed.pop("table"),
        timed={**timed, "dtype": network.dtype},
        directory=workdir,
        table=table if sweep.score == "table" else None,
    )
    variant = _training_variant(config, space, constraints.latencies)
    run = Run(config, space, data, network, constraints, None, variant, table, workdir)
    return dataclasses.replace(run, strategy=_strategy(run))


def _variants(config):
    return variants.resolve(config) if config.study.parts else {}


def load_data(section: ConfigDict) -> Data:
    """Read the images of a section `data`; errors as of `loading.load`."""
    fields = section.to_dict()
    digits = fields.pop("digits")
    for name in ("data_dir", "image_size"):
        fields[name] = fields[name] or None
    return loading.load(**fields, **(digits if fields["name"] == "digits" else {}))


def _with_no_more_images_than_there_are(config, data):
    """Lower `sweep.num_images` to the validation images of a set of the user's own.

    A config file has the number of its own set, and such a set may be small.
    """
    most = data.num_images("valid")
    if data.origins is None or config.sweep.num_images <= most:
        return config
    config = config.copy_and_resolve_references()
    sweep = config.sweep
    sweep.batch_size = min(sweep.batch_size, most)
    sweep.num_images = most // sweep.batch_size * sweep.batch_size
    logger.info(
        "sweep.num_images is %d and sweep.batch_size %d: the validation split has %d images",
        *(sweep.num_images, sweep.batch_size, most),
    )
    return config


def _training_variant(config, space, latencies):
    """Make the training variant; check that it can be combined with other fields."""
    name, settings = config.supernet.variant, config.supernet
    made = variants_lib.of(settings, space, latencies=latencies)
    if made.wrap and config.sweep.bn != "batch":
        raise ValueError(
            f"config.sweep.bn={config.sweep.bn!r}, but supernet.variant={name!r} takes the "
            "statistics of the evaluated images: set sweep.bn='batch'"
        )
    if made.relaxation and (made.selection or made.wrap):
        raise ValueError(
            f"config.supernet.variant={name!r} has a relaxation and also a "
            f"{'selection' if made.selection else 'wrap'}, which do not go together: leave out one"
        )
    if made.selection and settings.sampler == "strategy":
        raise ValueError(
            f"config.supernet.sampler='strategy', but supernet.variant={name!r} tunes a population "
            "and draws nothing for it; choose another for one of the two"
        )
    return made


def _check_recipes(config):
    """Check the names and options of optimisers, losses and augmentations."""
    for name, train, _ in _trainings(config):
        with _prefixed(f"config.{name}."):
            optim.of(train)
            losses.named(train)
            augment.function(train.augment.fn)


def _check_stages(run):
    """Check what a later stage would refuse after hours of an earlier one."""
    supernet.check(run)
    evaluators.check(run)
    populations.check(run)
    run.constraints.check_counted()
    for name, train, split in _trainings(run.config):
        with _prefixed(f"config.{name}."):
            losses.class_weights(train, run.data, split)
            losses.check(train, run.data.num_classes)
            augment.check(train.augment.fn, run.data.image_shape)


def _trainings(config):
    """Yield the section, its `train` and the split that is trained on."""
    yield "supernet", config.supernet.train, "train"
    for name in retrain.PROTOCOLS:
        yield f"retrain.{name}", config.retrain[name].train, retrain.split_of(config, name)


def _check_of_study(config, run, num_devices):
    """Check that a variant of a study can be built, and has the study's architectures."""
    varied = assemble(config, run.data, run.workdir)
    space = varied.space
    space.from_str(space.repeated(run.space.to_str(run.space.all_on())))
    validation.sizes(config, space, run.data, num_devices, _shared_trainings(config))
    _check_stages(varied)


def _with_no_more_than_there_are(run):
    """Lower `sweep.num_candidates` to the number of architectures."""
    if not run.table:
        exhaustive.check_count(run.space)
    most = len(run.table.rows) if run.table else run.space.count()
    if run.config.sweep.num_candidates <= most:
        return run
    logger.info("sweep.num_candidates is %d: there are no more", most)
    config = run.config.copy_and_resolve_references()
    config.sweep.num_candidates = most
    return dataclasses.replace(run, config=config)


def network_options(config: ConfigDict) -> NetworkOptions:
    """Return the options that all networks of a config share, on this machine."""
    network, platform = config.network, distributed.platform()
    dtype = default_dtype(platform) if network.dtype == "auto" else network.dtype
    return NetworkOptions(
        dtype=jnp.dtype(dtype),
        execution=execution.resolve(config.supernet.execution, platform),
        bn_momentum=network.bn_momentum,
        bn_epsilon=network.bn_epsilon,
        relu_before_bn=network.relu_before_bn,
    )


def _strategy(run):
    """Make the strategy; check that it can draw masks if `supernet.sampler` says so."""
    config, sweep = run.config, run.config.sweep
    strategy = strategies.make(
        sweep.strategy,
        run.space,
        sweep.options,
        costs=run.constraints.costs,
        cost_names=run.constraints.names,
        proxy=functools.partial(training_free.of_any_number, run),
    )
    reason = strategy.on_host and "cannot be compiled"
    reason = reason or (sweep.strategy == "exhaustive" and "asks for all in order")
    if config.supernet.sampler == "strategy" and reason:
        raise ValueError(
            f"config.supernet.sampler='strategy', but sweep.strategy={sweep.strategy!r} {reason}; "
            "choose another for one of the two"
        )
    return strategies.compiled(strategy)


def _naming_the_variant(label):
    return _prefixed(f"config.study.variants, {label!r}: ")


@contextlib.contextmanager
def _prefixed(place):
    """Say in errors of the block which part of the config they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error
