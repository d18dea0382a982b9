"""Images that are not square: their networks, costs and latencies; sizes that are refused."""

import dataclasses
import functools
import json

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.config import validation
from nas_jax.costs import latency, params_flops, scaling, widths
from nas_jax.data import dataset
from nas_jax.standalone import retrain
from tests import images, trainings
from tests.configs import tiny
from tests.costs.test_params_flops import multiply_adds
from tests.spaces.test_cell import random_variables

CELL = {"num_cells": 2, "num_blocks": 1, "cells_per_stage": 1}
SPACES = {
    "cell": spaces.make("cell", **CELL, ops=("identity", "sep5x5", "maxpool")),
    "stem": spaces.make("cell", **CELL, ops=("identity", "conv7x7"), stem_stride=4),
    "nasbench201": spaces.make("nasbench201", num_cells=1, num_stages=2),
    "nasbench_macro": spaces.make("nasbench_macro", stages=(2,), head=3),
}
TEXTS = {  # "conv7x7" has two kernels in an order: its networks cannot be turned
    "cell": "0,1>sep5x5,maxpool",
    "stem": "0,1>identity",
    "nasbench201": "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|none~2|",
    "nasbench_macro": "12",
}
PLAIN = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity",))
SIZES = [(8, 16), (24, 8)]
NAMES = tuple("0123456789")  # of classes
FILTERS = {"num_classes": 10, "filters": 4}


def _some(space, seed=0):
    return jax.device_get(space.sample(jax.random.key(seed)))


def _traced(space, arch, size, channels=3):
    """Parameters' shapes, and multiply-adds of the products and convolutions of the network."""
    net = space.standalone(arch, **FILTERS)
    example = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), example)
    counted = multiply_adds(jax.make_jaxpr(net.apply)(variables, example).jaxpr)
    return variables["params"], counted


# -- networks -------------------------------------------------------------------------------------

BATCH = np.random.default_rng(0).normal(size=(4, 8, 16, 3)).astype(np.float32)


@functools.cache
def _networks(name):
    """(the supernet's variables, a stand-alone network's, its function, its logits)."""
    space, text = SPACES[name], TEXTS[name]
    whole = random_variables(space.supernet(**FILTERS), BATCH, space.all_on())
    own = {"params": space.subnet(whole["params"], text)}
    apply = jax.jit(space.standalone(text, **FILTERS).apply)
    return whole, own, apply, apply(own, BATCH)


@pytest.mark.parametrize("name", SPACES)
def test_the_supernet_is_the_standalone_network(name):
    space, (whole, _, _, logits) = SPACES[name], _networks(name)
    found = jax.jit(space.supernet(**FILTERS).apply)(whole, BATCH, space.from_str(TEXTS[name]))
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPACES)
def test_a_network_on_its_side_is_the_same(name):
    """Images and kernels with height and width exchanged: nothing takes the one for the other."""
    _, own, apply, logits = _networks(name)
    turned = jax.tree.map(lambda x: np.swapaxes(x, 0, 1) if x.ndim == 4 else x, own)
    assert np.abs(logits).max() > 0.1
    on_side = apply(turned, np.swapaxes(BATCH, 1, 2))
    np.testing.assert_allclose(logits, on_side, rtol=1e-4, atol=1e-4)


# -- costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SPACES)
def test_costs_are_those_of_the_network_that_is_built(name, size):
    space = SPACES[name]
    arch, options = _some(space, 1), {"filters": 4, "image_size": size}
    params, exact = _traced(space, arch, size)
    assert params_flops.of(space, arch, **options).flops == exact
    parts = params_flops.total(
        space,
        {key: own.flops for key, own in params_flops.per_option(space, **options).items()},
        arch,
    )
    assert parts == exact
    assert params_flops.of_network(space, params, size).flops == exact
    if name != "nasbench201":
        shapes = {p: x.shape for p, x in flax.traverse_util.flatten_dict(params).items()}
        own = widths.Widths(space, space.to_str(arch), shapes, image_size=size)
        assert own.cost(own.full) == exact


def test_a_number_is_a_square():
    space = SPACES["cell"]
    square, pair, listed = (
        params_flops.of(space, space.all_on(), image_size=s) for s in (8, (8, 8), [8, 8])
    )
    assert square == pair == listed


def test_a_network_is_scaled_to_its_images():
    """The budget is what F = 8 costs on images of 8x16 pixels and one channel."""
    space, text = PLAIN, "0>identity"
    size = {"image_size": (8, 16), "channels": 1}
    budget = params_flops.of(space, space.from_str(text), filters=8, **size)
    [found] = scaling.fit(space, text, max_flops=int(budget.flops), **size)
    assert (found.filters, found.params, found.flops) == (8, *budget)


def test_a_wider_image_takes_longer():
    """A thousandfold work, so that no noise hides it."""
    small, large = (
        latency.measure(PLAIN, "0>identity", filters=4, image_size=size, repeats=5).median
        for size in ((8, 8), (8, 8192))
    )
    assert large > small


# -- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """Config, space and data of a search on images of 8x16 pixels with one channel."""
    config = tiny.get_config()
    config.retrain.short.train.num_steps = 2
    config.sweep.latency.num_archs = 2
    config.space.num_cells = config.space.num_blocks = 1
    config.space.ops = ("identity", "sep3x3")
    sizes, pixels = (64, 16, 16), images.noise(96, 8, 16, 1)
    labels = np.arange(96, dtype=np.int32) % 10
    data = dataset.InMemory("oblong", NAMES, (8, 16, 1), (0.5,), (0.2,), sizes, -1, pixels, labels)
    return config, spaces.make(**config.space.to_dict()), data


@pytest.mark.system
def test_a_run_counts_every_pixel(tmp_path, run):
    """What a search may ask for, what it writes, and what a network that is trained has."""
    config, space, data = run
    text = "0,1>identity,sep3x3"
    arch = space.from_str(text)
    _, exact = _traced(space, arch, (8, 16), channels=1)
    assert params_flops.on_images(space, arch, 4, data).flops == exact
    made = trainings.run_of(config, space, data, tmp_path)
    costs = made.constraints.costs(space.from_strs([text]))
    assert costs["flops"] == [exact]
    assert json.loads((tmp_path / "latency.json").read_text())["image_size"] == [8, 16]
    retrain.train_one(made, "short", tmp_path, text, 4, 0)
    assert json.loads((tmp_path / "result.json").read_text())["flops"] == exact


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        dataclasses.replace(PLAIN, num_cells=3, cells_per_stage=1),
        spaces.make("nasbench_macro", stages=(1, 1), head=3),
        spaces.make("nasbench201", num_cells=1, num_stages=3),
    ],
)
@pytest.mark.parametrize("size", [(8, 5), (5, 8), 6])
def test_a_size_that_cannot_be_reduced_is_refused_everywhere(space, size):
    arch = _some(space)
    height, width = (size, size) if isinstance(size, int) else size
    message = f"images of {height}x{width} pixels .*multiples of 4.*data.image_size"
    for refused in (
        lambda: space.check_image_size(size),
        lambda: params_flops.of(space, arch, image_size=size),
        lambda: params_flops.per_option(space, image_size=size),
        lambda: latency.measure(space, arch, filters=4, image_size=size),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


@pytest.mark.parametrize("size", [0, -8, 8.0, "8", (8,), (8, 8, 3), (8, 0), None, True])
def test_what_is_no_size(size):
    space = SPACES["cell"]
    with pytest.raises(ValueError, match=r"image_size=.* must be a whole number above 0, or"):
        params_flops.of(space, space.all_on(), image_size=size)


def test_stored_images_that_do_not_fit_are_named():
    """As they are where data.image_size is 0, which only the data set itself shows."""
    config = tiny.get_config()
    space = spaces.make(**config.space.to_dict())
    pixels, labels = images.noise(96, 8, 5, 1), np.zeros(96, np.int32)
    data = dataset.InMemory(
        "odd", NAMES, (8, 5, 1), (0.5,), (0.2,), (64, 16, 16), -1, pixels, labels
    )
    with pytest.raises(ValueError, match=r"images of 8x5 pixels .*multiples of 2.*data.image_size"):
        validation.sizes(config, space, data, 1)


def test_latencies_of_other_images_are_not_read(tmp_path):
    """A file of an earlier version does not say its size; it timed squares of the height."""
    space, path = PLAIN, tmp_path / "latency.json"
    given = {"num_archs": 2, "batch_size": 1, "filters": 1, "num_classes": 2, "channels": 1}
    latency.per_option(space, path, image_size=(2, 4), **given)
    old = json.loads(path.read_text())
    del old["image_size"]
    path.write_text(json.dumps(old))
    latency.per_option(space, path, image_size=2, **given)
    with pytest.raises(ValueError, match=r"latency.json has latencies on images of 2x2.*not 2x4"):
        latency.per_option(space, path, image_size=(2, 4), **given)
