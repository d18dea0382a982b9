"""The spaces of NAS-Bench-201 and NAS-Bench-Macro: published costs, strings, networks."""

import collections
import csv
import functools
import itertools
import json
import os
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import params_flops
from nas_jax.spaces import params as params_lib
from tests.spaces.test_cell import random_variables

pytestmark = pytest.mark.system

MACRO, NB201 = spaces.make("nasbench_macro"), spaces.make("nasbench201")
SMALL = {  # the same spaces, quick to trace
    "nasbench_macro": spaces.make("nasbench_macro", stages=(1, 2), head=3),
    "nasbench201": spaces.make("nasbench201", num_cells=1, num_stages=2),
}
IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
CONV = "nor_conv_3x3"
SIZE = {"num_classes": 3, "filters": 4}


def cell201(*ops):
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def stack(archs):
    return jax.tree.map(lambda *masks: np.stack(masks), *archs)


def table(name):
    path = Path(os.environ.get("NAS_BENCH_DIR", "")) / name
    if not path.is_file():
        pytest.skip(f"needs {name} in $NAS_BENCH_DIR")
    return path


# -- published numbers ----------------------------------------------------------------------------


def macro_by_hand(text):
    """Parameters and multiply-adds of the benchmark's network, layer by layer."""
    channels, size = 32, 32
    params, flops = 3 * 9 * 32 + 64, 3 * 9 * 32 * 32**2
    for digit, stride in zip(text, (2, 1, 2, 1, 1, 2, 1, 1)):
        out, reduced = channels * stride, size // stride
        if digit != "0":
            expansion, kernel = ((3, 9), (6, 25))[int(digit) - 1]
            wide = expansion * channels
            params += channels * wide + kernel * wide + wide * out + 2 * (2 * wide + out)
            flops += channels * wide * size**2 + (kernel * wide + wide * out) * reduced**2
        elif stride == 2:
            params += channels * out + 2 * out
            flops += channels * out * reduced**2
        channels, size = out, reduced
    params += 256 * 1280 + 2 * 1280 + 1280 * 10 + 10
    return params, flops + 256 * 1280 * size**2 + 1280 * 10


@pytest.mark.parametrize(
    ("text", "params", "flops"),
    [("00000000", 387_882, 7_713_280), ("00000021", 1_623_082, 27_312_640)],
)
def test_macro_costs_as_published(text, params, flops):
    assert params_flops.of(MACRO, MACRO.from_str(text), filters=32) == (params, flops)
    assert macro_by_hand(text) == (params, flops)


def test_macro_costs_by_hand_for_every_architecture():
    archs = MACRO.from_decisions(np.concatenate(list(MACRO.enumerate_decisions())))
    found = params_flops.of(MACRO, jax.device_get(archs), filters=32)
    texts = ["".join(digits) for digits in itertools.product("012", repeat=8)]
    assert len(texts) == MACRO.count() == 6561
    np.testing.assert_array_equal(np.stack(found, 1), list(map(macro_by_hand, texts)))


def test_macro_table_is_reproduced_in_every_row():
    rows = json.loads(table("nas-bench-macro_cifar10.json").read_text())
    found = params_flops.of(MACRO, stack([MACRO.from_str(text) for text in rows]), filters=32)
    np.testing.assert_array_equal(found.params, [row["params"] for row in rows.values()])
    np.testing.assert_array_equal(found.flops, [row["flops"] for row in rows.values()])


@pytest.mark.parametrize(
    ("ops", "printed"),
    [(["none"] * 6, 0.073), ([CONV] * 6, 1.532), (["skip_connect"] * 5 + [CONV], 0.316)],
)
def test_nasbench201_costs_as_published(ops, printed):
    arch = NB201.from_str(cell201(*ops))
    found = params_flops.of(NB201, arch, filters=16).params
    # Stem, two residual blocks, last batch norm and classifier, by hand:
    fixed = (432 + 32) + (13_824 + 128 + 512) + (55_296 + 256 + 2048) + 128 + 650
    cells = sum(5 * (9 * c * c + 2 * c) for c in (16, 32, 64)) * ops.count(CONV)
    assert found == fixed + cells
    assert round(found / 1e6, 3) == printed


def test_nasbench201_table_is_reproduced_in_every_row():
    with open(table("nasbench201_cifar10.csv"), newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["params_M"]]
    found = params_flops.of(NB201, stack([NB201.from_str(row["arch"]) for row in rows]), filters=16)
    assert len(rows) > 1000
    assert [f"{p / 1e6:.3f}" for p in found.params] == [
        f"{float(row['params_M']):.3f}" for row in rows
    ]


@pytest.mark.parametrize(
    "ops", [["none"] * 6, ["none"] * 5 + [CONV], ["none", "none", CONV, "none", "none", CONV]]
)
def test_a_network_of_zeros_has_the_multiply_adds_of_its_options(ops):
    """Though its logits hardly depend on the images."""
    space = SMALL["nasbench201"]
    text = cell201(*ops)
    net = space.standalone(text, num_classes=3, filters=4)
    built = params_lib.of_net(net, (8, 8, 3))
    size = {"filters": 4, "image_size": 8, "num_classes": 3}
    expected = params_flops.of(space, space.from_str(text), **size)
    assert sum(built.flops.values()) == expected.flops
    assert not built.others


def test_cost_per_option_adds_up():
    parts = params_flops.per_option(MACRO, filters=32)
    total = parts[None].params + sum(
        parts[f"layer{i}"].params[int(d)] for i, d in enumerate("0012" * 2)
    )
    assert total == macro_by_hand("0012" * 2)[0]
    assert parts["layer6"].params.tolist() == [0, 403_712, 831_488]


# -- strings and isomorphism ----------------------------------------------------------------------


@pytest.mark.parametrize("space", [MACRO, NB201, *SMALL.values()])
def test_strings_round_trip(space):
    archs = jax.device_get(space.sample(jax.random.key(0), (30,)))
    for i in range(30):
        arch = jax.tree.map(lambda mask, i=i: np.asarray(mask[i]), archs)
        jax.tree.map(np.testing.assert_array_equal, space.from_str(space.to_str(arch)), arch)
    everything = space.all_on()
    back = space.from_str(space.to_str(everything))
    jax.tree.map(np.testing.assert_array_equal, back, everything)
    assert not space.contains(everything)


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (MACRO, "0000000", "has 7 layers, the space has 8"),
        (MACRO, "00000003", "a layer is a digit, 0 .identity., 1 .mb3_k3. or 2"),
        (MACRO, "01,10,0,0,0,0,0,0", "is not canonical: '01,01,0,0,0,0,0,0' is"),
        (MACRO, "0,0,0,0,0,0,0,0", "is not canonical: '00000000' is"),
        (NB201, "|none~0|", "has 1 nodes, the space has 3"),
        (NB201, cell201(*["conv"] * 6), "'conv' is none of the ops none, skip_connect"),
        (NB201, "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "node 2 must have an op from"),
        (NB201, cell201(*["none"] * 6)[1:], "is not canonical"),
    ],
)
def test_bad_strings(space, text, message):
    with pytest.raises(ValueError, match=message):
        space.from_str(text)


@pytest.mark.parametrize(
    ("ops", "other"),
    [
        # A skip to a node, then an op, or the op directly: |c~0| + |skip, c| = input -> c.
        (
            ["skip_connect", "none", CONV, "none", "none", "skip_connect"],
            ["none"] * 3 + [CONV, "none", "none"],
        ),
        # Nothing comes of nothing.
        (
            ["none", CONV, "avg_pool_3x3", "none", CONV, "skip_connect"],
            ["none"] * 3 + [CONV, "none", "none"],
        ),
    ],
)
def test_isomorphs_by_hand(ops, other):
    same = NB201.isomorph(cell201(*ops))
    assert same == NB201.isomorph(cell201(*other)) == "nor_conv_3x3(input)"


def published_rule(ops):
    """The benchmark's own: skips and nothing are simplified, sums are not."""
    nodes, ops = ["0"], iter(ops)
    for j in (1, 2, 3):
        terms = []
        for node, op in zip(nodes[:j], ops):
            kept = node if op == "skip_connect" else f"({node})@{op}"
            terms.append("#" if op == "none" or node == "#" else kept)
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_isomorphism_classes():
    """6,466 by the published rule, none of which is split by ours."""
    names = NB201.option_names(NB201.choices[0][0])
    ours = collections.defaultdict(set)
    for ops in itertools.product(names, repeat=6):
        ours[published_rule(ops)].add(NB201.isomorph(cell201(*ops)))
    assert len(ours) == 6466
    assert all(len(classes) == 1 for classes in ours.values())
    assert len(set.union(*ours.values())) == 4930


def test_isomorphs_compute_the_same():
    variables, apply = weights(CELL), jax.jit(CELL.supernet(**SIZE).apply)
    a = ["skip_connect", CONV, "none", "avg_pool_3x3", "none", "skip_connect"]
    b = ["skip_connect", CONV, "none", "none", "avg_pool_3x3", "skip_connect"]
    # Node 1 is the input, so an op of node 1 is an op of the input; but its weights are others.
    outputs = [apply(variables, IMAGES, NB201.from_str(cell201(*ops))) for ops in (a, b)]
    assert NB201.isomorph(cell201(*a)) == NB201.isomorph(cell201(*b))
    np.testing.assert_allclose(*outputs, atol=1e-5)


# -- networks -------------------------------------------------------------------------------------


CHAIN = spaces.make("nasbench_macro", stages=(2,), head=3)  # a layer that reduces, and one not
CELL = spaces.make("nasbench201", num_cells=1, num_stages=1)


@functools.cache
def weights(space):
    return random_variables(space.supernet(**SIZE), IMAGES, space.all_on())


@functools.cache
def logits_and_gradient(net):
    """Their function of variables, and of an architecture: compiled once."""

    def loss(variables, *archs):
        logits = net.apply(variables, IMAGES, *archs)
        return jnp.sum(jnp.sin(logits)), logits

    return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize(
    ("space", "execution", "text"),
    [
        (CHAIN, "masked", "12"),
        (CHAIN, "switch", "12"),
        (
            CELL,
            "dispatch",
            cell201(CONV, "none", "avg_pool_3x3", "none", "nor_conv_1x1", "skip_connect"),
        ),
    ],
)
def test_masked_supernet_is_the_standalone_network(space, execution, text):
    variables, alone = weights(space), space.standalone(text, **SIZE)
    net = space.supernet(**SIZE, execution=execution)
    whole, found = logits_and_gradient(net)(variables, space.from_str(text))
    own = {"params": space.subnet(variables["params"], text)}
    gradient, expected = logits_and_gradient(alone)(own)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    whole = flax.traverse_util.flatten_dict(whole)
    for path, leaf in flax.traverse_util.flatten_dict(gradient).items():
        scale = max(1, np.abs(leaf).max())
        np.testing.assert_allclose(whole.pop(path), leaf, rtol=1e-3, atol=1e-4 * scale)
    assert whole
    assert all(not np.any(leaf) for leaf in whole.values())  # of options that are off


@pytest.mark.parametrize("name", SMALL)
def test_costs_are_those_of_the_standalone_network(name):
    space = SMALL[name]
    arch = jax.device_get(space.sample(jax.random.key(5)))
    net = space.standalone(arch, **SIZE)
    variables = jax.eval_shape(net.init, jax.random.key(0), IMAGES)
    found = params_flops.of(space, arch, filters=4, image_size=8, num_classes=3)
    assert found.params == sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_any_width_depth_and_image_size():
    for space, size in ((spaces.make("nasbench201", num_cells=1), 12), (MACRO, 24)):
        net = space.supernet(num_classes=7, filters=6)
        images = jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)
        shape = jax.eval_shape(net.init_with_output, jax.random.key(0), images, space.all_on())[0]
        assert shape.shape == (2, 7)
    with pytest.raises(ValueError, match=r"images of 30x30 pixels .*multiples of 4"):
        NB201.check_image_size(30)


@pytest.mark.parametrize("stages", [(2, 0), (1,), (), [], (2, 2.5), ("2", 3), (True, 2), 3, "23"])
def test_what_are_no_stages(stages):
    with pytest.raises(ValueError, match=r"space.stages=.* must be whole numbers above 0, of two"):
        spaces.make("nasbench_macro", stages=stages)


@functools.cache
def scored():
    """The functions from weights and architectures to logits, with shared prefixes and alone."""
    net = SMALL["nasbench_macro"].supernet(**SIZE, execution="switch")

    def shared(variables, archs):
        return net.logits_of_each(variables, IMAGES, archs)

    def alone(variables, archs):
        return jax.lax.map(lambda arch: net.apply(variables, IMAGES, arch), archs)

    return jax.jit(shared), jax.jit(alone)


@pytest.mark.parametrize("order", ["sorted", "random"])
def test_shared_prefixes_change_no_score(order):
    """Two architectures in the list are equal, and others share up to their last layer."""
    space, (shared, alone) = SMALL["nasbench_macro"], scored()
    decisions = np.concatenate(list(space.enumerate_decisions()))
    decisions = np.concatenate([decisions[:9], decisions[8:9], decisions[20:]])
    if order == "random":
        decisions = np.random.default_rng(0).permutation(decisions)
    small = jax.tree.map(lambda w: w / 2, weights(space))  # so logits are below 1
    given = small, space.from_decisions(decisions)
    np.testing.assert_allclose(shared(*given), alone(*given), atol=1e-6)
