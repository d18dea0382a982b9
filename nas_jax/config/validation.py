"""Checks of a config before anything compiles: each error names the field and the way out."""

import difflib
import functools
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from nas_jax import naming
from nas_jax.config.variants import flatten

_AT_LEAST = {  # the last part of a field's name -> its least value
    "batch_size": 1,
    "ghost_batch_size": 2,  # one image has no batch statistics
    "candidates_per_batch": 1,
    "eval_batch_size": 1,
    "filters": 1,
    "num_candidates": 1,
    "num_images": 1,
    "num_checkpoints": 1,
    "calibration_images": 1,
    "num_references": 1,
    "num_seeds": 0,
    "seed": 0,
    "strategy_every": 1,
    "num_archs": 0,
    "max_params": 0,
    "max_flops": 0,
    "max_latency": 0,
    "pareto": 0,
    "tuned": 0,
    "narrowed": 0,
    "strength": 0,
    "threshold": 0,
    "num_steps": 0,
    "num_epochs": 0,
    "log_every": 1,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
    "restarts": 0,
    "course": 1,
    "top_pool": 0,
    "image_size": 0,
    "base_lr": 0,
    "l2": 0,
    "clip_norm": 0,
    "crop_padding": 0,
    "cutout": 0,
    "clutter": 0,
    "noise": 0,
    "random": 0,
    "stratified": 0,
    "top": 0,
    "small": 0,
    "all_on": 0,
}
_AT_MOST = {"image_size": 4096, "clutter": 100, "num_cells": 1000, "num_blocks": 16}
_LARGEST = {int: 2**31 - 1, float: 1e30}  # of the others
_LONG = ("max_params", "max_flops")  # which may be larger
_ITEMS = {"filters": int, "parts": str, "ops": str, "paper_columns": str}  # of tuples
_SHARES = ("r", "warmup_share", "momentum", "label_smoothing", "small_quantile", "bn_momentum")
_NAMES = {
    "supernet.sampler": ("path_dropout", "single_path", "fair", "sandwich", "strategy"),
    "sweep.score": ("accuracy", "kl", "table", "trained"),
    "sweep.bn": ("batch", "recalibrate", "running"),
    "supernet.execution": ("auto", "masked", "switch", "dispatch"),
    "supernet.path_dropout.schedule": ("linear", "constant", "none"),
    "supernet.train.schedule": ("cosine", "constant", "step"),
    "retrain.short.train.schedule": ("cosine", "constant", "step"),
    "retrain.final.train.schedule": ("cosine", "constant", "step"),
    "retrain.widths.resource": ("flops", "params"),
    "network.dtype": ("auto", "float32", "bfloat16", "float16"),
}
MIN_TIMED = 20  # architectures
_TRAININGS = ("supernet.train", "retrain.short.train", "retrain.final.train")


def config(given: ConfigDict, known: ConfigDict) -> None:
    """Check what a config alone shows, against `known`, which has every field.

    Raises: ValueError that names the field, its value, and what is allowed.
    """
    fields = dict(flatten(given))
    allowed = dict(flatten(known))
    for name in fields:
        field_name(name, allowed)
    for name in allowed:
        if name not in fields:
            raise ValueError(f"config.{name} is missing; start from nas_jax.config.default()")
    for name, value in fields.items():
        _check_type(name, value, allowed[name])
        _check_value(name, value)
    for name in _TRAININGS:
        _check_training(name, given)
    for protocol in ("short", "final"):
        _check_widths(protocol, given.retrain[protocol])
    _check_choices(given)


def _check_widths(protocol, settings):
    if not settings.filters:
        raise ValueError(
            f"config.retrain.{protocol}.filters is empty: name one or more, such as (16,); without "
            "networks set its groups to 0"
        )
    if len(settings.filters) > 1 and (settings.groups.tuned or settings.groups.narrowed):
        raise ValueError(
            f"config.retrain.{protocol}.filters={settings.filters}: widths are tuned for one; or "
            "set groups.tuned and groups.narrowed to 0"
        )


def field_name(name: str, allowed: Collection[str]) -> None:
    """Check that `name`, such as "data.image_size", is one of the fields `allowed`.

    Raises: ValueError that names the nearest field, or what a section has.
    """
    if name in allowed:
        return
    below = [field.removeprefix(f"{name}.") for field in allowed if field.startswith(f"{name}.")]
    if below:
        parts = ", ".join(dict.fromkeys(field.partition(".")[0] for field in below))
        raise ValueError(
            f"config.{name} is a section, which has {parts}: set a field of it, as config.{name}."
            f"{below[0]}=<value>"
        )
    raise ValueError(f"config.{name} is no field; nearest: config.{_nearest(name, allowed)}")


def _nearest(name, allowed):
    """The field that is probably meant: first of all one whose last part has all the words."""
    last = name.rpartition(".")[2]
    words = set(last.split("_"))
    lasts = {field: field.rpartition(".")[2] for field in allowed}
    among = [field for field in allowed if words <= set(lasts[field].split("_"))] or allowed
    if near := difflib.get_close_matches(name, among, 1, 0.5):
        return near[0]
    by_last = {lasts[field]: field for field in among}
    return by_last[naming.nearest(last, by_last)]


def _check_type(name, value, default):
    """A value is of the type of its default, or an int where that is a float; and not beyond all
    measure, which would take for ever to find out.
    """
    kinds = {float: (int, float), tuple: (tuple, list)}.get(type(default), type(default))
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        kind = type(default).__name__
        raise ValueError(f"config.{name}={value!r} must be of type {kind}, as {default!r} is")
    last = name.rpartition(".")[2]
    if (
        isinstance(default, tuple)
        and last in _ITEMS
        and not all(type(item) is _ITEMS[last] for item in value)
    ):
        raise ValueError(f"config.{name}={value!r} must hold {_ITEMS[last].__name__} alone")
    if isinstance(value, int | float) and last not in _LONG:
        most = _AT_MOST.get(last, _LARGEST.get(type(default)))
        if most is not None and not abs(value) <= most:  # NaN, too
            raise ValueError(f"config.{name}={value} must be a number of at most {most}")


def _check_value(name, value):
    last = name.rpartition(".")[2]
    for item in value if isinstance(value, tuple | list) else (value,):
        if last in _AT_LEAST and item < _AT_LEAST[last]:
            raise ValueError(f"config.{name}={value} must be {_AT_LEAST[last]} or more")
    if last in _SHARES and not 0 <= value < 1:
        raise ValueError(f"config.{name}={value} must be at least 0 and below 1")
    if last == "bn_epsilon" and value <= 0:
        raise ValueError(f"config.{name}={value} must be above 0")
    if last in ("bucket_width", "share") and not 0 < value <= 1:
        raise ValueError(f"config.{name}={value} must be above 0 and at most 1")
    if name in _NAMES:
        naming.check(f"config.{name}", value, _NAMES[name])


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


def _check_choices(given):
    sweep, train = given.sweep, given.supernet.train
    if sweep.score == "table" and not given.table:
        raise ValueError("config.sweep.score='table' needs config.table, a file of accuracies")
    if sweep.score == "kl" and sweep.bn != "batch":
        raise ValueError(
            f"config.sweep.bn={sweep.bn!r}, but sweep.score='kl' has the statistics of its images: "
            "'batch'"
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
    _check_strategy(sweep, given.supernet)
    groups = train.batch_size // train.ghost_batch_size
    if given.supernet.sampler == "sandwich" and groups < 3:
        raise ValueError(
            f"config.supernet.sampler='sandwich' needs 3 ghost batches a step, not {groups}; "
            "lower supernet.train.ghost_batch_size"
        )


def _check_strategy(sweep, supernet):
    num_archs = sweep.latency.num_archs
    if sweep.constraints.max_latency and not num_archs:
        raise ValueError(
            f"config.sweep.constraints.max_latency={sweep.constraints.max_latency} needs "
            "sweep.latency.num_archs, the architectures to time: 100 or so"
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
            "'strategy' score with the statistics of their images: 'batch'"
        )
    if supernet.sampler == "strategy" and sweep.score != "accuracy":
        raise ValueError(
            "config.supernet.sampler='strategy' tells the strategy accuracies, but sweep.score="
            f"{sweep.score!r}; it must be 'accuracy'"
        )


def sizes(given: ConfigDict, space: Any, data: Any, num_devices: int) -> None:
    """Check that data, batches, devices and the network's reductions fit each other.

    Raises: ValueError that names the field, both numbers, and the way out.
    """
    space.check_image_size(data.image_shape[:2])
    splits = ("train", "train", "train+valid")
    for name, split in zip(_TRAININGS, splits):
        _check_batch(name, _section(given, name), split, data.num_images(split), num_devices)
    _check_sweep(given.sweep, data.num_images("valid"), num_devices)
    _check_training_images(given.sweep, data.num_images("train"))


def _check_training_images(sweep, num_train):
    if sweep.score == "kl" and sweep.kl.num_images > num_train:
        raise ValueError(
            f"config.sweep.kl.num_images={sweep.kl.num_images}, but the training split "
            f"(data.train) has {num_train}"
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
            f"{train.ghost_batch_size * num_devices}"
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
            f"{num_devices} devices"
        )
