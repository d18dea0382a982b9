"""The cell space as a set: strings, choices, moves, what it refuses. Networks: test_cell."""

import dataclasses

import jax
import numpy as np
import pytest

from nas_jax import spaces

OPS = ("identity", "sep3x3", "conv7x7", "maxpool", "avgpool")
SPACE = spaces.make("cell", num_blocks=2, ops=OPS)
ARCHS = ["0>identity|0>identity", "0,1>sep3x3,conv7x7|1,2>conv7x7,avgpool"]

# -- strings --------------------------------------------------------------------------------------


def test_strings_round_trip():
    archs = jax.device_get(SPACE.sample(jax.random.key(0), (50,)))
    texts = set()
    for i in range(50):
        arch = jax.tree.map(lambda mask, i=i: np.asarray(mask[i]), archs)
        text = SPACE.to_str(arch)
        jax.tree.map(np.testing.assert_array_equal, SPACE.from_str(text), arch)
        texts.add(text)
    assert len(texts) == len(np.unique(SPACE.to_decisions(archs), axis=0))


def test_string_by_hand():
    arch = SPACE.from_str("0,1>sep3x3|2>identity,maxpool")
    assert SPACE.contains(arch)
    np.testing.assert_array_equal(arch[0]["inputs"], [1, 1])
    np.testing.assert_array_equal(arch[0]["ops"], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(arch[1]["inputs"], [0, 0, 1])
    np.testing.assert_array_equal(arch[1]["ops"], [1, 0, 0, 1, 0])
    # Inputs {0}, {1}, {0, 1}: number 2; ops {1}: 1; inputs {2}: 2. The pairs of ops follow the
    # 5 singles, {0, 1} first: {0, 3} is number 5 + 2.
    np.testing.assert_array_equal(SPACE.to_decisions(arch), [2, 1, 2, 7])


def test_all_on_has_a_string_but_is_not_legal():
    every = "identity,sep3x3,conv7x7,maxpool,avgpool"
    text = SPACE.to_str(SPACE.all_on())
    assert text == f"0,1>{every}|0,1,2>{every}"
    assert not SPACE.contains(SPACE.from_str(text))
    assert not SPACE.contains(SPACE.from_str("0>identity,sep3x3,maxpool|0>identity"))


def test_a_repeated_op_is_numbered():
    space = spaces.make("cell", num_blocks=1, ops=("sep3x3", "maxpool", "sep3x3"))
    text = "0,1>sep3x3,maxpool,sep3x3#2"
    assert space.to_str(space.all_on()) == text
    jax.tree.map(np.testing.assert_array_equal, space.from_str(text), space.all_on())


def test_untied_cells_have_a_string_each():
    space = dataclasses.replace(SPACE, num_cells=3, tied=False)
    assert space.count() == SPACE.count() ** 3
    text = "/".join([*ARCHS, ARCHS[0]])
    assert space.to_str(space.from_str(text)) == text
    assert space.repeated(ARCHS[1]) == "/".join([ARCHS[1]] * 3)
    assert SPACE.repeated(ARCHS[1]) == ARCHS[1]
    assert space.graph(text) == SPACE.graph(ARCHS[0])  # the last cell's
    with pytest.raises(ValueError, match="has 2 cells, the space has 3"):
        space.from_str("/".join(ARCHS))
    with pytest.raises(ValueError, match="has no other depth"):
        space.deepened(2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 1 blocks, the space has 2"),
        ("0>identity|0>identity|0>identity", "has 3 blocks, the space has 2"),
        ("0>identity|3>identity", r"block 1: '3' is none of its inputs \(0, 1, 2\)"),
        ("2>identity|0>identity", r"block 0: '2' is none of its inputs \(0, 1\)"),
        ("-1>identity|0>identity", "block 0: '-1' is none of its inputs"),
        (" 0>identity|0>identity", "block 0: ' 0' is none of its inputs"),
        (">identity|0>identity", "block 0: '' is none of its inputs"),
        ("0>conv3x3|0>identity", r"block 0: 'conv3x3' is none of its ops \(identity, sep3x3"),
        ("0|0>identity", "block 0: '' is none of its ops"),
        ("0>identity,|0>identity", "block 0: '' is none of its ops"),
        ("0>identity>maxpool|0>identity", "block 0: 'identity>maxpool' is none of its ops"),
        ("1,0>identity|0>identity", r"is not canonical: '0,1>identity\|0>identity' is"),
        ("0>maxpool,identity|0>identity", r"not canonical: '0>identity,maxpool\|0>identity' is"),
        ("0,0>identity|0>identity", r"not canonical: '0>identity\|0>identity' is"),
    ],
)
def test_bad_strings(text, message):
    with pytest.raises(ValueError, match=message):
        SPACE.from_str(text)


def test_graph():
    assert SPACE.graph("0,1>sep3x3|2>identity,maxpool") == {
        "inputs": ["previous cell", "cell before"],
        "blocks": [
            {"inputs": [0, 1], "ops": ["sep3x3"]},
            {"inputs": [2], "ops": ["identity", "maxpool"]},
        ],
    }


def test_arch_id():
    # printf '0>identity' | sha256sum
    assert spaces.arch_id("0>identity") == "e3c3158a29ab"
    assert len({spaces.arch_id(text) for text in ARCHS}) == len(ARCHS)


# -- the space itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cel", {}, "space.name='cel' is none of .*; nearest: 'cell'"),
        ("cell", {"num_cell": 3}, "space.num_cell is no field of 'cell', which has num_cells, "),
        ("cell", {"num_cells": 0}, "space.num_cells=0 must be a whole number from 1 on"),
        ("cell", {"num_cells": "2"}, "space.num_cells='2' must be a whole number from 1 on"),
        ("cell", {"ops": None}, "space.ops=None must be a tuple of names or functions"),
        ("nasbench201", {"num_stages": 2.0}, "space.num_stages=2.0 must be a whole number"),
        ("nasbench_macro", {"head": 0.5}, "space.head=0.5 must be a whole number from 1 on"),
        ("cell", {"num_blocks": 0}, "space.num_blocks=0 must be a whole number from 1 on"),
        ("cell", {"num_blocks": 16}, "space.num_blocks=16: at most 15"),
        ("cell", {"cells_per_stage": 0}, "space.cells_per_stage=0 must be a whole"),
        ("cell", {"stem_stride": 3}, "space.stem_stride=3 must be 1, 2 or 4"),
        ("cell", {"ops": ("conv3x3",)}, "space.ops='conv3x3' is none of identity, "),
    ],
)
def test_bad_space(name, fields, message):
    with pytest.raises(ValueError, match=message):
        spaces.make(name, **fields)


def test_spaces_are_values():
    assert hash(SPACE) == hash(dataclasses.replace(SPACE))
    assert spaces.make("cell", ops=["identity"]) == spaces.make("cell", ops=("identity",))
    assert spaces.make("cell") != SPACE


def test_choices_of_the_space():
    # 5 + 10 sets of ops: 3 * 15 * 7 * 15.
    assert SPACE.count() == 4725
    names = [choice.name for choice in jax.tree.leaves(SPACE.choices)]
    assert sorted(names) == ["block0_inputs", "block0_ops", "block1_inputs", "block1_ops"]
    assert spaces.make("cell", num_blocks=1, ops=("identity",)).count() == 3


def test_moves_stay_in_the_space():
    a, b = (SPACE.from_str(text) for text in ARCHS[:2])
    assert SPACE.contains(jax.device_get(jax.jit(SPACE.mutate)(jax.random.key(0), a)))
    assert SPACE.contains(jax.device_get(jax.jit(SPACE.crossover)(jax.random.key(0), a, b)))
    near = SPACE.neighbours(a)
    assert SPACE.contains(near)
    assert len(SPACE.to_decisions(near)) == 2 + 14 + 6 + 14


@pytest.mark.parametrize(
    ("fields", "good", "factor"),
    [
        ({"num_cells": 6}, (32, 28), 4),
        ({"num_cells": 8, "stem_stride": 4}, (224, 32), 32),
        ({"num_cells": 2}, (7, 1), 1),
    ],
)
def test_image_size(fields, good, factor):
    space = spaces.make("cell", **fields)
    for size in good:
        space.check_image_size(size)
    if factor > 1:
        with pytest.raises(ValueError, match=f"multiples of {factor}, .*set data.image_size"):
            space.check_image_size(factor + 2)
