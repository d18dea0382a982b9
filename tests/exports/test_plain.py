"""Networks in plain Flax equal the networks that they are written from."""

import ast

import flax.traverse_util
import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.data import augment
from nas_jax.exports import forms, plain, renaming
from nas_jax.nn.init import init
from tests.exports.finished import assert_same

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
INPUTS = plain.Inputs((16, 16, 3), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), tuple("abcde"))
OPS = ("identity", "mb3_k3", "sep5x5", "maxpool", "conv7x7", "avgpool")
TWICE = ("sep3x3", "mb3_k3", "maxpool", "conv7x7", "sep3x3")
SPACES = {
    "cell": ("cell", {"num_cells": 2, "num_blocks": 2, "cells_per_stage": 1}),
    "untied": (
        "cell",
        {"num_cells": 2, "num_blocks": 2, "stem_stride": 4, "tied": False, "ops": TWICE},
    ),
    "nasbench201": ("nasbench201", {"num_cells": 1, "num_stages": 2}),
    "nasbench_macro": ("nasbench_macro", {"stages": (1, 2), "head": 2}),
    "chain": ("chain", {"stages": ((2, 1, 1), (2, 2, 2)), "ops": OPS, "stem_stride": 2}),
    "untied, twice": (
        "cell",
        {"num_cells": 2, "num_blocks": 1, "tied": False, "ops": ("sep3x3", "maxpool", "sep3x3")},
    ),
    "widths": (
        "chain",
        {"stages": (1, 2), "ops": ("identity", "mb3_k3", "maxpool"), "head": 2},
    ),
}
# Each op and each way to join them: every option at once, and legal architectures.
SOME = ("cell", "untied, twice", "nasbench_macro", "widths")
CASES = [
    *((name, arch, False, False) for name in SPACES for arch in ("all_on", 1)),
    *((name, 2, True, False) for name in ("untied", "nasbench201", "chain")),
    *((name, 1, False, True) for name in SOME),
]


def with_statistics(variables):
    """The same kernels, with batch norms as after a training: nothing is 0 or 1."""
    random = np.random.default_rng(1)

    def drawn(path, leaf):
        if path[-1] in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return leaf if leaf.ndim > 1 else random.normal(0, 0.3, leaf.shape).astype(np.float32)

    return flax.traverse_util.path_aware_map(drawn, variables)


def made(name, arch, relu_before_bn, has_widths):
    kind, fields = SPACES[name]
    space = spaces.make(kind, **fields)
    drawn = space.all_on() if arch == "all_on" else space.sample(jax.random.key(arch))
    text = space.to_str(jax.device_get(drawn))
    widths = np.resize([2, 3, 5], len(space.tensors(text))) if has_widths else None
    options = {"num_classes": 5, "filters": 4, "bn": "running", "widths": widths}
    net = space.standalone(text, relu_before_bn=relu_before_bn, **options)
    variables = with_statistics(init(jax.random.key(0), net, np.zeros((1, 16, 16, 3), np.float32)))
    return net, variables, plain.of(net, variables, INPUTS, text)


@pytest.mark.parametrize(("name", "arch", "relu_before_bn", "has_widths"), CASES)
def test_plain_networks_equal_networks(name, arch, relu_before_bn, has_widths):
    net, variables, (source, arrays) = made(name, arch, relu_before_bn, has_widths)
    module = plain.module_of(source).Network()
    own = flax.traverse_util.unflatten_dict(arrays, sep=renaming.SEPARATOR)
    standardised = augment.standardise(IMAGES, INPUTS.mean, INPUTS.std)
    wanted = np.asarray(jax.jit(net.apply)(variables, standardised))
    assert_same(np.asarray(jax.jit(module.apply)(own, IMAGES)), wanted)
    assert sum(a.size for a in arrays.values()) == sum(x.size for x in jax.tree.leaves(variables))


def test_a_plain_network_can_be_trained_further():
    """Its batch norms then take statistics of the images, and record them."""
    net, variables, (source, arrays) = made("cell", 1, False, False)
    module = plain.module_of(source).Network()
    own = flax.traverse_util.unflatten_dict(arrays, sep=renaming.SEPARATOR)
    standardised = augment.standardise(IMAGES, INPUTS.mean, INPUTS.std)
    logits, now = module.apply(own, IMAGES, train=True, mutable=["batch_stats"])
    wanted, then = net.apply(variables, standardised, mutable=["batch_stats"])
    assert_same(np.asarray(logits), np.asarray(wanted))
    then = renaming.plain(net.space, jax.device_get({"batch_stats": then["batch_stats"]}))
    for name, value in renaming.flat(jax.device_get(now)).items():
        np.testing.assert_allclose(value, then[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        IMAGES.astype(np.int32),
        IMAGES[:, :8],
        IMAGES[..., :1],
        IMAGES[0],
    ],
)
def test_a_plain_network_takes_pixels_of_its_size_alone(images, tmp_path):
    _, _, (source, arrays) = made("cell", 1, False, False)
    forms.save_params(tmp_path / forms.PARAMS, arrays)
    module = plain.module_of(source)
    variables = module.load(tmp_path / forms.PARAMS)[1]
    for batch in (IMAGES, IMAGES):  # the second compiles nothing
        assert module.predict(batch, tmp_path / forms.PARAMS)[1].shape == (6, 5)
        assert module._probabilities._cache_size() == 1
    for predict in (
        lambda: module.predict(images, tmp_path / forms.PARAMS),
        lambda: module.Network().apply(variables, images),
    ):
        with pytest.raises(ValueError, match=r"must be pixels 0 to 255, uint8 \[B, 16, 16, 3\]"):
            predict()


@pytest.mark.parametrize("name", SPACES)
def test_the_source_is_plain_and_has_no_more_than_it_needs(name):
    """It imports no nas_jax, uses all that it defines, and names layers as the string does."""
    net, _, (source, arrays) = made(name, 1, False, False)
    tree = ast.parse(source)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(module.startswith("nas_jax") for module in imported)
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert defined - used <= {"predict"}
    ops = {
        op
        for op in OPS + TWICE
        if op in net.arch and not any(op in p for p in ("maxpool", "avgpool", "identity"))
    }
    assert all(any(op in name for name in arrays) for op in ops)
    assert not any(part.isdigit() for name in arrays for part in name.split("/"))


def test_the_source_of_a_cell_reads_as_its_architecture():
    space = spaces.make("cell", num_cells=1, num_blocks=2, ops=("identity", "sep3x3", "maxpool"))
    net = space.standalone("1>sep3x3,maxpool|0,2>identity", num_classes=2, filters=4, bn="running")
    variables = init(jax.random.key(0), net, np.zeros((1, 8, 8, 1), np.float32))
    source, arrays = plain.of(
        net, variables, plain.Inputs((8, 8, 1), (0.5,), (0.2,), ("a", "b")), ""
    )
    for line in (
        'x = ConcatConv(features, norm, name="block0_inputs")([cell_before])',
        'SeparableConv(features, features, (3, 3), norm, name="block0_sep3x3")(x)',
        "+ max_pool(x)",
        'x = ConcatConv(features, norm, name="block1_inputs")([previous_cell, block0])',
        "block1 = x",
        "return [previous_cell, cell_before, block0, block1]",
    ):
        assert f" {line}\n" in source
    assert arrays["params/cell0/block1_inputs/conv/kernel"].shape == (1, 1, 8, 4)
    assert arrays["params/cell0/block0_sep3x3/unit0/depthwise/kernel"].shape == (3, 3, 1, 4)


def own_op(features):
    return lambda x: x


@pytest.mark.parametrize(
    ("fields", "text", "message"),
    [
        (
            {"ops": ("identity", own_op), "stages": (2,)},
            "own_op|identity",
            "the op 'own_op' is not",
        ),
        ({"ops": ("identity", own_op), "stages": (2,)}, "identity|identity", None),
    ],
)
def test_only_ops_that_are_on_need_a_plain_form(fields, text, message):
    net = spaces.make("chain", **fields).standalone(text, num_classes=5, filters=4, bn="running")
    variables = init(jax.random.key(0), net, np.zeros((1, 16, 16, 3), np.float32))
    if message is None:
        assert plain.of(net, variables, INPUTS, text).source
        return
    with pytest.raises(ValueError, match=message):
        plain.of(net, variables, INPUTS, text)
