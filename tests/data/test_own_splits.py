"""How records are divided where a set of one's own does not say it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_jax.data import splits
from tests.test_bad_input import examples

NAMES = tuple("abcdefgh")


def arranged(labels, split=None, fractions=splits.FRACTIONS, seed=0):
    """(records of train, valid and test, sizes)."""
    labels = np.asarray(labels)
    split = np.zeros(len(labels), int) if split is None else np.asarray(split)
    names = NAMES[: labels.max() + 1]
    order, sizes = splits.arrange(labels, split, names, fractions, seed)
    return np.split(order, np.cumsum(sizes)[:-1]), sizes


@pytest.mark.parametrize(
    ("count", "fractions", "first", "second"),
    [
        (10, (0.6, 0.2, 0.2), (6, 2, 2), (6, 2, 2)),
        (10, (0.8, 0.1, 0.1), (8, 1, 1), (8, 1, 1)),
        # 4.2, 1.4, 1.4: one is left, for the first of 0.4, then for the one that went short
        (7, (0.6, 0.2, 0.2), (4, 2, 1), (4, 1, 2)),
        (4, (0.6, 0.2, 0.2), (2, 1, 1), (2, 1, 1)),  # 2.4, 0.8, 0.8
        (3, (0.8, 0.1, 0.1), (1, 1, 1), (1, 1, 1)),  # one each at least
        (5, (0.8, 0.1, 0.1), (3, 1, 1), (3, 1, 1)),
        (100, (0.7, 0.15, 0.15), (70, 15, 15), (70, 15, 15)),  # though 0.15 of 100 is not quite 15
    ],
)
def test_each_class_is_divided_by_the_fractions(count, fractions, first, second):
    labels = np.repeat([0, 1], count)
    parts, sizes = arranged(labels, fractions=fractions)
    assert sizes == tuple(a + b for a, b in zip(first, second))
    assert [tuple(np.bincount(labels[part])) for part in parts] == list(zip(first, second))


def test_a_split_that_is_given_stays_and_the_rest_is_divided_in_proportion():
    """Of a class's ten for training a quarter is for validation, as 0.2 is of 0.6 + 0.2."""
    labels, split = np.tile([0, 1], 16), np.repeat([0, 2], [20, 12])
    (train, valid, test), sizes = arranged(labels, split)
    assert sizes == (15, 5, 12)  # 7.5 and 2.5 of each class
    assert test.tolist() == list(range(20, 32))
    assert sorted([*train, *valid]) == list(range(20))


def test_the_drawing_depends_on_the_seed_and_the_labels_alone():
    labels = np.tile([0, 1, 2], 20)
    first, _ = arranged(labels)
    again, _ = arranged(labels)
    other, _ = arranged(labels, seed=1)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert first[1].tolist() != other[1].tolist()
    order = np.random.default_rng((0, 2)).permutation(np.arange(2, 60, 3))  # of the class 2
    np.testing.assert_array_equal(first[0][labels[first[0]] == 2], np.sort(order[:12]))


@examples(200)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=8),
    shares=st.tuples(*[st.integers(1, 20)] * 3),
    seed=st.integers(0, 2**40),
    given_splits=st.sampled_from([(), (1,), (2,), (1, 2)]),
)
def test_all_records_are_in_one_split_and_each_has_all_classes(counts, shares, seed, given_splits):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.concatenate([labels, *[np.arange(len(counts))] * len(given_splits)])
    split = np.zeros(len(labels), int)
    for number, which in enumerate(given_splits):
        split[sum(counts) + number * len(counts) :] = which
    fractions = np.asarray(shares) / sum(shares)
    parts, sizes = arranged(labels, split, tuple(fractions), seed)
    assert sum(sizes) == len(labels)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    drawn = [i for i in range(3) if i not in given_splits]
    ratios = fractions[drawn] / fractions[drawn].sum()
    for part in parts:
        assert set(labels[part]) == set(labels)
    for label, count in enumerate(counts):
        of_class = [np.sum(labels[parts[i]] == label) for i in drawn]
        exact = count * ratios
        if exact.min() >= 1:  # else the least part is 1
            assert np.abs(of_class - exact).max() < 1
    for which in given_splits:
        np.testing.assert_array_equal(parts[which], np.flatnonzero(split == which))


@pytest.mark.parametrize(
    ("labels", "split", "said"),
    [
        ([0, 0, 0], None, "only one class, 'a'"),
        ([0, 0, 0, 1, 1], None, "'b' has 2 image(s) to be divided into train, valid, test"),
        ([0, 1, 1, 0, 1], [0, 0, 0, 1, 1], "'a' has 1 image(s) to be divided into train, test"),
        ([0, 1, 0, 1, 0], [0, 0, 1, 1, 2], "test has no image of the class 'b'"),
        ([0, 1, 0, 1], [1, 1, 2, 2], "train has no image of the class 'a'"),
        ([0, 0, 2, 2, 1], [0, 1, 0, 1, 2], "train has no image of the class 'b'"),
    ],
)
def test_what_cannot_be_divided_is_refused(labels, split, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        arranged(labels, split)
    assert said in str(error.value)


def test_repeated_records_are_those_of_two_splits():
    keys = ["a", "b", "a", None, "c", "b", None, "a", "c"]
    assert splits.repeated(keys, (4, 2, 3)) == ((1, 5), 3)  # b in valid, a and c in test
    assert splits.repeated(keys, (9, 0, 0)) == (None, 0)
    assert [splits.name_of(record, (4, 2, 3)) for record in (0, 3, 4, 5, 6, 8)] == [
        *("train", "train", "valid", "valid", "test", "test")
    ]
