"""Parameters and multiply-adds: the paper's figures, numbers by hand, and how a space grows."""

import functools
import itertools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import params_flops
from nas_jax.spaces import choices

PAPER = spaces.make("cell")


def off(space):
    return jax.tree.map(np.zeros_like, space.all_on())


@functools.cache
def sampled(space, number):
    """Uniform architectures."""
    draw = jax.jit(functools.partial(space.sample, shape=(number,)))
    return jax.device_get(draw(jax.random.key(0)))


@functools.cache
def subset_params(space, filters, **size):
    """(parameters that all networks use, per Choice those of each of its subsets)."""
    fixed = params_flops.of(space, off(space), filters=filters, **size).params
    leaves, treedef = jax.tree.flatten(space.choices)
    own = []
    for choice in leaves:
        table = choices.subsets(choice)
        masks = [table if c == choice else np.zeros((len(table), c.num_options)) for c in leaves]
        archs = treedef.unflatten(masks)
        own.append(params_flops.of(space, archs, filters=filters, **size).params - fixed)
    return fixed, own


def all_on_params(**fields):
    space = spaces.make("cell", num_cells=1, **fields)
    return int(params_flops.of(space, space.all_on()).params)


# -- the paper's figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "params", "printed"),
    [(16, 1_289_162, 1.3), (32, 4_807_050, 4.8), (64, 18_529_034, 18.5)],
)
def test_all_on(filters, params, printed):
    total = params_flops.of(PAPER, PAPER.all_on(), filters=filters).params
    assert total == params
    assert round(float(total) / 1e6, 1) == printed


@pytest.mark.parametrize(("filters", "mean"), [(16, 0.452), (32, 1.708), (64, 6.634)])
def test_mean_of_uniform_samples(filters, mean):
    """The cost is linear in the masks, so the mean needs nothing but each Choice's subsets."""
    fixed, own = subset_params(PAPER, filters)
    exact = fixed + sum(params.mean() for params in own)
    assert round(exact / 1e6, 3) == mean
    archs = sampled(PAPER, 20_000)
    drawn = params_flops.of(PAPER, archs, filters=filters).params
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / math.sqrt(20_000)


def test_smallest_and_largest():
    fixed, own = subset_params(PAPER, 16)
    smallest, largest = (fixed + sum(f(params) for params in own) for f in (np.min, np.max))
    assert (round(smallest / 1e6, 3), round(largest / 1e6, 3)) == (0.154, 1.049)
    # One input and an op without parameters; all inputs and the two largest ops.
    assert smallest == params_flops.of(PAPER, PAPER.from_str("|".join(["0>identity"] * 4))).params
    inputs = ("0,1", "0,1,2", "0,1,2,3", "0,1,2,3,4")
    large = "|".join(f"{numbers}>sep7x7,conv7x7" for numbers in inputs)
    assert largest == params_flops.of(PAPER, PAPER.from_str(large)).params


def test_imagenet_form():
    """The paper's ten best have 3.1, 6.8 and 11.9 M parameters at F = 16, 24 and 32: ours
    that have 3.1 M at F = 16 have the others too.
    """
    space = spaces.make("cell", num_cells=8, stem_stride=4)
    size = {"image_size": 224, "num_classes": 1000}
    archs = sampled(space, 2000)
    found = {f: params_flops.of(space, archs, filters=f, **size).params / 1e6 for f in (16, 24, 32)}
    like = np.abs(found[16] - 3.1) < 0.05
    assert like.sum() > 10
    np.testing.assert_allclose(found[24][like], 6.8, atol=0.15)
    np.testing.assert_allclose(found[32][like], 11.9, atol=0.3)
    fixed, own = subset_params(space, 16, **size)
    largest = fixed + sum(np.max(params) for params in own)
    everything = params_flops.of(space, space.all_on(), **size)
    assert largest < everything.params
    # Most kernels are used at no more than 56 x 56 places, the last cells' at 7 x 7.
    assert 7**2 < everything.flops / everything.params < 56**2


# -- by hand, and by tracing ----------------------------------------------------------------------

TINY = spaces.make("cell", num_cells=1, num_blocks=1, ops=("sep3x3", "conv7x7", "maxpool"))
# F = 4, 8x8 images (64 positions), 10 classes. A batch norm of 4 channels has 8 parameters.
STEMS = 2 * 3 * 3 * 3 * 4  # 216
PROJECTS = 2 * 4 * 4  # 32, and 2 batch norms
FINAL = 12 * 4  # of 3 tensors; batch norm of 12 channels: 24
CLASSIFIER = 4 * 10  # and 10 biases
INPUT = 4 * 4  # and a batch norm, each
SEP3X3 = 2 * (3 * 3 * 4 + 4 * 4)  # 104, and 2 batch norms
CONV7X7 = 2 * 7 * 4 * 4  # 224, and 2 batch norms


@pytest.mark.parametrize(
    ("text", "norms", "kernels"),
    [
        ("0>maxpool", 1, INPUT),
        ("0,1>maxpool", 2, 2 * INPUT),
        ("1>sep3x3", 3, INPUT + SEP3X3),
        ("0>conv7x7,maxpool", 3, INPUT + CONV7X7),
        ("0,1>sep3x3,conv7x7", 6, 2 * INPUT + SEP3X3 + CONV7X7),
        ("0,1>sep3x3,conv7x7,maxpool", 6, 2 * INPUT + SEP3X3 + CONV7X7),  # all on
    ],
)
def test_by_hand(text, norms, kernels):
    total = params_flops.of(TINY, TINY.from_str(text), filters=4, image_size=8)
    kernels += STEMS + PROJECTS + FINAL
    assert total.flops == 64 * kernels + CLASSIFIER
    assert total.params == kernels + 8 * (2 + norms) + 24 + CLASSIFIER + 10


def test_resolutions_by_hand():
    """Stems at 8x8 (stride 2 of 16), cell 0 too, cell 1 at 4x4 with twice the channels."""
    space = spaces.make(
        "cell", num_cells=2, num_blocks=1, cells_per_stage=1, stem_stride=2, ops=("identity",)
    )
    total = params_flops.of(
        space, space.from_str("0>identity"), filters=4, image_size=16, num_classes=2
    )
    at_8x8 = STEMS + PROJECTS + INPUT
    # Cell 1 pools the 12 channels of cell 0 and the 4 of stem 2, then projects them to 8.
    at_4x4 = 12 * 8 + 4 * 8
    at_4x4 += 8 * 8 + (3 * 8) * 8  # the concat's 1x1, the final 1x1
    assert total.flops == 64 * at_8x8 + 16 * at_4x4 + 8 * 2


def multiply_adds(jaxpr):
    """Those of all matrix products and convolutions of a program, in its form for accelerators."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(eqn.invars[0].aval.shape[axis] for axis in contract)
            total += math.prod(eqn.outvars[0].aval.shape) * depth
        elif eqn.primitive.name == "conv_general_dilated":
            images, height, width, _ = eqn.outvars[0].aval.shape
            total += images * height * width * math.prod(eqn.invars[1].aval.shape)
        elif eqn.primitive.name == "cond":
            total += multiply_adds(
                eqn.params["branches"][-1].jaxpr
            )  # `platform_dependent`'s default
        else:
            inner = (getattr(value, "jaxpr", value) for value in eqn.params.values())
            total += sum(multiply_adds(value) for value in inner if hasattr(value, "eqns"))
    return total


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        (
            {"num_cells": 2},
            ["0>sep3x3,sep5x5|0,1,2>sep7x7,conv7x7", "0,1>maxpool|1>identity,avgpool"],
        ),
        (
            {"num_cells": 3, "cells_per_stage": 1, "stem_stride": 4},
            ["1>conv7x7|0,2>sep5x5,maxpool"],
        ),
    ],
)
def test_cost_is_that_of_the_standalone_network(fields, texts):
    space = spaces.make("cell", num_blocks=2, **fields)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    ours = params_flops.of(space, space.from_strs(texts), filters=8)
    for i, text in enumerate(texts):
        model = space.standalone(text, num_classes=10, filters=8)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        built = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
        assert ours.params[i] == built
        assert ours.flops[i] == multiply_adds(jax.make_jaxpr(model.apply)(variables, images).jaxpr)


# -- batches --------------------------------------------------------------------------------------


def test_a_batch_is_its_members():
    params_flops.of(PAPER, PAPER.all_on())  # traced once
    archs = sampled(PAPER, 20_000)
    start = time.perf_counter()
    batch = params_flops.of(PAPER, archs)
    assert time.perf_counter() - start < 5  # design: a second
    assert batch.params.shape == batch.flops.shape == (20_000,)
    assert batch.params.dtype == batch.flops.dtype == np.int64
    for i in (0, 7, 19_999):
        single = params_flops.of(PAPER, jax.tree.map(lambda mask, i=i: mask[i], archs))
        assert (single.params, single.flops) == (batch.params[i], batch.flops[i])
    grid = params_flops.of(PAPER, jax.tree.map(lambda mask: mask.reshape(100, 200, -1), archs))
    np.testing.assert_array_equal(grid.params.ravel(), batch.params)


def test_a_rescaled_mask_costs_the_same():
    arch = jax.tree.map(lambda mask: mask[0], sampled(PAPER, 20_000))
    scaled = jax.tree.map(lambda mask: 1.7 * mask, arch)
    assert params_flops.of(PAPER, scaled) == params_flops.of(PAPER, arch)


def test_parameters_are_those_of_the_paths():
    """fixed + the sum over all paths of the path's own: nothing is shared but what all use."""
    base = params_flops.of(PAPER, off(PAPER))
    leaves, treedef = jax.tree.flatten(off(PAPER))
    paths = []
    for d, mask in enumerate(leaves):
        for row in np.eye(mask.size, dtype=np.float32):
            alone = params_flops.of(PAPER, treedef.unflatten([*leaves[:d], row, *leaves[d + 1 :]]))
            paths.append((alone.params - base.params, alone.flops - base.flops))
    assert len(paths) == 2 + 3 + 4 + 5 + 4 * 7
    params, flops = np.sum(paths, 0)
    everything = params_flops.of(PAPER, PAPER.all_on())
    assert (everything.params, everything.flops) == (base.params + params, base.flops + flops)
    assert everything.params == 1_289_162


# -- growth: exponentially many networks in a model that grows slowly (paper, introduction) -------


def test_growth_with_the_number_of_ops():
    numbers = range(1, 7)
    ops = [("sep3x3",) * n for n in numbers]
    params = [all_on_params(ops=names) for names in ops]
    archs = [spaces.make("cell", ops=names).count() for names in ops]
    # Affine in n: each op adds the same parameters.
    assert np.all(np.diff(params) == params[1] - params[0])
    assert params[1] > params[0]
    # n + n (n - 1) / 2 sets of ops in each of 4 blocks.
    assert archs == [9765 * (n * (n + 1) // 2) ** 4 for n in numbers]
    # Six ops: 21^4 = 194,481 times the networks for less than six times the parameters.
    assert archs[5] == 194_481 * archs[0]
    assert params[5] < 6 * params[0]
    # The first op alone multiplies the networks by 81, and each later one by more than it
    # multiplies the parameters.
    for n in range(5):
        assert archs[n + 1] / archs[n] > params[n + 1] / params[n]


def test_growth_with_the_number_of_blocks():
    blocks = range(1, 6)
    archs = [spaces.make("cell", num_blocks=n).count() for n in blocks]
    params = [all_on_params(num_blocks=n) for n in blocks]
    # Block i multiplies by (2^(2+i) - 1) * 28, the first one by 3 * 28 = 84, later ones by more.
    assert archs[0] == 84
    assert [b // a for a, b in itertools.pairwise(archs)] == [
        (2 ** (2 + i) - 1) * 28 for i in range(1, 5)
    ]
    assert all(b >= 84 * a for a, b in itertools.pairwise(archs))
    # The parameters are a polynomial of degree two: its second differences are one number.
    second = np.diff(params, 2)
    assert np.all(second == second[0])
    # A block more takes one input more: in the cell (16 channels) a slice of the concat's
    # convolution and of its batch norm.
    assert second[0] == 16 * 16 + 2 * 16
