"""Gradients that compute again what they need keep less, and are equal."""

import functools

import jax
import numpy as np
import pytest

from nas_jax import build, spaces
from nas_jax import config as config_lib
from nas_jax.nn import execution
from nas_jax.spaces.params import params_shape
from nas_jax.training import supernet
from tests.images import noise

FIELDS = {
    "space.num_cells": 1,
    "space.num_blocks": 2,
    "supernet.execution": "masked",
    "supernet.filters": 8,
    "supernet.train.batch_size": 32,
    "supernet.train.ghost_batch_size": 16,
    "supernet.train.num_steps": 4,
    "retrain.short.filters": (8,),
}


@functools.cache
def data():
    return build.load_data(config_lib.load("digits").data)


@functools.cache
def stepped(remat):
    """The parameters after a step."""
    config = config_lib.load("digits")
    config.update_from_flattened_dict({**FIELDS, "supernet.remat": remat})
    run = build.build_run(config, "unused", data=data(), num_devices=1)
    training = supernet.training(run, jax.devices()[:1])
    layout = training._layout
    state, root = layout.place(training._first_state(0, None, None), 0)
    batch = next(layout.batches(run.data, "train", 32, 0, 0))
    state, _ = training._step(state, batch, root, layout.hyper(training._schedule(1.0).at(0)))
    return jax.device_get(state.params)


@pytest.mark.system
@pytest.mark.parametrize("remat", ["norms", "ops"])
def test_a_step_is_the_same(remat):
    ours, theirs = stepped(remat), stepped("none")
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, theirs)


def kept(remat):
    """Bytes that the forward pass keeps for the gradient: what the pullback holds."""
    space = spaces.make("cell", num_cells=1, num_blocks=2)
    net, images = space.supernet(num_classes=10, filters=8), noise(4, 8, 8, 3)
    params = params_shape(net, (8, 8, 3))

    def pullback(params):
        with execution.rematerialising(remat):
            return jax.vjp(lambda p: net.apply({"params": p}, images, space.all_on()), params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(pullback, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def test_less_is_kept():
    none, norms, ops = map(kept, execution.REMAT)
    assert ops < none / 2
    assert ops < norms < 0.8 * none


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="remat='all'"), execution.rematerialising("all"):
        pass
