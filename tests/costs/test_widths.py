"""Widths: what channels cost, which of them are weak, and the networks that are left."""

import dataclasses
import functools
import math

import flax.traverse_util
import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import params_flops, widths
from nas_jax.spaces import choices
from nas_jax.strategies import random_search
from nas_jax.training import variants
from nas_jax.training.variants import morphnet

pytestmark = pytest.mark.system

ONE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3", "conv7x7"))
OPS = ("identity", "sep3x3", "sep5x5", "maxpool", "conv7x7")
TWO = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1, ops=OPS)
UNTIED = spaces.make("cell", num_cells=2, num_blocks=1, cells_per_stage=1, ops=OPS, tied=False)
CHAIN = spaces.make("nasbench_macro", stages=(2, 2), head=5)
CASES = [  # with all kinds of layers; linked and free tensors; strided
    (TWO, "0,1>sep3x3,conv7x7|0,2>identity,sep5x5"),
    (TWO, TWO.to_str(TWO.all_on())),
    (CHAIN, "2110"),
    (CHAIN, "0202"),
    (UNTIED, "0,1>sep3x3/0>identity,conv7x7"),
]


@functools.cache
def _shapes(space, text, filters, own=None):
    net = space.standalone(text, num_classes=10, filters=filters, widths=own)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
    params = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
    return {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(params).items()}


def _widths(space, text, filters=4, resource="flops"):
    shapes = _shapes(space, text, filters)
    return widths.Widths(space, text, shapes, image_size=8, resource=resource)


def _counted(space, shapes, resource):
    if resource == "params":
        return sum(map(math.prod, shapes.values()))
    return sum(space.multiply_adds(path, shape, 8) for path, shape in shapes.items())


def _ones(space, text, filters=4):
    """Parameters that are all one."""
    shapes = _shapes(space, text, filters)
    return flax.traverse_util.unflatten_dict({path: np.ones(s) for path, s in shapes.items()})


def _set(params, path, value):
    """The parameters with one array's values replaced."""
    flat = flax.traverse_util.flatten_dict(params)
    path = (*path.split("/"), "norm", "scale")
    flat[path] = np.broadcast_to(np.asarray(value, np.float32), flat[path].shape)
    return flax.traverse_util.unflatten_dict(flat)


def _penalty(found, *args):
    return jax.jit(functools.partial(found.penalty, threshold=0.01))(*args)


# -- what channels cost ---------------------------------------------------------------------------


def test_the_penalty_is_counted_by_hand():
    """One block, 64 pixels, F = 2, scales of one. A channel costs, in multiply-adds a pixel:

    stem1     27 (its own 3x3x3) + 2 (project1 takes it)
    stem2     27 + 2
    project0   2 + 2 (the block) + 2 (final)
    project1   2 + 2 (final); the block does not take it
    joined     2 + 9 (depthwise) + 2 (pointwise)
    between    2 + 9 + 2
    block      2 + 2 (final)
    """
    found = _widths(ONE, "0>sep3x3", filters=2)
    by_hand = [27 + 2, 27 + 2, 2 + 2 + 2, 2 + 2, 2 + 9 + 2, 2 + 9 + 2, 2 + 2]
    names = ["stem1", "stem2", "cell0/project0", "cell0/project1", "cell0/block0_inputs"]
    assert [*found.names] == [*names, "cell0/block0_ops/1", "cell0/block0_ops", "final"]
    np.testing.assert_allclose(found.marginal(found.full)[:-1], 64 * np.asarray(by_hand))
    # kernels: two stems 54, projects 4 and 4, block 4, separable ones 18 + 4 each, final 6 * 2
    whole = 64 * (54 + 54 + 4 + 4 + 4 + 22 + 22 + 12) + 2 * 10
    assert found.cost(found.full) == whole
    params = _ones(ONE, "0>sep3x3", 2)
    penalty = _penalty(found, params)
    assert float(penalty) == pytest.approx(2 * 64 * sum(by_hand) / whole)
    # Half of `between` is gone: what it costs `joined` and the block halves, too.
    params = _set(params, "cell0/block0_ops/1/unit1", [1, 0])
    joined, between, block = 2 + 9 + 1, 2 + 9 + 2, 1 + 2
    left = 2 * (29 + 29 + 6 + 4 + joined + block) + between
    penalty = _penalty(found, params)
    assert float(penalty) == pytest.approx(64 * left / whole)


@pytest.mark.parametrize(("space", "text"), CASES)
@pytest.mark.parametrize("resource", ["flops", "params"])
def test_costs_are_those_of_the_network_with_these_widths(space, text, resource):
    found = _widths(space, text, resource=resource)
    generator = np.random.default_rng(0)
    for own in (found.full, *generator.integers(1, 9, (1, len(found.names)))):
        shapes = _shapes(space, text, 4, tuple(own.tolist()))
        assert found.cost(own) == _counted(space, shapes, resource)
        steps = [found.cost(own + row) for row in np.eye(len(own), dtype=int)]
        np.testing.assert_allclose(found.marginal(own), np.asarray(steps) - found.cost(own))
    costs = params_flops.of(space, space.from_str(text), filters=4, image_size=8)
    assert found.cost(found.full) == getattr(costs, resource)


def test_the_gradient_pushes_by_what_a_channel_costs():
    found, params = _widths(TWO, CASES[0][1]), _ones(*CASES[0])
    grads = jax.jit(jax.grad(lambda params: found.penalty(params, threshold=0.01)))(params)
    prices = dict(zip(found.names, found.marginal(found.full) / found.cost(found.full)))
    scale = grads["cell0"]["block0_ops"]["4"]["unit1"]["norm"]["scale"]
    np.testing.assert_allclose(scale, prices["cell0/block0_ops/4"], rtol=1e-5)
    # The largest of the scales that read a channel is pushed; these are equal, and share.
    readers = [grads["cell0"][name]["norm"]["scale"][:4] for name in ("project1",)]
    readers.append(grads["cell0"]["project1"]["norm"]["scale"])
    np.testing.assert_allclose(readers[1], prices["stem1"], rtol=1e-5)
    kernels = [g for g in jax.tree.leaves(grads) if g.ndim > 1]
    assert not any(np.any(kernel) for kernel in kernels)


def test_usage_weighs_the_scales():
    found, params = _widths(ONE, "0>sep3x3", filters=2), _ones(ONE, "0>sep3x3", 2)
    half = jax.tree.map(lambda _: np.float32(0.5), params)
    whole, halved = (_penalty(found, params, used) for used in (None, half))
    assert float(halved) == pytest.approx(float(whole) / 2)


def test_the_largest_of_the_scales_that_read_a_channel_counts():
    """The block and the last projection read project0; what is pushed is the larger of each."""
    found, params = _widths(ONE, "0>sep3x3", filters=2), _ones(ONE, "0>sep3x3", 2)
    params = _set(params, "cell0/block0_inputs/0", [0.5, -2])
    params = _set(params, "final", [1.5, 0.25, 1, 1, 1, 1])
    strengths = jax.jit(found.strengths)(params)
    np.testing.assert_allclose(strengths["cell0/project0"], [1.5, 2])
    price = found.marginal(found.full)[2] / found.cost(found.full)
    assert found.names[2] == "cell0/project0"
    grads = jax.jit(jax.grad(lambda params: found.penalty(params, threshold=0.01)))(params)
    block = grads["cell0"]["block0_inputs"]["0"]["norm"]["scale"]
    np.testing.assert_allclose(block, [0, -price], rtol=1e-5)
    np.testing.assert_allclose(grads["final"]["norm"]["scale"][:2], [price, 0], rtol=1e-5)


def test_what_is_left_does_not_depend_on_how_often_it_was_used():
    """A scale of one that one ghost batch in a thousand uses is pushed less, and still there."""
    found, params = _widths(ONE, "0>sep3x3", filters=2), _ones(ONE, "0>sep3x3", 2)
    rare = jax.tree.map(lambda _: np.float32(1e-3), params)
    whole, pushed = (_penalty(found, params, used) for used in (None, rare))
    assert float(pushed) == pytest.approx(1e-3 * float(whole), rel=1e-4)


# -- networks of other widths ---------------------------------------------------------------------


def _thinned(space, text, params, keep):
    """Parameters of the network with only the channels bool [C] of each tensor, and those of the
    full one in which no batch norm passes the others on."""
    flat, thin, shut = flax.traverse_util.flatten_dict(params), {}, {}
    for layer in space.layers(text):
        ins, normed = (
            np.concatenate([keep[name] for name in names]) if names else slice(None)
            for names in (layer.inputs, layer.normed)
        )
        outs = slice(None) if layer.output is None else keep[layer.output]
        for path, leaf in flat.items():
            if path[: len(layer.scope)] != layer.scope:
                continue
            shut[path] = leaf
            if path[-2] == "norm":
                thin[path], shut[path] = leaf[normed], leaf * normed
            elif path[-1] == "depthwise":
                thin[path] = leaf[..., ins]
            elif leaf.ndim > 1:
                thin[path] = leaf[..., ins, :][..., outs]
            else:
                thin[path] = leaf
    return map(flax.traverse_util.unflatten_dict, (thin, shut))


@pytest.mark.parametrize(
    ("space", "text"), [(dataclasses.replace(TWO, num_cells=1), CASES[0][1]), CASES[2], CASES[4]]
)
def test_a_thin_network_is_the_full_one_without_what_its_batch_norms_shut(space, text):
    """With random weights, scales and offsets; every tensor but the last loses channels."""
    found, generator = _widths(space, text), np.random.default_rng(0)
    keep = {n: generator.random(full) < 0.6 for n, full in zip(found.names, found.full)}
    for name in keep:
        keep[name][0] = True
    keep[found.names[-1]][:] = True  # no batch norm follows
    shapes = _shapes(space, text, 4)
    flat = {path: generator.normal(size=s).astype(np.float32) for path, s in shapes.items()}
    params = flax.traverse_util.unflatten_dict(flat)
    thin, shut = _thinned(space, text, params, keep)
    images = generator.normal(size=(4, 8, 8, 3)).astype(np.float32)
    own = tuple(int(keep[name].sum()) for name in found.names)
    options = {"num_classes": 10, "filters": 4}
    full_net = space.standalone(text, **options)
    thin_net = space.standalone(text, **options, widths=own)
    np.testing.assert_allclose(
        jax.jit(thin_net.apply)({"params": thin}, images),
        jax.jit(full_net.apply)({"params": shut}, images),
        rtol=1e-3,
        atol=1e-3,
    )


def test_full_widths_change_nothing():
    space, text = CASES[0]
    full = tuple(_widths(space, text).full.tolist())
    assert _shapes(space, text, 4, full) == _shapes(space, text, 4)


@pytest.mark.parametrize("own", [(4,) * 18, (4,) * 18 + (0,)])
def test_wrong_widths_are_said(own):
    with pytest.raises(ValueError, match="19 tensors; their widths must be as many numbers from 1"):
        TWO.standalone(CASES[0][1], num_classes=10, filters=4, widths=own)


def test_a_space_without_widths_says_so():
    with pytest.raises(ValueError, match="NasBench201Space have no widths of their own"):
        variants.make("morphnet", spaces.make("nasbench201"))


def test_a_string_holds_the_widths():
    text = widths.join("0>sep3x3|0>identity", (3, 12, 1))
    assert text == "0>sep3x3|0>identity@3,12,1"
    assert widths.split(text) == ("0>sep3x3|0>identity", (3, 12, 1))
    assert widths.split("2110") == ("2110", None)


# -- what is left, and how it is scaled -----------------------------------------------------------


def test_what_is_left_is_counted():
    """A channel stays if any batch norm that reads it has a scale above the threshold."""
    found, params = _widths(*CASES[0]), _ones(*CASES[0])
    params = _set(params, "cell0/project1", [0.5, 0, -0.2, 0.005])  # all that reads stem1
    params = _set(params, "cell0/block0_ops/1/unit1", [0, 0, 0, 0.02])
    params = _set(params, "cell0/block1_ops/2/unit1", 0)  # in this cell only: it keeps one
    text, left = found.read_out(params, 0.01)
    assert text == CASES[0][1]
    own = dict(zip(found.names, left))
    assert own["stem1"] == 2
    assert own["cell0/block0_ops/1"] == own["cell0/block1_ops/2"] == 1
    assert own["cell1/block1_ops/2"] == 8
    params = _set(params, "cell1/block0_inputs/0", 0)  # project0 is read by others as well
    assert found.read_out(params, 0.01) == (text, left)


def test_an_op_vanishes_where_nothing_passes_in_any_cell():
    """But the last one of a block does not."""
    found, params = _widths(*CASES[0]), _ones(*CASES[0])
    for cell in ("cell0", "cell1"):
        for op in ("block0_ops/1", "block0_ops/4", "block1_ops/2"):
            params = _set(params, f"{cell}/{op}/unit1", 0)
    text, left = found.read_out(params, 0.01)
    assert text == "0,1>sep3x3,conv7x7|0,2>identity"
    assert len(left) == len(TWO.tensors(text)) == 17
    text_of = functools.partial(found.without_vanished, threshold=0.01)
    params = _set(params, "cell1/block0_ops/1/unit1", 1)  # two thirds of what sep3x3 has
    assert TWO.to_str(text_of(params, min_share=0.6)) == "0,1>sep3x3|0,2>identity"
    assert TWO.to_str(text_of(params, min_share=0.7)) == "0,1>sep3x3|0,2>identity"  # the best stays
    assert found.read_out(params, 0.01)[0] == "0,1>sep3x3|0,2>identity"


@pytest.mark.parametrize("share", [0.2, 0.5, 1, 1.7])
def test_scaling_is_as_wide_as_the_limit_allows(share):
    """Against a fine grid of factors."""
    found = _widths(*CASES[2])
    own = np.arange(len(found.names)) + 2
    limit = share * found.cost(found.full)
    grid = [np.maximum(np.round(f * own), 1) for f in np.linspace(0, 12, 40_001)]
    grid = np.unique(grid, axis=0)
    best = max((g for g in grid if found.cost(g) <= limit), key=np.sum)
    assert found.scaled(own, limit) == tuple(best.astype(int).tolist())


def test_a_limit_below_one_channel_each_is_said():
    with pytest.raises(ValueError, match=r"one channel of every tensor costs .* already"):
        _widths(*CASES[0]).scaled((1,) * 19, 10)


# -- the variant ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_supernets_penalty_is_that_of_all_paths(strength):
    """With every scale at its start, the cost of each channel, of all but `final`, once."""
    text = ONE.to_str(ONE.all_on())
    params = _ones(ONE, text)
    found = widths.Widths(ONE, text, _shapes(ONE, text, 4), image_size=1)
    expected = np.dot(found.marginal(found.full)[:-1], found.full[:-1]) / found.cost(found.full)
    variant = morphnet.make(ONE, strength=strength)
    assert float(variant.penalty(params, None)) == pytest.approx(strength * expected, rel=1e-5)


@pytest.mark.parametrize(
    ("left", "share", "stays"), [(2, 0.5, False), (3, 0.5, True), (3, 0.75, False), (1, 0.2, True)]
)
def test_an_op_stays_with_more_than_a_share_of_its_channels(left, share, stays):
    """Of the four channels of its weaker batch norm; a scale at the threshold is gone."""
    params = _ones(ONE, ONE.to_str(ONE.all_on()))
    scales = [0.3] * left + [0.2] * (4 - left)
    params = _set(params, "cell0/block0_ops/1/unit1", scales)
    variant = morphnet.make(ONE, threshold=float(np.float32(0.2)), min_share=share)
    assert variant.read_out(params)[0]["ops"].tolist() == [True, stays, True]


def _all(space):
    return space.from_decisions(np.concatenate([*space.enumerate_decisions()]))


def test_what_vanished_is_not_asked_for():
    """Of the block's ops sep3x3, of its inputs the first; conv7x7 and the identity are left."""
    params, every = _ones(ONE, ONE.to_str(ONE.all_on())), _all(ONE)
    params = _set(params, "cell0/block0_ops/1/unit1", 0)
    params = _set(params, "cell0/block0_inputs/0", 0.001)
    left = morphnet.make(ONE).read_out(params)
    np.testing.assert_array_equal(left[0]["ops"], [True, False, True])
    np.testing.assert_array_equal(left[0]["inputs"], [False, True])
    allowed = choices.are_left(ONE.choices, left, every)
    texts = {text for text, ok in zip(ONE.to_strs(every), allowed, strict=True) if ok}
    ask = jax.jit(random_search.make(ONE).ask, static_argnums=2)
    assert {*ONE.to_strs(ask(jax.random.key(0), left, 100))} == texts
    assert texts == {"1>identity", "1>conv7x7", "1>identity,conv7x7"}


def test_a_choice_that_needs_more_than_is_left_is_free():
    none = jax.tree.map(lambda mask: np.zeros(len(mask), bool), CHAIN.all_on())
    assert choices.are_left(CHAIN.choices, none, _all(CHAIN)).all()
    ask = jax.jit(random_search.make(CHAIN).ask, static_argnums=2)
    texts = CHAIN.to_strs(ask(jax.random.key(0), none, 200))
    assert len({*texts}) > 60


def test_a_wrong_resource_is_said():
    with pytest.raises(ValueError, match="resource='time' must be 'flops' or 'params'"):
        variants.make("morphnet", ONE, (("resource", "time"),))
