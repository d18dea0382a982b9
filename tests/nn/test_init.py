"""How initial variables are distributed."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas_jax
from nas_jax import spaces
from nas_jax.nn.init import StandaloneInit, init

pytestmark = pytest.mark.system


def flat(tree):
    return flax.traverse_util.flatten_dict(tree)


def test_supernet_init_is_distributed_as_net_init():
    space = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "conv7x7"))
    net = space.supernet(num_classes=10, filters=64)
    images = jnp.zeros((2, 8, 8, 3))
    args = jax.random.key(0), images, space.all_on()
    ours = flat(init(args[0], net, *args[1:])["params"])
    theirs = flat(jax.jit(net.init)(*args)["params"])
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        assert leaf.shape == theirs[path].shape
        if path[-1] in ("scale", "offset", "bias"):
            assert np.all(leaf == (path[-1] == "scale"))
        elif leaf.size >= 4096:  # the standard deviation is known to 1 / sqrt(2 size) = 1.1 %
            assert abs(np.std(leaf) / np.std(theirs[path]) - 1) < 0.07
            assert abs(np.mean(leaf)) < 5 * np.std(leaf) / np.sqrt(leaf.size)
    # He: sqrt(2 / fan-in) for 7 taps of 64 channels, and for a concat of 2 x 64 channels.
    op = ours["cell0", "block0_ops", "1", "unit0", "kernel"]
    assert abs(np.std(op) / np.sqrt(2 / 448) - 1) < 0.05
    concat = [ours["cell0", "block0_inputs", str(j), "kernel"] for j in range(2)]
    assert abs(np.std(concat) / np.sqrt(2 / 128) - 1) < 0.05
    # No two kernels share their draw.
    assert abs(np.corrcoef(np.ravel(concat[0]), np.ravel(concat[1]))[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cell", {"num_cells": 1, "num_blocks": 2, "ops": ("identity", "sep3x3", "conv7x7")}),
        ("nasbench201", {"num_cells": 1, "num_stages": 2}),
        ("nasbench_macro", {"stages": (1, 2), "head": 3}),
    ],
)
def test_networks_in_their_supernet_begin_as_alone_to_the_bit(name, fields):
    space = spaces.make(name, **fields)
    options = {"num_classes": 10, "filters": 4, "bn": "recorded"}
    images = np.zeros((1, 8, 8, 3), np.float32)
    draw = StandaloneInit(space.supernet(**options), images)
    for seed in range(2):
        arch = space.sample(jax.random.key(seed))
        within = draw(jax.random.key(7), arch)
        alone = init(jax.random.key(7), space.standalone(arch, **options), images)
        for collection, expected in alone.items():
            ours = flat(space.subnet(within[collection], arch))
            assert ours.keys() == flat(expected).keys()
            for path, leaf in flat(expected).items():
                np.testing.assert_array_equal(ours[path], leaf)
        used = flat(space.subnet(within["params"], arch))
        rest = [leaf for path, leaf in flat(within["params"]).items() if path not in used]
        assert any(leaf.ndim > 1 for leaf in rest)
        assert not any(leaf.any() for leaf in rest if leaf.ndim > 1)


def test_it_is_in_the_public_api():
    assert nas_jax.masked.init is nas_jax.supernet.init is init
