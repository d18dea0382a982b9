"""Chains of mixed ops: costs by hand and of a benchmark, widths, scaling, any size of images."""

import functools
import math
import re

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import latency, params_flops, scaling, widths
from nas_jax.nn import layers
from nas_jax.spaces import ops as ops_lib
from nas_jax.spaces import params as params_lib
from tests.spaces.test_cell import random_variables

# 28x28 grey pixels, 7 classes; a stage that changes the width alone.
SIZE = {"image_size": 28, "num_classes": 7, "channels": 1}
OPS = ("identity", "mb3_k3", "mb6_k7", "maxpool")
CHAIN = spaces.chain(stages=((1, 1, 1), (2, 3, 1), (2, 3, 2)), ops=OPS, head=2)
TEXT = "mb3_k3|maxpool|mb6_k7|identity|mb3_k3"
OPTIONS = {"num_classes": 7, "filters": 4}


def shapes_of(text, own=None, filters=4):
    net = CHAIN.standalone(text, num_classes=7, filters=filters, widths=own)
    return params_lib.shapes_by_path(params_lib.params_shape(net, (28, 28, 1)))


def test_it_is_nas_bench_macro_with_its_stages():
    """Whose published costs are tested in test_benchmark_spaces."""
    macro = spaces.make("nasbench_macro")
    stages = tuple((layers, 2 * 2**s, 2) for s, layers in enumerate(macro.stages))
    same = spaces.chain(stages=stages, ops=("identity", "mb3_k3", "mb6_k5"), head=40)
    assert same.count() == macro.count() == 6_561
    archs = jax.device_get(macro.sample(jax.random.key(0), (50,)))
    ours, theirs = (params_flops.of(space, archs, filters=32) for space in (same, macro))
    np.testing.assert_array_equal(ours.params, theirs.params)
    np.testing.assert_array_equal(ours.flops, theirs.flops)


def test_stages_as_numbers():
    assert spaces.chain(stages=[2, 3], ops=OPS).stages == ((2, 1, 1), (3, 2, 2))
    made = spaces.make("chain", stages=[[2, 1, 1], 3], ops=["identity"])
    assert made == spaces.chain(stages=(2, 3), ops=("identity",))
    assert made.shapes == ((1, 1), (1, 1), (2, 2), (2, 1), (2, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": ()}, r"space.stages=\(\) must be whole numbers above 0, or triples"),
        ({"stages": (0,)}, r"space.stages=\(0,\) must be"),
        ({"stages": ((1, 2),)}, r"space.stages=\(\(1, 2\),\) must be"),
        ({"stages": ((1, 2, 0),)}, "must be whole numbers above 0"),
        ({"stages": "22"}, "space.stages='22' must be"),
        ({"ops": ()}, "space.ops has 0 ops; 1 to 16"),
        ({"ops": ("mb3_k4",)}, "space.ops='mb3_k4' is none of .*nearest: 'mb3_k"),
        ({"ops": ("math:pi",)}, "space.ops='math:pi' is a float; an op is called"),
        ({"ops": (lambda features: None,)}, "a function without a name: define it by `def`"),
        ({"ops": None}, "space.ops=None must be a tuple of names or functions"),
        ({"ops": "mb3_k3"}, "space.ops='mb3_k3' must be a tuple of names or functions"),
        ({"ops": {"identity"}}, "space.ops={'identity'} must be a tuple"),
        ({"ops": (None,)}, "space.ops=None is a NoneType; an op is called"),
        ({"stages": None}, "space.stages=None must be whole numbers above 0, or triples"),
        ({"stages": (("1", 1, 1),)}, r"space.stages=\(\('1', 1, 1\),\) must be"),
        ({"stages": (2, 3.0)}, r"space.stages=\(2, 3.0\) must be"),
        ({"stem_stride": 0}, "space.stem_stride=0 must be a whole number from 1 on"),
        ({"stem_stride": "2"}, "space.stem_stride='2' must be a whole number from 1 on"),
        ({"stem_stride": True}, "space.stem_stride=True must be a whole number"),
        ({"head": -1}, "space.head=-1 must be a whole number from 0 on"),
        ({"head": 0.5}, "space.head=0.5 must be a whole number from 0 on, in multiples of F"),
    ],
)
def test_what_is_refused(fields, message):
    with pytest.raises(ValueError, match=message) as refused:
        spaces.chain(**{"stages": (1,), "ops": ("identity",), **fields})
    assert "\n" not in str(refused.value)


def test_costs_by_hand():
    """Of the network `mb3_k3|maxpool|mb6_k7|identity|mb3_k3` with F = 4."""
    arch = CHAIN.from_str(TEXT)
    found = params_flops.of(CHAIN, arch, filters=4, **SIZE)
    large, small = 28 * 28, 14 * 14
    kernels = {
        large: 9 * 4 + (4 * 12 + 9 * 12 + 12 * 4) + 4 * 12 + (12 * 72 + 49 * 72 + 72 * 12),
        small: 12 * 12 + (12 * 36 + 9 * 36 + 36 * 12) + 12 * 8,
    }
    norms = 4 + (12 + 12 + 4) + 12 + (72 + 72 + 12) + 12 + (36 + 36 + 12) + 8
    assert found.flops == sum(places * size for places, size in kernels.items()) + 8 * 7
    assert found.params == sum(kernels.values()) + 2 * norms + 8 * 7 + 7


@pytest.mark.parametrize("size", [24, (28, 24), (33, 31), 5])
def test_any_size_of_images_goes_through_space_and_costs(size):
    options = {"filters": 4, "image_size": size, "num_classes": 7, "channels": 1}
    found = params_flops.of(CHAIN, CHAIN.from_str(TEXT), **options)
    height, width = (size, size) if isinstance(size, int) else size
    built = params_lib.of_net(CHAIN.standalone(TEXT, **OPTIONS), (height, width, 1))
    assert found.flops == sum(built.flops.values())
    assert found.params == sum(map(math.prod, built.shapes.values()))


def test_scaling_and_latency():
    [found] = scaling.fit(CHAIN, TEXT, max_flops=20e6, multiple=2, **SIZE)
    arch = CHAIN.from_str(TEXT)
    assert (found.params, found.flops) == params_flops.of(
        CHAIN, arch, filters=found.filters, **SIZE
    )
    wider = params_flops.of(CHAIN, arch, filters=found.filters + 2, **SIZE)
    assert found.flops <= 20e6 < wider.flops
    with pytest.raises(ValueError, match="ChainSpace has no other depth"):
        scaling.fit(CHAIN, TEXT, max_flops=20e6, depths=(2,), **SIZE)
    assert latency.measure(CHAIN, TEXT, filters=4, repeats=1, **SIZE).median > 0


def test_widths_are_those_of_the_network():
    assert CHAIN.tensors(TEXT) == (
        "tensor0", "layer0/1", "tensor1", "layer2/2", "tensor2", "layer4/1", "head"
    )  # fmt: skip
    found = widths.Widths(CHAIN, TEXT, shapes_of(TEXT), image_size=28)
    assert found.full.tolist() == [4, 12, 12, 72, 12, 36, 8]
    own = (3, 7, 5, 11, 6, 9, 2)
    shapes = shapes_of(TEXT, own)
    assert found.cost(own) == sum(CHAIN.multiply_adds(*item, 28) for item in shapes.items())
    net = CHAIN.standalone(TEXT, **OPTIONS, widths=own)
    built = params_lib.of_net(net, (28, 28, 1))
    assert found.cost(own) == sum(built.flops.values())
    assert params_flops.of_network(CHAIN, _zeros(shapes), 28).flops == found.cost(own)
    assert found.cost(found.scaled(found.full, 0.5 * found.cost(found.full))) <= (
        0.5 * found.cost(found.full)
    )


def _zeros(shapes):
    return flax.traverse_util.unflatten_dict(
        {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    )


def test_widths_of_other_ops_are_refused():
    chain = spaces.chain(stages=(1,), ops=("identity", "sep3x3"))
    for space, op in (
        (chain, "sep3x3"),
        (spaces.chain(stages=(1,), ops=(Attention,)), "Attention"),
    ):
        message = rf"^space.ops has '{op}': the widths of its layers are not known, .* mb6_k7 can$"
        with pytest.raises(ValueError, match=message):
            space.layers("identity")
    cell = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "mb3_k3"))
    with pytest.raises(ValueError, match=r"space.ops has 'mb3_k3': the widths of its layers"):
        cell.layers("0>mb3_k3")


def test_candidates_share_beginnings_and_equal_networks_alone():
    space = spaces.chain(stages=(1, 2), ops=("identity", "mb3_k3", "maxpool"))
    images = np.random.default_rng(0).normal(size=(4, 12, 12, 1)).astype(np.float32)
    net = space.supernet(**OPTIONS, execution="switch")
    variables = random_variables(net, images, space.all_on())
    texts = ["identity|mb3_k3|maxpool", "identity|mb3_k3|mb3_k3", "mb3_k3|maxpool|identity"]
    shared = jax.jit(net.logits_of_each)(variables, images, space.from_strs(texts))
    for logits, text in zip(shared, texts):
        own = {"params": space.subnet(variables["params"], text)}
        alone = jax.jit(space.standalone(text, **OPTIONS).apply)(own, images)
        np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-4)


# -- ops -------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention over pixels: two of its four products have no kernel."""

    features: int

    @nn.compact
    def __call__(self, x):
        flat = x.reshape(*x.shape[:2], -1, x.shape[-1])
        q, k, v = (nn.Dense(self.features, use_bias=False)(flat) for _ in range(3))
        weights = nn.softmax(jnp.einsum("gnic,gnjc->gnij", q, k))
        return jnp.einsum("gnij,gnjc->gnic", weights, v).reshape(*x.shape[:-1], self.features)


def doubled(features):
    """Make an op without a scope or a keyword, and with a product of its own."""
    return lambda x: jnp.einsum("gnhwc,gnhwd->gnhwc", x, x)  # x sum(x): one product a value


def test_products_without_a_kernel_belong_to_their_option():
    space = spaces.chain(stages=(1,), ops=("identity", Attention, doubled))
    found = params_flops.per_option(space, filters=4, image_size=8, num_classes=7)
    pixels = 64
    attention = 3 * pixels * 4 * 4 + 2 * pixels * pixels * 4
    assert found["layer0"].flops.tolist() == [0, attention, pixels * 4]
    assert found["layer0"].params.tolist() == [0, 3 * 16, 0]
    # A network that was trained costs as much.
    params = params_lib.params_shape(space.standalone("Attention", **OPTIONS), (8, 8, 3))
    whole = params_flops.of(
        space, space.from_str("Attention"), filters=4, image_size=8, num_classes=7
    )
    assert params_flops.of_network(space, params, 8, text="Attention", filters=4) == whole


def test_a_cell_takes_functions_files_and_repeats(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from nas_jax.nn.layers import ConvNorm as Mine\n")
    ops = ("identity", f"{path}:Mine", functools.partial(ops_lib.InvertedResidual, size=5))
    space = spaces.make("cell", num_cells=1, num_blocks=1, ops=(*ops, f"{path}:Mine"))
    names = ("identity", "Mine", "InvertedResidual", "Mine#2")
    assert space.option_names(space.choices[0]["ops"]) == names
    text = "0>Mine,Mine#2"
    assert space.to_str(space.from_str(text)) == text
    found = params_flops.per_option(space, filters=4, image_size=8)["block0_ops"].params
    assert found.tolist() == [0, 9 * 16 + 8, 4 * 24 * 2 + 25 * 24 + 2 * (24 + 24 + 4), 9 * 16 + 8]


def test_ops_of_different_shapes_are_refused():
    def narrow(features):
        return nn.Dense(features - 1)

    space = spaces.chain(stages=(1,), ops=("identity", narrow))
    with pytest.raises(ValueError, match=r"one shape and dtype .* 32, 16\).* at place 1 .*15"):
        params_flops.of(space, space.all_on())


BROKEN = """
import flax.linen as nn
class Module(nn.Module):
    features: int
    @nn.compact
    def __call__(self, x):
        return x.reshape(3)
def building(features):
    return {}["x"]
def function(features):
    def inside(x):
        raise ValueError("at least\\n100 pixels")
    return inside
def strided(features, *, stride=1):
    return Module(features)
def nothing(features):
    return None
"""


@pytest.mark.parametrize("space", ["chain", "cell"])
@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("Module", "op='Module': TypeError in {path}, line 7: cannot reshape"),
        ("building", "op='building': KeyError in {path}, line 9: 'x'$"),
        (
            "function",
            "op='function.<locals>.inside': ValueError in {path}, line 12: at least 100 p",
        ),
        ("strided", "op='Module': TypeError in {path}, line 7: "),
        ("nothing", "op='nothing' made a NoneType, which cannot be called"),
    ],
)
def test_an_op_that_raises_is_named_with_its_file_and_line(tmp_path, space, op, message):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN)
    fields = {"chain": {"stages": ((1, 2, 2),)}, "cell": {"num_cells": 1, "num_blocks": 1}}[space]
    made = spaces.make(space, ops=("identity", f"{path}:{op}"), **fields)
    message = message.format(path=path)
    with pytest.raises(ValueError, match=r"^images of 8x8 pixels [^\n]+$") as error:
        params_flops.of(made, made.all_on(), filters=4, image_size=8)
    assert re.search(message, str(error.value))
    assert re.search(message, str(spaces.check(made)))


@pytest.mark.parametrize(("axes", "mixes"), [((2, 3), False), ((1, 2), True)])
def test_an_op_that_mixes_images_is_found(axes, mixes):
    """(1, 2) would be the pixels of [N, H, W, C]; here axes are [G, n, H, W, C]."""

    def gated(features):
        return lambda x: x * jnp.mean(x, axes, keepdims=True)

    gated.__qualname__ = f"gated{axes[0]}{axes[1]}"
    space = spaces.chain(stages=((1, 1, 1),), ops=("identity", gated))
    broken = [f.problem for f in spaces.check(space).broken if f.rule.startswith("images do not")]
    assert bool(broken) == mixes
    assert not mixes or "an op mixes images (axes are [G, n, H, W, C]" in broken[0]


def test_an_op_that_does_not_heed_its_stride_is_refused():
    deaf = spaces.chain(stages=((1, 1, 2),), ops=(of_stride_one,))
    with pytest.raises(ValueError, match=r"layer 0: ops of_stride_one give .8, 8, 16., not .4, 4,"):
        params_flops.of(deaf, deaf.all_on(), filters=4, image_size=8)


def of_stride_one(features, *, norm, kernel_init, stride):
    """An op that takes `stride`, and leaves the resolution as it is."""
    return layers.Conv(features, (1, 1), norm, kernel_init)


def test_scaling_ends_where_costs_are_no_polynomial():
    """An op whose width falls back now and then, as rounding to multiples of eight makes it."""
    rounding = spaces.chain(stages=((1, 1, 1),), ops=(to_eights,))
    text, size = rounding.to_str(rounding.all_on()), {"image_size": 8}
    (found,) = scaling.fit(rounding, text, max_params=2000, **size)

    def params(filters):
        return params_flops.of(rounding, rounding.all_on(), filters=filters, **size).params

    assert found.params == params(found.filters) <= 2000 < params(found.filters + 1)


def to_eights(features, *, norm, kernel_init):
    """An op of `features` rounded down and up again to a multiple of eight inside."""
    inside = (6 * features + 4) // 8 * 8 or 8
    unit = {"norm": norm, "kernel_init": kernel_init}
    return layers.Pair(
        (
            layers.partial(layers.Conv, inside, (1, 1), **unit),
            layers.partial(layers.Conv, features, (1, 1), **unit),
        )
    )
