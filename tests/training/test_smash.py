"""SMASH as published: its numbers, places worked by hand, and what is scored."""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import layers, masked
from nas_jax.oneshot import path_samplers
from nas_jax.runtime import rng
from nas_jax.training import optim, supernet, variants
from nas_jax.training.train_step import TrainStep
from nas_jax.training.variants import dense_hypernetwork, places
from tests import trainings
from tests.configs import tiny

MACRO = spaces.make("nasbench_macro", stages=(1, 2), head=2)
CELL = spaces.make("cell", num_cells=1, num_blocks=2, ops=("identity", "sep3x3", "conv7x7"))
EDGES = spaces.make("nasbench201", num_cells=1, num_stages=1)


def _wrapped(space=MACRO, blocks=(1, 1, 1), **options):
    """A supernet of F = 4 whose hypernetwork is shallow, to be compiled in little time."""
    net = space.supernet(num_classes=10, filters=4, **options)
    return variants.make("smash", space).wrap(net).clone(blocks=blocks)


# -- the published numbers ------------------------------------------------------------------------


def test_the_densenet_has_the_published_layers():
    """Blocks of 8, 10 and 4 layers that each add 10 channels; the channels are halved between."""
    net = dense_hypernetwork.DenseNet(128)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 2, 3, 21)))["params"]
    found = {name: leaf["kernel"].shape for name, leaf in shapes.items()}
    expected, channels = {"first": (3, 3, 21, 7)}, 21 + 7
    for block, depth in enumerate((8, 10, 4)):
        for layer in range(depth):
            expected[f"block{block}_layer{layer}"] = (3, 3, channels, 10)
            channels += 10
        if block < 2:
            expected[f"transition{block}"] = (3, 3, channels, channels // 2)
            channels //= 2
    expected["last"] = (1, 1, channels, 128)
    assert found == expected
    assert channels == ((21 + 7 + 80) // 2 + 100) // 2 + 40
    assert dense_hypernetwork.SLOPE == 0.02
    assert (places.TILE, places.UNITS, places.COMPRESSION) == (8, 64, 2)


def test_a_layer_by_hand():
    """The kernel is divided by the root of the sum of all its squares; there is no offset."""
    conv = dense_hypernetwork.WeightNormConv(2, size=1)
    x = jnp.asarray([1.0, 2.0]).reshape(1, 1, 1, 2)
    kernel = jnp.asarray([[1.0, 3.0], [1.0, -5.0]]).reshape(1, 1, 2, 2)  # norm 6
    y = conv.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(y[0, 0, 0], [3 / 6, -7 / 6], rtol=1e-6)
    net = dense_hypernetwork.DenseNet(1, blocks=())
    params = {
        "first": {"kernel": jnp.zeros((3, 3, 2, 7)).at[1, 1, :, 0].set(jnp.asarray([3.0, -4.0]))},
        "last": {"kernel": jnp.asarray([0.6, 0, 0.8, *[0] * 6]).reshape(1, 1, 9, 1)},
    }
    y = net.apply({"params": params}, x)  # 0.6 * 1 + 0.8 * 0.02 * (3 - 8) / 5
    np.testing.assert_allclose(y.item(), 0.6 - 0.8 * 0.02, rtol=1e-5)


# -- the places -----------------------------------------------------------------------------------


def _known(space, text, path, row=0):
    """What a kernel's place knows of an architecture: the channels that are 1."""
    laid = places.of(space, 4, 10, 3)
    arch = jax.tree.map(lambda mask: mask[None], space.from_str(text))
    tensor = np.asarray(laid.conditional(arch))
    assert tensor.shape == (1, laid.rows, laid.columns, len(laid.channels))
    assert set(np.unique(tensor)) <= {-1, 1}
    column = laid.first[laid.paths.index(path)]
    return {c for c, value in zip(laid.channels, tensor[0, row, column]) if value == 1}


def test_an_input_knows_what_it_reads_and_which_ops_read_it():
    text = "0,1>sep3x3|0,2>identity,conv7x7"
    assert _known(CELL, text, ("cell0", "block1_inputs", "2", "kernel")) == {
        ("reads", "2"),  # the output of the first block
        ("writes", "3"),
        ("op", "identity"),
        ("op", "conv7x7"),
        ("kernel size", (1, 7)),
        ("kernel size", (7, 1)),
        ("width", 4),
        ("cell", ("cell0",)),
        ("part", ("kernel",)),
    }
    off = ("cell0", "block1_inputs", "1", "kernel")
    assert _known(CELL, text, off) == set()


def test_an_op_knows_what_it_reads_and_writes():
    text = "0,1>sep3x3|0,2>identity,conv7x7"
    assert _known(CELL, text, ("cell0", "block0_ops", "1", "unit1", "pointwise")) == {
        ("reads", "0"),
        ("reads", "1"),
        ("writes", "2"),
        ("op", "sep3x3"),
        ("kernel size", (3, 3)),
        ("width", 4),
        ("cell", ("cell0",)),
        ("part", ("unit1", "pointwise")),
    }
    edge = "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
    assert _known(EDGES, edge, ("stage0_cell0", "edge1to3", "2", "kernel")) == {
        ("reads", "1"),
        ("writes", "3"),
        ("op", "nor_conv_1x1"),
        ("width", 4),
        ("cell", ("stage0_cell0",)),
        ("part", ("kernel",)),
    }
    assert ("reads", "2") in _known(MACRO, "012", ("layer2", "2", "expand", "kernel"))


def test_rows_without_outputs_know_nothing():
    """Of 24 outputs three rows are used, of 8 one."""
    wide, narrow = ("layer0", "2", "expand", "kernel"), ("layer0", "2", "project", "kernel")
    assert _known(MACRO, "222", wide, row=2)
    assert not _known(MACRO, "222", wide, row=3)
    assert _known(MACRO, "222", narrow, row=0)
    assert not _known(MACRO, "222", narrow, row=1)


def test_what_is_generated_belongs_to_an_option():
    """Not the 1x1 convolutions of all architectures: projections, reductions, the head."""
    paths = places.of(CELL, 4, 10, 3).paths
    assert len(paths) == 2 + 3 + 2 * 2  # inputs, and two pointwise kernels of sep3x3 in each block
    assert [path[1:3] for path in paths[:2]] == [("block0_inputs", "0"), ("block0_inputs", "1")]
    assert not any("project" in name for path in paths for name in path)
    assert all(MACRO.owner(path) for path in places.of(MACRO, 4, 10, 3).paths)


def test_kernels_are_cut_out_of_tiles_by_hand():
    """A kernel of 24 inputs and 8 outputs: tiles of 16 x 8, two columns, one row."""
    laid, path = places.of(MACRO, 4, 10, 3), ("layer0", "2", "project", "kernel")
    arch = jax.tree.map(lambda mask: mask[None], MACRO.from_str("222"))
    emitted = jax.random.normal(jax.random.key(0), (1, laid.rows, laid.columns, 128))
    kernel = laid.kernels(emitted, arch)[path]
    assert kernel.shape == (1, 1, 1, 24, 8)
    first = laid.first[laid.paths.index(path)]
    tiles = np.asarray(emitted[0, 0, first : first + 2]).reshape(32, 8)[:24]
    expected = tiles / np.linalg.norm(tiles) * np.sqrt(2 * 8)  # a variance of 2 / 24
    np.testing.assert_allclose(kernel[0, 0, 0], expected, rtol=1e-5)
    wide = ("layer2", "2", "expand", "kernel")  # 16 inputs, 96 outputs: two columns of 64 outputs
    kernel = laid.kernels(emitted, arch)[wide]
    first = laid.first[laid.paths.index(wide)]
    rows = [np.asarray(emitted[0, :, first + lot]).reshape(8, 16, 8) for lot in (0, 1)]
    whole = np.concatenate(np.concatenate(rows), 1)[:, :96]
    np.testing.assert_allclose(
        kernel[0, 0, 0], whole / np.linalg.norm(whole) * np.sqrt(2 * 96), rtol=1e-5
    )


def test_a_concat_is_one_convolution():
    """Its kernel's norm is over the inputs that are on, as it is alone in the published code."""
    laid = places.of(CELL, 4, 10, 3)
    emitted = jax.random.normal(jax.random.key(0), (1, laid.rows, laid.columns, 128))
    for text, on in (("0,1>sep3x3|0>sep3x3", (0, 1)), ("1>sep3x3|0>sep3x3", (1,))):
        arch = jax.tree.map(lambda mask: mask[None], CELL.from_str(text))
        kernels = laid.kernels(emitted, arch)
        squares = [jnp.sum(kernels["cell0", "block0_inputs", str(j), "kernel"] ** 2) for j in on]
        np.testing.assert_allclose(sum(squares), 2 * 4, rtol=1e-5)
        for path in laid.paths:
            assert np.isfinite(kernels[path]).all()


# -- the network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """(images [8, 8, 8, 3], variables, four architectures)."""
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    variables = masked.init(jax.random.key(1), _wrapped(), images[:1], MACRO.all_on())
    return images, variables, MACRO.from_strs(["012", "120", "201", "222"])


def _of(archs, g):
    return jax.tree.map(lambda mask: mask[g], archs)


@jax.jit
def _kernels(variables, arch):
    """By the parts: the tensor beside a normal embedding, the DenseNet, the tiles."""
    laid, masks = _wrapped().placed(3), jax.tree.map(lambda mask: mask[None], arch)
    embedding = jax.random.normal(rng.key(0), (1, laid.rows, laid.columns, 1))
    x = jnp.concatenate([embedding, laid.conditional(masks)], -1)
    net = dense_hypernetwork.DenseNet(128, blocks=(1, 1, 1))
    emitted = net.apply({"params": variables["params"][dense_hypernetwork.SCOPE]}, x)
    return jax.tree.map(lambda kernel: kernel[0], laid.kernels(emitted, masks))


@pytest.mark.system
def test_a_score_is_that_of_the_network_alone_with_these_kernels(made):
    """In value, for each of several architectures at once and one after the other."""
    images, variables, archs = made
    own = images.reshape(4, 2, *images.shape[1:])
    together = jax.jit(_wrapped().apply)(variables, own, archs)
    one = jax.jit(_wrapped(execution="switch").apply)
    for g, text in enumerate(MACRO.to_strs(archs)):
        flat = flax.traverse_util.flatten_dict(variables["params"]["net"])
        flat |= _kernels(variables, _of(archs, g))
        params = MACRO.subnet(flax.traverse_util.unflatten_dict(flat), text)
        alone = MACRO.standalone(text, num_classes=10, filters=4)
        expected = jax.jit(alone.apply)({"params": params}, own[g])
        np.testing.assert_allclose(together[g], expected, rtol=1e-4, atol=1e-5)
        found = one(variables, own[g], _of(archs, g))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.system
def test_kernels_depend_on_the_architecture_alone(made):
    """The embedding is fixed: a candidate has one value."""
    _, variables, archs = made
    first, again, other = (_kernels(variables, _of(archs, g)) for g in (3, 3, 2))
    path = ("layer0", "2", "expand", "kernel")  # on in both
    np.testing.assert_array_equal(first[path], again[path])
    assert np.abs(first[path] - other[path]).max() > 1e-3


@pytest.mark.system
def test_gradients_reach_the_hypernetwork_through_the_kernels(made):
    images, variables, _ = made
    net = _wrapped(execution="switch")

    def loss(params):
        return jnp.sum(jnp.square(net.apply({"params": params}, images, MACRO.from_str("012"))))

    grads = flax.traverse_util.flatten_dict(jax.jit(jax.grad(loss))(variables["params"]))
    for path, leaf in grads.items():
        if path[0] == dense_hypernetwork.SCOPE:
            assert np.any(leaf), path
        elif owner := MACRO.owner(path):
            assert np.any(leaf) == (owner in {("layer0", 0), ("layer1", 1), ("layer2", 2)}), path


def test_generated_kernels_are_no_parameters():
    images = jnp.zeros((1, 8, 8, 3))
    shapes = jax.eval_shape(_wrapped().init, jax.random.key(0), images, MACRO.all_on())["params"]
    plain = MACRO.supernet(num_classes=10, filters=4)
    every = jax.eval_shape(plain.init, jax.random.key(0), images, MACRO.all_on())["params"]
    stored = flax.traverse_util.flatten_dict(shapes["net"])
    assert set(shapes) == {"net", dense_hypernetwork.SCOPE}
    missing = set(flax.traverse_util.flatten_dict(every)) - set(stored)
    assert missing == set(places.of(MACRO, 4, 10, 3).paths)


@pytest.mark.system
def test_the_standard_deviations_are_drawn_once():
    """`masked.init` multiplies them by noise: the wrapped module must give them."""
    net = _wrapped().clone(kernel_init=layers.he_scale)
    scales = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), MACRO.all_on())
    flat = flax.traverse_util.flatten_dict(scales["params"])
    assert all(np.ptp(leaf) == 0 for leaf in flat.values() if leaf.ndim > 1)


# -- the training ---------------------------------------------------------------------------------


def _search(**fields):
    config = tiny.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(trainings.SMALL)
    return trainings.chosen(config, {"supernet.variant": "smash", **fields})


def test_the_recipe_reaches_the_step(tmp_path):
    """Adam of the published numbers, and no L2 on the hypernetwork."""
    run = trainings.run_of(*_search(), tmp_path)
    task = supernet.training(run, jax.devices()[:1]).task
    assert task.undecayed == (dense_hypernetwork.SCOPE,)
    assert supernet.sampler(run) == path_samplers.SharedPath(run.space)
    train = run.config.supernet.train
    assert train.base_lr * train.batch_size / 1024 == pytest.approx(1e-3)


def test_a_step_of_adam_by_hand():
    """Its first step is -rate * g / (|g| + epsilon); L2 of 5e-5 adds 1e-4 w to a gradient g."""
    config, *_ = _search()
    made = optim.of(config.supernet.train)
    params = {"kernel": jnp.asarray([[2.0, -1.0]])}
    grads = {"kernel": jnp.asarray([[3e-4, -1e-4]])}
    at = made.at(1e-3, momentum=0.9, nesterov=True, clip_norm=None)
    state = made.first_state(params)
    updates, state = at.update(grads, state, params)
    np.testing.assert_allclose(updates["kernel"], [[-1e-3 * 3 / 4, 1e-3 / 2]], rtol=1e-4)
    # The second: means (0.5 g) / 0.75 and 0.999 g^2 / (1 - 0.999^2), at a gradient of zero.
    updates, _ = at.update({"kernel": jnp.zeros((1, 2))}, state, params)
    mean, root = 0.25 / 0.75 * 3e-4, np.sqrt(0.001 * 0.999 / (1 - 0.999**2)) * 3e-4
    np.testing.assert_allclose(updates["kernel"][0, 0], -1e-3 * mean / (root + 1e-4), rtol=1e-4)
    decay = jax.grad(lambda w: 5e-5 * optim.l2({"scale": w}, None, norm_params=True))
    np.testing.assert_allclose(decay(jnp.asarray([2.0])), [2e-4], rtol=1e-6)


def test_l2_leaves_out_the_hypernetwork():
    params = {"net": {"kernel": jnp.asarray([[2.0]])}, "hypernetwork": {"k": jnp.ones((3, 3))}}
    step = TrainStep(None, None, 1, 1, undecayed=("hypernetwork",))
    hyper = dataclasses.make_dataclass("Hyper", ["l2"])(0.5)
    _, terms = step._penalties(params, None, hyper)
    assert float(terms["l2"]) == 0.5 * 4
    _, terms = dataclasses.replace(step, undecayed=())._penalties(params, None, hyper)
    assert float(terms["l2"]) == 0.5 * (4 + 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((("basis", 1),), "basis=1 must be 0, the published form, or 2 or more"),
        ((("hidden", 8),), "hidden=8 is of the light form; give basis=4, too"),
        ((("hidden", 0), ("basis", 2)), "hidden=0 must be 1 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        variants.make("smash", MACRO, options)


@pytest.mark.parametrize(("options", "what"), [((), "option"), ((("basis", 2),), "layer")])
def test_a_space_without_1x1_kernels_is_refused(options, what):
    def conv(features, *, name, kernel_init, norm):
        return layers.Conv(features, (3, 3), norm, kernel_init, name=name)

    space = spaces.make("chain", stages=((2, 1, 1),), ops=(conv, "identity"))
    with pytest.raises(ValueError, match=f"no {what} of this ChainSpace has any; choose another"):
        variants.make("smash", space, options)


@dataclasses.dataclass(frozen=True)
class Miswired(type(MACRO)):
    """A space of a user whose wiring forgets an option."""

    def wirings(self):
        """Those of a chain, but one."""
        return {option: w for option, w in super().wirings().items() if option != ("layer1", 2)}


def test_a_wiring_that_lacks_an_option_is_refused():
    with pytest.raises(ValueError, match=r"Miswired.wirings\(\) lacks the option \('layer1', 2\)"):
        variants.make("smash", Miswired((1, 2), 2))
