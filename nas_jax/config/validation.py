"""Checks of a config, before anything compiles: each error names the field and the way out."""

import functools
from collections.abc import Collection, Iterable
from typing import Any

from ml_collections import ConfigDict

from nas_jax import naming, plugins
from nas_jax.config import defaults, ensembles, field_names
from nas_jax.config.rules import FREE
from nas_jax.config.variants import flatten

_LARGEST = {int: 2**31 - 1, float: 1e30}  # of a field whose rule has no `most`
_ON_A_CPU = " (on a CPU JAX_NUM_CPU_DEVICES says how many devices there are)"
MIN_TIMED = 20  # architectures to estimate latencies from
_TRAININGS = ("supernet.train", "retrain.short.train", "retrain.final.train")


def config(given: ConfigDict, complete: ConfigDict) -> None:
    """Check the fields of a config, and that they fit each other.

    Args:
      given: the config.
      complete: a config with every field, for the types.

    Raises: ValueError that names the field, its value, and what is allowed.
    """
    fields = dict(flatten(given))
    allowed = dict(flatten(complete))
    for name in fields:
        field_names.check(name, allowed)
    for name in allowed:
        if name not in fields:
            raise ValueError(f"config.{name} is missing; start from nas_jax.config.default()")
    for name, value in fields.items():
        rule = defaults.RULES.get(name, FREE)
        _check_type(name, value, allowed[name], rule)
        _check_value(name, value, rule)
    for name in _TRAININGS:
        _check_training(name, given)
    for protocol in ("short", "final"):
        _check_widths(protocol, given)
    _check_choices(given)


def _check_widths(protocol, given):
    settings = given.retrain[protocol]
    if not settings.filters:
        raise ValueError(
            f"config.retrain.{protocol}.filters is empty: name one or more, such as (16,); without "
            "networks set its groups to 0"
        )
    tunes = settings.groups.tuned or settings.groups.narrowed
    if len(settings.filters) > 1 and tunes:
        raise ValueError(
            f"config.retrain.{protocol}.filters={settings.filters}: widths are tuned for one; or "
            "set groups.tuned and groups.narrowed to 0"
        )
    if tunes and given.retrain.widths.resource == "latency_ms":
        _check_timed(protocol, given)


def _check_timed(protocol, given):
    """Check that there are latencies of the networks whose widths are tuned."""
    filters, latency = given.retrain[protocol].filters, given.sweep.latency
    if not latency.num_archs and not latency.table:
        raise ValueError(
            "config.retrain.widths.resource='latency_ms' needs sweep.latency.num_archs, the "
            "architectures to time: 100 or so; or sweep.latency.table"
        )
    if tuple(filters) != (given.supernet.filters,):
        raise ValueError(
            f"config.retrain.{protocol}.filters={tuple(filters)}, but latencies are those of "
            f"networks with supernet.filters={given.supernet.filters}: set both alike, or "
            "retrain.widths.resource='flops'"
        )


def _check_type(name, value, default, rule):
    """Check that a value is of the type of its default; an int may stand for a float.

    A number may also not be too large, since later checks of it would take for ever.
    """
    if default is None:  # of a user's own space
        return
    kinds = {float: (int, float), tuple: (tuple, list)}.get(type(default), type(default))
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        kind = type(default).__name__
        raise ValueError(f"config.{name}={value!r} must be of type {kind}, as {default!r} is")
    if rule.items and not all(type(item) is rule.items for item in value):
        raise ValueError(f"config.{name}={value!r} must hold {rule.items.__name__} alone")
    if isinstance(value, int | float):
        most = _LARGEST.get(type(default)) if rule.most is None else rule.most
        if most is not None and not abs(value) <= most:  # NaN, too
            raise ValueError(f"config.{name}={value} must be a number of at most {most}")


def _check_value(name, value, rule):
    for item in value if isinstance(value, tuple | list) else (value,):
        if rule.allows and not rule.allows(item):
            raise ValueError(f"config.{name}={value} must be {rule.must_be}")
        if rule.kind:
            plugins.check(f"config.{name}", item, rule.names, rule.kind)
        elif rule.names:
            naming.check(f"config.{name}", item, rule.names)


def _section(config, name):
    return functools.reduce(lambda section, part: section[part], name.split("."), config)


def _check_training(name, given):
    train = _section(given, name)
    if not train.num_steps and not train.num_epochs:
        raise ValueError(f"config.{name}: give num_steps or num_epochs; both are 0")
    if train.batch_size % train.ghost_batch_size:
        raise ValueError(
            f"config.{name}.batch_size={train.batch_size} is not a multiple of ghost_batch_size="
            f"{train.ghost_batch_size}"
        )
    if train.checkpoint_every % train.log_every:
        raise ValueError(
            f"config.{name}.checkpoint_every={train.checkpoint_every} is not a multiple of "
            f"log_every={train.log_every} (a resumed run must log the same means)"
        )
    if "balanced" in train.class_weights and len(train.class_weights) > 1:
        raise ValueError(
            f"config.{name}.class_weights={tuple(train.class_weights)} must be positive numbers, "
            "or 'balanced' alone"
        )


def _check_choices(given):
    sweep, train = given.sweep, given.supernet.train
    if sweep.score == "table" and not given.table:
        raise ValueError("config.sweep.score='table' needs config.table, a file of accuracies")
    if sweep.score == "kl" and sweep.bn != "batch":
        raise ValueError(
            f"config.sweep.bn={sweep.bn!r}, but sweep.score='kl' takes the statistics of the "
            "evaluated images: set sweep.bn='batch', or another sweep.score"
        )
    if sweep.bn != "batch" and sweep.calibration_images % sweep.batch_size:
        raise ValueError(
            f"config.sweep.calibration_images={sweep.calibration_images} is not a multiple of "
            f"sweep.batch_size={sweep.batch_size}"
        )
    if sweep.num_checkpoints > train.keep_checkpoints:
        raise ValueError(
            f"config.sweep.num_checkpoints={sweep.num_checkpoints} is more than "
            f"supernet.train.keep_checkpoints={train.keep_checkpoints}"
        )
    if train.l2_unused and given.supernet.per_use_gradients:
        raise ValueError(
            "config.supernet.train.l2_unused and supernet.per_use_gradients exclude each other: L2 "
            "on what is not used would grow as it is used less"
        )
    ensembles.check(sweep)
    _check_strategy(sweep, given.supernet)
    _check_same_images(given.supernet)


def _check_same_images(supernet):
    archs, train = supernet.archs_per_step, supernet.train
    groups = train.batch_size // train.ghost_batch_size
    if supernet.sampler == "shared_path" and archs > 1:
        raise ValueError(
            f"config.supernet.archs_per_step={archs}, but sampler='shared_path' draws one "
            "architecture for a step, so all would be the same; take sampler='single_path', or 0"
        )
    if supernet.sampler == "sandwich" and archs and archs < 3:
        raise ValueError(
            f"config.supernet.archs_per_step={archs}, but sampler='sandwich' needs 3 or more: the "
            "largest, the smallest and others; or 0"
        )
    if supernet.sampler == "sandwich" and not archs and groups < 3:
        raise ValueError(
            f"config.supernet.sampler='sandwich' needs 3 ghost batches a step, not {groups}; "
            "lower supernet.train.ghost_batch_size, or set supernet.archs_per_step"
        )
    if supernet.distillation and not (archs and supernet.sampler == "sandwich"):
        raise ValueError(
            "config.supernet.distillation needs the largest architecture on the same images as the "
            f"others: sampler='sandwich' and archs_per_step=4, not {supernet.sampler!r} and {archs}"
        )
    if archs and supernet.per_use_gradients:
        raise ValueError(
            f"config.supernet.archs_per_step={archs} adds up gradients, per_use_gradients takes "
            "means of them: set one of the two to its default"
        )


def _check_strategy(sweep, supernet):
    num_archs = sweep.latency.num_archs
    if sweep.latency.table and num_archs:
        raise ValueError(
            f"config.sweep.latency.table={sweep.latency.table!r} gives latencies, so "
            f"sweep.latency.num_archs={num_archs} must be 0"
        )
    if sweep.constraints.max_latency and not num_archs and not sweep.latency.table:
        raise ValueError(
            f"config.sweep.constraints.max_latency={sweep.constraints.max_latency} needs "
            "sweep.latency.num_archs, the architectures to time: 100 or so; or sweep.latency.table"
        )
    if 0 < num_archs < MIN_TIMED:
        raise ValueError(
            f"config.sweep.latency.num_archs={num_archs} must be 0 or {MIN_TIMED} or more, to tell "
            "options apart"
        )
    if sweep.inherit and sweep.score != "trained":
        raise ValueError(f"config.sweep.inherit is for sweep.score='trained', not {sweep.score!r}")
    is_fixed = sweep.score == "trained" or supernet.sampler == "strategy"
    if is_fixed and sweep.bn != "batch":
        raise ValueError(
            f"config.sweep.bn={sweep.bn!r}, but sweep.score='trained' and supernet.sampler="
            "'strategy' take the statistics of the evaluated images: set sweep.bn='batch'"
        )
    if supernet.sampler == "strategy" and sweep.score != "accuracy":
        raise ValueError(
            "config.supernet.sampler='strategy' tells the strategy accuracies, but sweep.score="
            f"{sweep.score!r}; it must be 'accuracy'"
        )


def sizes(
    given: ConfigDict,
    space: Any,
    data: Any,
    num_devices: int,
    shared: Collection[str] = _TRAININGS,
) -> None:
    """Check that data, batches, devices and the network's reductions fit each other.

    Args:
      given: the config.
      space: its search space.
      data: its images.
      num_devices: of all processes.
      shared: the trainings, of `_TRAININGS`, whose batches all devices share.

    Raises: ValueError that names the field, both numbers, and the way out.
    """
    space.check_image_size(data.image_shape[:2])
    splits = ("train", "train", "train+valid")
    for name, split in zip(_TRAININGS, splits):
        devices = num_devices if name in shared else 1
        train = _section(given, name)
        _check_batch(name, train, split, data.num_images(split), devices)
    _check_sweep(given.sweep, data.num_images("valid"), num_devices)
    _check_training_images(given.sweep, data.num_images("train"))


def divided(given: ConfigDict, shared: Iterable[str]) -> list[int]:
    """List the numbers that must divide among the devices; `shared` as of `sizes`."""
    trains = (_section(given, name) for name in shared)
    groups = [train.batch_size // train.ghost_batch_size for train in trains]
    return [given.sweep.candidates_per_batch, *groups]


def _check_training_images(sweep, num_train):
    if sweep.score == "kl" and sweep.kl.num_images > num_train:
        raise ValueError(
            f"config.sweep.kl.num_images={sweep.kl.num_images}, but the training split "
            f"(data.train) has {num_train}"
        )
    names = [sweep.score, *(name for name, _ in sweep.ensemble.members)]
    if "train_loss" in names and sweep.num_images > num_train:
        raise ValueError(
            f"config.sweep.num_images={sweep.num_images}, but 'train_loss' reads the training "
            f"split (data.train), which has {num_train}"
        )
    if sweep.bn != "batch" and sweep.calibration_images > num_train:
        raise ValueError(
            f"config.sweep.calibration_images={sweep.calibration_images}, but the training split "
            f"(data.train) has {num_train}"
        )


def _check_batch(name, train, split, num_images, num_devices):
    if train.batch_size > num_images:
        raise ValueError(
            f"config.{name}.batch_size={train.batch_size} is more than the {num_images} images of "
            f"{split}"
        )
    groups = train.batch_size // train.ghost_batch_size
    if groups % num_devices:
        raise ValueError(
            f"config.{name}: {groups} ghost batches ({train.batch_size} / {train.ghost_batch_size})"
            f" do not divide among {num_devices} devices; choose batch_size as a multiple of "
            f"{train.ghost_batch_size * num_devices}{_ON_A_CPU}"
        )


def _check_sweep(sweep, num_valid, num_devices):
    if sweep.num_images > num_valid:
        raise ValueError(
            f"config.sweep.num_images={sweep.num_images}, but the validation split (data.valid) "
            f"has {num_valid}"
        )
    if sweep.num_images % sweep.batch_size:
        raise ValueError(
            f"config.sweep.num_images={sweep.num_images} is not a multiple of sweep.batch_size="
            f"{sweep.batch_size}; padding would change batch statistics"
        )
    if sweep.candidates_per_batch % num_devices:
        raise ValueError(
            f"config.sweep.candidates_per_batch={sweep.candidates_per_batch} does not divide among "
            f"{num_devices} devices{_ON_A_CPU}"
        )
