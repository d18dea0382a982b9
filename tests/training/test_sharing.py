"""Trainings share a compiled step if, and only if, their steps are equal. Nothing is compiled."""

import dataclasses

import jax
import pytest

from nas_jax.training import supernet
from tests import trainings
from tests.configs import tiny


def _step(tmp_path, devices=1, of_data=None, **fields):
    """The compiled step of a training that is built anew, from the config on."""
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    config, space, data = trainings.built_with(tiny.get_config(), trainings.SMALL | fields)
    data = dataclasses.replace(data, **of_data or {})
    run = trainings.run_of(config, space, data, tmp_path)
    return supernet.training(run, jax.devices()[:devices])._step


@pytest.mark.parametrize("variant", ["none", "smash", "pbt", "darts"])
def test_equal_trainings_share_the_step(tmp_path, variant):
    """Whatever is an input of the step, or is no part of it, may differ."""
    first = _step(tmp_path, supernet__variant=variant)
    others = {"supernet__train__base_lr": 0.1, "supernet__train__num_steps": 7, "seed": 3}
    others |= {
        "supernet__path_dropout__r": 0.3,
        "supernet__train__l2": 0.0,
        "sweep__num_images": 64,
    }
    assert _step(tmp_path / "other", supernet__variant=variant, **others) is first


@pytest.mark.parametrize(
    "fields",
    [
        {"space__ops": ("identity", "sep5x5")},
        {"space__num_cells": 2},
        {"supernet__filters": 8},
        {"supernet__execution": "masked"},
        {"supernet__sampler": "fair"},
        {"supernet__path_dropout__rescale": True},
        {"supernet__archs_per_step": 4},
        {"supernet__per_use_gradients": True},
        {"supernet__variant": "morphnet"},
        {"supernet__train__ghost_batch_size": 2},
        {"supernet__train__l2_norm_params": True},
        {"supernet__train__l2_unused": True},
        {"supernet__train__nesterov": False},
        {"supernet__train__clip_norm": 1.0},
        {"supernet__train__augment__flip": True},
        {"network__bn_epsilon": 1e-5},
        {"network__relu_before_bn": True},
        {"of_data": {"mean": (0.5, 0.5, 0.5)}},
        {"devices": 2},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_trainings_that_differ_do_not(tmp_path, fields):
    assert _step(tmp_path, **fields) is not _step(tmp_path)


def test_populations_of_other_sizes_on_one_device_share_no_shapes(tmp_path):
    """The function is shared; JAX compiles it for each number of members."""
    few, many = (
        _step(tmp_path, supernet__variant="pbt", supernet__variant_options=(("population", n),))
        for n in (2, 4)
    )
    assert few is many
