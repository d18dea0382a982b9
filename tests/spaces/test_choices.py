"""Choices: counting, sampling and moving about in a space that is nothing but Choices."""

import itertools
import math

import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.spaces import choices
from nas_jax.spaces.choices import Choice

# 6 subsets, 3 subsets, 1 subset: 18 architectures.
SMALL = {"a": Choice("a", 3, 1, 2), "b": [Choice("b", 2, 0, 1), Choice("c", 2, 2, 2)]}


def all_decisions(tree):
    return np.concatenate(list(choices.enumerate_decisions(tree, 5)))


def num_different(tree, a, b):
    return (choices.to_decisions(tree, a) != choices.to_decisions(tree, b)).sum(-1)


# -- Choice and its subsets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 0, 0), r"'x': num_options=0 is not in 1\.\.16"),
        ((17, 1, 1), r"'x': num_options=17 is not in 1\.\.16"),
        ((-1, 0, 0), r"num_options=-1"),
        ((4, -1, 2), r"need 0 <= min_on <= max_on <= num_options, not -1, 2, 4"),
        ((4, 3, 2), r"not 3, 2, 4"),
        ((4, 1, 5), r"not 1, 5, 4"),
    ],
)
def test_bad_choice(fields, message):
    with pytest.raises(ValueError, match=message):
        Choice("x", *fields)


@pytest.mark.parametrize("empty", [(0, 1), (2,), (-1,)])
def test_what_is_empty_leaves_a_path(empty):
    with pytest.raises(ValueError, match=r"empty=\(.*must be some of its options, not all"):
        Choice("x", 2, 1, 1, empty=empty)


@pytest.mark.parametrize(
    ("choice", "table"),
    [
        (Choice("x", 1, 1, 1), ["1"]),
        (Choice("x", 2, 0, 2), ["00", "10", "01", "11"]),
        (Choice("x", 3, 1, 1), ["100", "010", "001"]),
        (Choice("x", 4, 0, 0), ["0000"]),
        (
            Choice("x", 4, 1, 2),  # 4 singles, then C(4, 2) = 6 pairs
            ["1000", "0100", "0010", "0001", "1100", "1010", "1001", "0110", "0101", "0011"],
        ),
    ],
)
def test_subsets(choice, table):
    rows = choices.subsets(choice)
    assert rows.dtype == np.float32
    assert ["".join(str(int(bit)) for bit in row) for row in rows] == table
    assert choice.num_subsets == len(table)


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ((7, 1, 2), 28),  # 7 + 21: the ops of a choice block
        ((5, 1, 5), 31),  # 2^5 - 1: the inputs of its block 3
        ((5, 1, 1), 5),
        ((16, 0, 16), 65536),
    ],
)
def test_num_subsets(fields, number):
    assert Choice("x", *fields).num_subsets == number


def test_count_is_the_product():
    assert choices.count(SMALL) == 6 * 3 * 1
    # (2^2-1)(2^3-1)(2^4-1)(2^5-1) = 9765 sets of inputs, 28^4 = 614,656 sets of ops.
    assert spaces.make("cell").count() == 9765 * 614_656 == 6_002_115_840


# -- decisions, masks, indices --------------------------------------------------------------------


def test_enumeration_visits_each_architecture_once():
    batches = list(choices.enumerate_decisions(SMALL, 5))
    assert [len(batch) for batch in batches] == [5, 5, 5, 3]
    rows = [tuple(row) for row in np.concatenate(batches)]
    assert rows == list(itertools.product(range(6), range(3), range(1)))
    assert batches[0].dtype == np.int32


def test_decisions_and_masks_are_twins():
    decisions = all_decisions(SMALL)
    arch = choices.from_decisions(SMALL, decisions)
    assert jax.tree.map(np.shape, arch) == {"a": (18, 3), "b": [(18, 2), (18, 2)]}
    np.testing.assert_array_equal(choices.to_decisions(SMALL, arch), decisions)
    # Any batch axes, and none.
    folded = choices.from_decisions(SMALL, decisions.reshape(3, 6, 3))
    np.testing.assert_array_equal(choices.to_decisions(SMALL, folded).reshape(18, 3), decisions)
    one = choices.from_decisions(SMALL, decisions[7])
    np.testing.assert_array_equal(choices.to_decisions(SMALL, one), decisions[7])


def test_on_the_device_decisions_and_masks_are_those_of_the_host():
    """NumPy's arrays stay on the host."""
    decisions = all_decisions(SMALL)
    arch = choices.from_decisions(SMALL, decisions)
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arch))
    assert not isinstance(choices.to_decisions(SMALL, arch), jax.Array)

    @jax.jit
    def there_and_back(decisions):
        arch = choices.from_decisions(SMALL, decisions)
        return arch, choices.to_decisions(SMALL, arch)

    found, back = there_and_back(decisions)
    jax.tree.map(np.testing.assert_array_equal, found, arch)
    np.testing.assert_array_equal(back, decisions)
    assert back.dtype == jax.numpy.int32


def test_decision_by_hand():
    # a: 100 010 001 110 101 011; b: 00 10 01; c: 11.
    arch = {"a": np.float32([1, 0, 1]), "b": [np.float32([0, 1]), np.float32([1, 1])]}
    np.testing.assert_array_equal(choices.to_decisions(SMALL, arch), [4, 2, 0])


def test_a_mask_is_on_when_it_is_not_zero():
    arch = {"a": np.float32([0.3, 0, -2]), "b": [np.float32([0, 1.7]), np.float32([9, 1e-9])]}
    np.testing.assert_array_equal(choices.to_decisions(SMALL, arch), [4, 2, 0])
    assert choices.contains(SMALL, arch)


@pytest.mark.parametrize(
    ("a", "b", "c", "decisions"),
    [
        ([0, 0, 0], [0, 0], [1, 1], [-1, 0, 0]),  # too few
        ([1, 1, 1], [0, 0], [1, 1], [-1, 0, 0]),  # too many
        ([0, 1, 1], [1, 1], [1, 0], [5, -1, -1]),
    ],
)
def test_illegal_masks(a, b, c, decisions):
    illegal = {"a": np.float32(a), "b": [np.float32(b), np.float32(c)]}
    np.testing.assert_array_equal(choices.to_decisions(SMALL, illegal), decisions)
    assert not choices.contains(SMALL, illegal)
    # One illegal architecture is enough to spoil a batch.
    legal = choices.from_decisions(SMALL, np.int32([0, 0, 0]))
    assert choices.contains(SMALL, legal)
    both = jax.tree.map(lambda x, y: np.stack([x, y]), legal, illegal)
    assert not choices.contains(SMALL, both)


def test_all_on_is_the_supernet_and_not_legal():
    everything = choices.all_on(SMALL)
    assert all(np.all(mask == 1) for mask in jax.tree.leaves(everything))
    assert not choices.contains(SMALL, everything)
    assert choices.contains(SMALL["b"][1], choices.all_on(SMALL["b"][1]))  # 2 of 2 is


def test_indices_round_trip():
    for decision in all_decisions(SMALL):
        arch = choices.from_decisions(SMALL, decision)
        back = choices.from_indices(SMALL, choices.to_indices(SMALL, arch))
        jax.tree.map(np.testing.assert_array_equal, back, arch)
    arch = choices.from_decisions(SMALL, np.int32([4, 0, 0]))
    assert choices.to_indices(SMALL, arch) == {"a": (0, 2), "b": [(), (0, 1)]}


# -- random moves ---------------------------------------------------------------------------------


def test_sample_is_uniform():
    arch = choices.sample(jax.random.key(0), SMALL, (90, 200))
    assert arch["a"].shape == (90, 200, 3)
    codes = choices.to_decisions(SMALL, jax.device_get(arch)) @ [3, 1, 1]
    counts = np.bincount(codes.ravel(), minlength=18)
    # 18,000 draws of 18: 1,000 each; chi-square of 17 degrees passes 40.8 once in a thousand.
    assert counts.sum() == 18_000
    assert np.sum((counts - 1000) ** 2 / 1000) < 40.8


def test_sample_is_a_function_of_its_key():
    draws = [choices.sample(jax.random.key(seed), SMALL, (40,)) for seed in (1, 1, 2)]
    decisions = [choices.to_decisions(SMALL, arch) for arch in jax.device_get(draws)]
    np.testing.assert_array_equal(decisions[0], decisions[1])
    assert np.any(decisions[0] != decisions[2])


def test_mutate_draws_exactly_one_choice_anew():
    arch = choices.from_decisions(SMALL, np.int32([4, 1, 0]))
    keys = jax.random.split(jax.random.key(0), 2000)
    children = jax.jit(jax.vmap(lambda key: choices.mutate(key, SMALL, arch)))(keys)
    children = jax.device_get(children)
    assert choices.contains(SMALL, children)
    decisions = choices.to_decisions(SMALL, children)
    changed = decisions != [4, 1, 0]
    assert np.all(changed.sum(1) == 1)
    # Either open Choice half of the time (sd .011), the closed one never.
    share_a, share_b, share_c = changed.mean(0)
    assert abs(share_a - 0.5) < 0.045
    assert abs(share_b - 0.5) < 0.045
    assert share_c == 0
    # Everything else that a Choice has is reached, and about equally often.
    others = np.bincount(decisions[changed[:, 0], 0], minlength=6)
    assert others[4] == 0
    assert others[others > 0].size == 5
    assert others.max() < 1.5 * others[others > 0].min()


def test_mutate_without_an_open_choice():
    closed = (Choice("x", 2, 2, 2), Choice("y", 3, 3, 3))
    child = jax.jit(lambda key: choices.mutate(key, closed, choices.all_on(closed)))(
        jax.random.key(0)
    )
    jax.tree.map(np.testing.assert_array_equal, child, choices.all_on(closed))


def test_crossover_takes_each_choice_from_a_parent():
    space = tuple(Choice(f"c{i}", 3, 1, 1) for i in range(4))
    a, b = (choices.from_decisions(space, np.int32(d)) for d in ([0, 0, 0, 0], [1, 2, 1, 0]))
    keys = jax.random.split(jax.random.key(0), 1000)
    children = jax.jit(jax.vmap(lambda key: choices.crossover(key, a, b)))(keys)
    decisions = choices.to_decisions(space, jax.device_get(children))
    assert np.all((decisions == [0, 0, 0, 0]) | (decisions == [1, 2, 1, 0]))
    # Three Choices differ: 2^3 children, each once in eight (125 of 1,000, sd 10.5).
    _, counts = np.unique(decisions, axis=0, return_counts=True)
    assert len(counts) == 8
    assert np.all(abs(counts - 125) < 45)


@pytest.mark.parametrize(
    ("space", "number"),
    [
        (SMALL, 5 + 2 + 0),
        # (3-1) + (7-1) + (15-1) + (31-1) sets of inputs, 4 * 27 sets of ops.
        (spaces.make("cell").choices, 52 + 108),
        (Choice("closed", 2, 2, 2), 0),
    ],
)
def test_neighbours(space, number):
    arch = jax.device_get(choices.sample(jax.random.key(3), space))
    near = choices.neighbours(space, arch)
    decisions = choices.to_decisions(space, near)
    assert len(decisions) == number
    assert len(np.unique(decisions, axis=0)) == number
    assert choices.contains(space, near)
    assert np.all(num_different(space, near, arch) == 1)


def test_neighbours_of_each_other():
    """The distance is symmetric: a is a neighbour of each of its neighbours."""
    arch = choices.from_decisions(SMALL, np.int32([2, 0, 0]))
    for decision in choices.to_decisions(SMALL, choices.neighbours(SMALL, arch)):
        back = choices.neighbours(SMALL, choices.from_decisions(SMALL, decision))
        assert np.sum(num_different(SMALL, back, arch) == 0) == 1


def test_every_leaf_is_float32():
    arch = choices.sample(jax.random.key(0), SMALL)
    child = jax.eval_shape(lambda key: choices.mutate(key, SMALL, arch), jax.random.key(1))
    for tree in (arch, child, choices.all_on(SMALL)):
        assert all(mask.dtype == np.float32 for mask in jax.tree.leaves(tree))
    assert math.prod(mask.shape[-1] for mask in jax.tree.leaves(arch)) == 3 * 2 * 2


# -- options that are left ------------------------------------------------------------------------


def test_uniform_architectures_stay_uniform_among_the_options_that_are_left():
    """Of "a" the options 0 and 2: 100, 001, 101 are left. Of "b" 00 and 10. What fits stays."""
    left = {"a": np.asarray([True, False, True])}
    left["b"] = [np.asarray([True, False]), np.asarray([True, True])]
    archs = jax.device_get(choices.sample(jax.random.key(0), SMALL, (3000,)))
    assert not choices.are_left(SMALL, left, archs).all()
    found = choices.with_left_alone(jax.random.key(1), SMALL, left, archs)
    assert choices.contains(SMALL, found)
    assert choices.are_left(SMALL, left, found).all()
    before, after = (choices.to_decisions(SMALL, each) for each in (archs, found))
    for d, kept in ((0, (0, 2, 4)), (1, (0, 1))):  # 100 010 001 110 101 011; 00 10 01
        fits = np.isin(before[:, d], kept)
        np.testing.assert_array_equal(after[fits, d], before[fits, d])
        shares = [(after[:, d] == number).mean() for number in kept]
        np.testing.assert_allclose(shares, 1 / len(kept), atol=0.05)
