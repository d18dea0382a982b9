"""The cell space: a masked supernet is every network of the space, in value and in gradient.

Strings and choices: test_cell_space. Shapes, values, running statistics: test_cell_networks.
"""

import dataclasses
import functools
import itertools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import kernels, layers
from nas_jax.nn import masked as masked_lib

pytestmark = pytest.mark.system

OPS = ("identity", "sep3x3", "conv7x7", "maxpool", "avgpool")
SPACE = spaces.make("cell", num_cells=1, num_blocks=2, ops=OPS)
SIZE = {"num_classes": 3, "filters": 4}
NET = SPACE.supernet(**SIZE)
IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
ARCHS = [
    "0>identity|0>identity",
    "0,1>sep3x3,conv7x7|1,2>conv7x7,avgpool",
    SPACE.to_str(SPACE.all_on()),
]
# Two cells, of which the second halves the images.
TIED = spaces.make("cell", num_cells=2, num_blocks=1, cells_per_stage=1, ops=("identity", "sep3x3"))
UNTIED = dataclasses.replace(TIED, tied=False)
# One block, whose networks compile quickly.
BLOCK = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3", "conv7x7"))
BLOCKS = ["0>identity", "0,1>sep3x3,conv7x7", "1>sep3x3", "0,1>identity,sep3x3,conv7x7"]


def random_variables(net, *args):
    """All parameters at random, batch norm's scales and offsets too."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)


def loss_of(net):
    """(gradients, logits) of a random functional of the logits of any architecture."""

    def loss(params, *archs):
        logits = net.apply({"params": params}, IMAGES, *archs)
        return jnp.sum(logits * WEIGHTS), logits

    return jax.grad(loss, has_aux=True)


def flat(tree):
    return flax.traverse_util.flatten_dict(tree)


def assert_close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4 * max(1, np.abs(y).max()))


@pytest.fixture(scope="module")
def params():
    return random_variables(NET, IMAGES, SPACE.all_on())["params"]


@pytest.fixture(scope="module")
def traced():
    """How often the supernet below was traced, and with what."""
    return []


@pytest.fixture(scope="module")
def masked(params, traced):
    """From one architecture, masks [k], to (gradients, logits) of the supernet."""
    grads = loss_of(NET)

    @jax.jit
    def run(arch):
        traced.append(arch)
        return grads(params, arch)

    return run


@pytest.fixture(scope="module")
def block_params():
    return random_variables(BLOCK.supernet(**SIZE), IMAGES, BLOCK.all_on())["params"]


@pytest.fixture(scope="module")
def apply(block_params):
    """From images and masks to logits, compiled once per shape."""
    compiled = jax.jit(BLOCK.supernet(**SIZE).apply)
    return lambda images, arch: compiled({"params": block_params}, images, arch)


@pytest.fixture(scope="module")
def candidates():
    return BLOCK.from_strs(BLOCKS)


# -- masked = stand-alone -------------------------------------------------------------------------


def assert_same_as_alone(masked, params, space, text):
    """Logits and gradients, which are zero for what the architecture does not have."""
    weights = space.subnet(params, text)
    grads, logits = masked(space.from_str(text))
    own_grads, own_logits = jax.jit(loss_of(space.standalone(text, **SIZE)))(weights)
    assert_close(logits, own_logits)
    grads, own_grads = flat(grads), flat(own_grads)
    assert set(own_grads) == set(flat(weights)) <= set(grads)
    for path, gradient in grads.items():
        assert_close(gradient, own_grads.get(path, np.zeros_like(gradient)))


@pytest.mark.parametrize("text", ARCHS)
def test_masked_supernet_is_the_standalone_network(text, params, masked):
    assert_same_as_alone(masked, params, SPACE, text)


def test_an_untied_architecture_is_the_standalone_network_of_its_cells():
    text, net = "0>sep3x3/0,1>identity", UNTIED.supernet(**SIZE)
    params = random_variables(net, IMAGES, UNTIED.all_on())["params"]
    assert_same_as_alone(jax.jit(functools.partial(loss_of(net), params)), params, UNTIED, text)
    used = {part for path in flat(UNTIED.subnet(params, text)) for part in itertools.pairwise(path)}
    assert ("cell0_block0_ops", "1") in used  # sep3x3 of the first cell
    assert ("cell1_block0_ops", "1") not in used  # of the second cell it is the identity


def test_masked_supernet_is_the_standalone_network_with_running_statistics():
    """Here a constant that a dropped path lets through is seen; batch statistics take it away.

    Two cells share an architecture.
    """
    net = TIED.supernet(**SIZE, bn="running")
    variables = random_variables(net, IMAGES, TIED.all_on())
    variables["batch_stats"] = jax.tree.map(lambda x: 0.5 + np.abs(x), variables["batch_stats"])
    masked = jax.jit(net.apply)
    for text in ("0>identity", "1>sep3x3", "0,1>identity,sep3x3"):
        model = TIED.standalone(text, **SIZE, bn="running")
        own = {name: TIED.subnet(tree, text) for name, tree in variables.items()}
        logits = masked(variables, IMAGES, TIED.from_str(text))
        assert_close(logits, jax.jit(model.apply)(own, IMAGES))


CONCAT = masked_lib.MaskedConcat(5, range(3))


def with_moments(inputs):
    return [(x, kernels.moments(x)) for x in inputs]


@jax.jit
def concat_and_parts(variables, inputs, mask):
    """The module's output; of each input batch norm, ReLU, its rows of the 1x1 convolution."""
    parts = []
    for j, x in enumerate(inputs):
        own = variables["params"][str(j)]
        part = layers.BatchNorm().apply({"params": own["norm"]}, x)
        parts.append(jax.nn.relu(part) @ own["kernel"][0, 0])
    return CONCAT.apply(variables, with_moments(inputs), mask), parts


@pytest.mark.parametrize("on", [(0,), (2,), (0, 2), (0, 1, 2), ()])
def test_masked_concat_by_parts(on):
    """It is the sum of the parts that are on."""
    rng = np.random.default_rng(3)
    inputs = [rng.normal(size=(1, 2, 4, 4, c)).astype(np.float32) for c in (2, 3, 4)]
    variables = random_variables(CONCAT, jax.eval_shape(with_moments, inputs))
    mask = np.float32([[j in on for j in range(3)]])
    found, parts = concat_and_parts(variables, inputs, mask)
    assert_close(found, sum((parts[j] for j in on), np.zeros((1, 2, 4, 4, 5))))


def test_subnet_is_what_the_standalone_network_has(params):
    """The same names and shapes, in the parameters and in the running statistics."""
    net = SPACE.supernet(**SIZE, bn="running")
    shared = jax.eval_shape(net.init, jax.random.key(0), IMAGES, SPACE.all_on())
    for text in ARCHS:
        model = SPACE.standalone(text, **SIZE, bn="running")
        shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
        for collection in ("params", "batch_stats"):
            assert SPACE.subnet(shared[collection], text) == shapes[collection]
    assert SPACE.subnet(params, SPACE.all_on()).keys() == params.keys()


def test_one_trace_serves_all_architectures(masked, traced):
    off = jax.tree.map(np.zeros_like, SPACE.all_on())
    for arch in [*map(jax.jit(SPACE.sample), map(jax.random.key, range(3))), SPACE.all_on(), off]:
        masked(arch)
    assert len(traced) == 1


# -- dropped paths --------------------------------------------------------------------------------


def test_dropped_paths_get_no_gradient_and_no_use(masked, params):
    text = "1>identity,conv7x7|0,2>sep3x3"
    arch = SPACE.from_str(text)
    grads, usage = flat(masked(arch)[0]), flat(jax.jit(SPACE.usage)(params, arch))
    used = set(flat(SPACE.subnet(params, text)))
    assert all(usage[path] == 1 for path in used)
    for path in set(grads) - used:
        assert usage[path] == 0
        assert np.all(grads[path] == 0)
    assert any(np.any(grads[path] != 0) for path in used)
    # Input 0 and the separable convolutions of block 0; input 1 and the full ones of block 1.
    dropped = {path[:3] for path in set(grads) - used}
    assert dropped == {
        ("cell0", "block0_inputs", "0"),
        ("cell0", "block0_ops", "1"),
        ("cell0", "block1_inputs", "1"),
        ("cell0", "block1_ops", "2"),
    }


def test_paths_are_dropped_in_all_cells():
    params = random_variables(TIED.supernet(**SIZE), IMAGES, TIED.all_on())["params"]
    usage = jax.jit(TIED.usage)(params, TIED.from_str("1>identity"))
    dropped = {path[:3] for path, share in flat(usage).items() if share == 0}
    scopes = (("block0_inputs", "0"), ("block0_ops", "1"))
    assert dropped == {(cell, *scope) for cell in ("cell0", "cell1") for scope in scopes}


def test_usage_is_a_share_of_the_groups(params):
    archs = [*ARCHS, "1>sep3x3,maxpool|0,1>identity,sep3x3"]
    usage = jax.jit(SPACE.usage)(params, SPACE.from_strs(archs))["cell0"]
    # conv7x7 of block 0 is in the second architecture and in all-on: 2 of 4.
    assert all(share == 0.5 for share in jax.tree.leaves(usage["block0_ops"]["2"]))
    # Inputs 0, 1, 2 of block 1: in 3, 3 and 2 of the four.
    inputs = usage["block1_inputs"]
    assert [inputs[str(j)]["kernel"] for j in range(3)] == [0.75, 0.75, 0.5]
    assert all(share == 1 for share in jax.tree.leaves(usage["project0"]))


def test_owner():
    assert SPACE.owner(("cell0", "block1_ops", "2", "unit0", "kernel")) == ("block1_ops", 2)
    assert SPACE.owner(("cell1", "block0_inputs", "1", "norm", "scale")) == ("block0_inputs", 1)
    assert SPACE.owner(("cell1", "project1", "kernel")) is None


@pytest.mark.parametrize(
    ("block", "field"), [(0, "inputs"), (0, "ops"), (1, "inputs"), (1, "ops"), (None, None)]
)
def test_a_block_may_lose_everything(block, field, masked):
    arch = SPACE.all_on()
    for i, masks in enumerate(arch):
        for name in masks:
            if block is None or (i, name) == (block, field):
                masks[name] = np.zeros_like(masks[name])
    grads, logits = masked(arch)
    assert np.all(np.isfinite(logits))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert np.any(grads["stem2"]["kernel"] != 0)  # the projections remain


# -- groups ---------------------------------------------------------------------------------------


def test_groups_of_images_are_each_on_their_own(apply, candidates):
    together = apply(IMAGES, candidates)
    assert together.shape == (8, 3)
    for g, text in enumerate(BLOCKS):
        alone = apply(IMAGES[2 * g : 2 * g + 2], BLOCK.from_str(text))
        assert_close(together[2 * g : 2 * g + 2], alone)


def test_candidates_on_shared_images(apply, candidates, block_params):
    images = IMAGES[:2]
    shared = apply(images[None], candidates)
    assert shared.shape == (4, 2, 3)
    one = functools.partial(BLOCK.supernet(**SIZE).apply, {"params": block_params}, images)
    assert_close(shared, jax.jit(jax.vmap(one))(candidates))
    assert_close(shared, np.stack([apply(images, BLOCK.from_str(text)) for text in BLOCKS]))


def test_groups_have_their_own_statistics(apply):
    """The order within a group is free; which group an image is in is not."""
    arch = BLOCK.from_strs([BLOCKS[1]] * 4)
    logits = np.asarray(apply(IMAGES, arch))
    swapped = [1, 0, 2, 3, 4, 5, 6, 7]
    assert_close(apply(IMAGES[swapped], arch), logits[swapped])
    crossed = [2, 1, 0, 3, 4, 5, 6, 7]
    moved = np.asarray(apply(IMAGES[crossed], arch)) - logits[crossed]
    assert np.abs(moved[:4]).min(1).max() > 1e-2
    assert_close(moved[4:], np.zeros((4, 3)))


# -- untied cells, and ReLU before BN -------------------------------------------------------------


def test_untied_cells_that_agree_are_tied_ones():
    """The same weights under the untied names, and the architecture repeated for both cells."""

    def renamed(path):
        return tuple(f"{path[0]}_{part}" if part.startswith("block") else part for part in path)

    net = TIED.supernet(**SIZE)
    params = random_variables(net, IMAGES, TIED.all_on())["params"]
    own = flax.traverse_util.unflatten_dict({renamed(p): leaf for p, leaf in flat(params).items()})
    tied, untied = (jax.jit(each.supernet(**SIZE).apply) for each in (TIED, UNTIED))
    for text in ("0,1>sep3x3", "1>identity,sep3x3"):
        both = UNTIED.from_str(UNTIED.repeated(text))
        expected = tied({"params": params}, IMAGES, TIED.from_str(text))
        assert_close(untied({"params": own}, IMAGES, both), expected)


def test_with_relu_before_bn_masked_is_standalone_too(apply, block_params):
    text, options = BLOCKS[1], {**SIZE, "relu_before_bn": True}
    arch, weights = BLOCK.from_str(text), {"params": BLOCK.subnet(block_params, text)}
    alone = jax.jit(BLOCK.standalone(text, **options).apply)(weights, IMAGES)
    for execution in ("masked", "switch"):
        net = BLOCK.supernet(**options, execution=execution)
        assert_close(jax.jit(net.apply)({"params": block_params}, IMAGES, arch), alone)
    assert np.abs(alone - apply(IMAGES, arch)).max() > 0.01
