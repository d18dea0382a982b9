"""The cell space's networks: shapes, equality, running statistics. What they compute: test_cell."""

import dataclasses
import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from tests.spaces.test_cell import random_variables

pytestmark = pytest.mark.system

SPACE = spaces.make(
    "cell",
    num_cells=2,
    num_blocks=2,
    cells_per_stage=1,
    ops=("identity", "sep3x3", "conv7x7", "maxpool", "avgpool"),
)
SIZE = {"num_classes": 3, "filters": 4}
NET = SPACE.supernet(**SIZE)
IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
ARCHS = ["0,1>sep3x3,conv7x7|1,2>conv7x7,avgpool", "1>sep3x3,maxpool|0,1>identity,sep3x3"]


@pytest.mark.parametrize(
    ("stem_stride", "cells_per_stage", "stem", "sizes"),
    [
        (1, 1, 32, [32, 16, 8]),
        (1, 2, 32, [32, 32, 16]),
        (2, 1, 16, [16, 8, 4]),
        (2, 2, 16, [16, 16, 8]),
        (4, 1, 16, [8, 4, 2]),  # the convolution halves, a pooling halves again
        (4, 2, 16, [8, 8, 4]),
        (1, 3, 32, [32, 32, 32]),
    ],
)
def test_shapes(stem_stride, cells_per_stage, stem, sizes):
    space = spaces.make(
        "cell",
        num_cells=3,
        num_blocks=1,
        cells_per_stage=cells_per_stage,
        stem_stride=stem_stride,
        ops=("identity", "sep3x3"),
    )
    net = space.supernet(**SIZE)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(net.init, jax.random.key(0), images, space.all_on())
    run = functools.partial(net.apply, capture_intermediates=True)
    logits, seen = jax.eval_shape(run, variables, images, space.all_on())
    assert logits.shape == (2, 3)
    outputs = {name: seen["intermediates"][name]["__call__"][0] for name in variables["params"]}
    assert outputs["stem1"].shape == outputs["stem2"].shape == (1, 2, stem, stem, 4)
    for i, size in enumerate(sizes):
        # Both inputs and the block, 4 channels each and twice as many after each reduction.
        parts = [part.shape for part, moments in outputs[f"cell{i}"]]
        assert parts == [(1, 2, size, size, 4 * (sizes[0] // size))] * 3
    assert outputs["final"].shape == (1, 2, sizes[-1], sizes[-1], 4 * (sizes[0] // sizes[-1]))


def test_networks_are_hashable():
    one, same, other = (SPACE.standalone(text, **SIZE) for text in (*[ARCHS[0]] * 2, ARCHS[1]))
    assert hash(one) == hash(same)
    assert one == same
    assert one != other
    assert one == SPACE.standalone(SPACE.from_str(ARCHS[0]), **SIZE)
    assert hash(NET) == hash(SPACE.supernet(**SIZE))


def test_standalone_wants_an_architecture_of_the_space():
    with pytest.raises(ValueError, match="has 1 blocks, the space has 2"):
        SPACE.standalone("0>identity", **SIZE)


def test_masked_supernet_keeps_running_statistics():
    """Of the ops too: they are updated, and read again without a mutable collection."""
    space = dataclasses.replace(SPACE, num_cells=1)
    net = space.supernet(**SIZE, bn="running")
    variables = random_variables(net, IMAGES, space.all_on())
    variables["batch_stats"] = jax.tree.map(np.zeros_like, variables["batch_stats"])
    apply = jax.jit(functools.partial(net.apply, mutable=["batch_stats"]))
    _, updated = apply(variables, IMAGES, space.all_on())
    norms = flax.traverse_util.flatten_dict(updated["batch_stats"], sep="/")
    moved = {name: bool(np.any(value != 0)) for name, value in norms.items() if "mean" in name}
    assert any("_ops/" in name for name in moved)
    assert all(moved.values()), [name for name, value in moved.items() if not value]
