"""Population based training: who goes on as whom, and with which factors, on made-up scores."""

import jax
import numpy as np
import pytest
from scipy import stats

from nas_jax import naming, spaces
from nas_jax.training.variants import pbt

TUNED = ("learning_rate", "l2", "r")
SPACE = spaces.make("nasbench_macro", stages=(1, 1))


@pytest.mark.parametrize(
    ("scores", "parents"),
    [
        ([0.3, 0.9, 0.1, 0.5], [{0}, {1}, {1}, {3}]),  # the worst as the best
        ([0.3, 0.9, np.nan, 0.5], [{0}, {1}, {1}, {3}]),  # a failure is the worst
        ([np.nan, 0.9, np.nan, 0.5], [{1}, {1}, {1}, {3}]),  # none is left
        ([np.nan] * 4, [{0}, {1}, {2}, {3}]),
        ([1.0, 2, 3, 4, 5, 6, 7, 8], [{6, 7}, {6, 7}, *({i} for i in range(2, 8))]),
    ],
)
def test_a_fifth_goes_on_as_the_best_fifth(scores, parents):
    selection = pbt.make(SPACE, population=len(scores)).selection
    before = selection.init(jax.random.key(0))
    drawn = set()
    for number in range(8):
        found, after = selection.exploit(jax.random.key(number), before, np.asarray(scores))
        assert all(int(m) in allowed for m, allowed in zip(found, parents, strict=True))
        drawn |= {int(found[0])}
        is_replaced = np.asarray(found) != np.arange(len(scores))
        for name in TUNED:
            moves = np.asarray(after[name]) / np.asarray(before[name])[found]
            assert np.isclose(moves[is_replaced, None], [0.8, 1.2]).any(1).all()
            np.testing.assert_array_equal(moves[~is_replaced], 1)
    assert drawn == parents[0]


def test_factors_go_up_as_often_as_down_each_on_its_own():
    """The worst of four takes the best's, in each of 400 turns."""
    selection = pbt.make(SPACE, population=4).selection
    state = {name: np.asarray([1, 2, 4, 8], np.float32) for name in TUNED}
    exploit = jax.jit(jax.vmap(selection.exploit, (0, None, None)))
    keys = jax.random.split(jax.random.key(0), 400)
    parents, after = jax.device_get(exploit(keys, state, np.asarray([0.1, 0.9, 0.5, 0.6])))
    np.testing.assert_array_equal(parents, [[1, 1, 2, 3]] * 400)
    moves = np.stack([after[name][:, 0] / 2 for name in TUNED])
    is_up = np.isclose(moves, 1.2)
    assert np.isclose(moves[~is_up], 0.8).all()
    assert (abs(is_up.mean(1) - 0.5) < 4 * 0.5 / 20).all()
    assert (abs(np.corrcoef(is_up) - np.eye(3)) < 4 / 20).all()


def test_first_factors_are_log_uniform_and_independent():
    selection = pbt.make(SPACE, population=4000, spread=4.0).selection
    state = selection.init(jax.random.key(0))
    exponents = np.stack([np.log(state[name]) / np.log(4.0) for name in TUNED])
    assert abs(exponents).max() <= 1
    for row in exponents:
        assert (abs(np.quantile(row, [0.25, 0.5, 0.75]) - [-0.5, 0, 0.5]) < 0.06).all()
    assert (abs(np.corrcoef(exponents) - np.eye(3)) < 4 / 63).all()


def test_the_paper_s_constants_are_the_defaults():
    """Jaderberg et al., section 4.1.1: 20 %, 1.2 and 0.8, the last 10 for Welch's test."""
    options = naming.keywords(pbt.make)
    assert (options["exploit"], options["share"]) == ("truncation", 0.2)
    assert (options["explore"], options["perturb"]) == ("perturb", (1.2, 0.8))
    assert pbt.RECENT == 10
    assert pbt.make(SPACE, exploit="t_test").selection.recent == 10


@pytest.mark.parametrize(("size", "replaced"), [(4, 1), (5, 1), (6, 2), (10, 2), (35, 7), (1, 0)])
def test_a_fifth_of_the_members_is_replaced(size, replaced):
    selection = pbt.make(SPACE, population=size).selection
    factors, accuracies = selection.init(jax.random.key(0)), np.arange(size) / size
    parents, _ = selection.exploit(jax.random.key(1), factors, accuracies)
    moved = np.flatnonzero(np.asarray(parents) != np.arange(size))
    np.testing.assert_array_equal(moved, np.arange(replaced))


def test_a_population_of_before_draws_the_same_with_the_options_of_before():
    """The parents and moves of an earlier version, whose defaults these were."""
    selection = pbt.make(SPACE, population=8, share=0.25, perturb=(1.25, 0.8)).selection
    before, scores = selection.init(jax.random.key(0)), np.asarray([8, 7, 6, 5, 4, 3, 2, 1]) / 8
    parents, after = selection.exploit(jax.random.key(1), before, scores)
    np.testing.assert_array_equal(parents, [0, 1, 2, 3, 4, 5, 0, 1])
    for name, move in zip(TUNED, (1.25, 0.8, 1.25)):
        moves = np.asarray(after[name]) / np.asarray(before[name])[parents]
        np.testing.assert_allclose(moves, [1] * 6 + [move] * 2, rtol=1e-6)


def test_resampling_draws_anew_with_its_probability():
    """A quarter of the factors of the replaced, from the prior; the others are the parent's."""
    options = {"population": 2, "share": 0.5, "explore": "resample", "resample": 0.25}
    selection = pbt.make(SPACE, **options).selection
    state = {name: np.asarray([1, 2], np.float32) for name in TUNED}
    exploit = jax.jit(jax.vmap(selection.exploit, (0, None, None)))
    keys = jax.random.split(jax.random.key(0), 2000)
    _, after = jax.device_get(exploit(keys, state, np.asarray([0.1, 0.9])))
    found = np.stack([after[name] for name in TUNED])  # [3, 2000, 2]
    np.testing.assert_array_equal(found[..., 1], 2)
    is_new = found[..., 0] != 2
    assert abs(is_new.mean() - 0.25) < 4 * 0.44 / np.sqrt(6000)
    exponents = np.log(found[..., 0][is_new]) / np.log(4)
    assert (abs(np.quantile(exponents, [0.0, 0.5, 1.0]) - [-1, 0, 1]) < 0.12).all()


def test_welch_s_test_is_scipy_s():
    generator = np.random.default_rng(0)
    for shift in (-0.5, 0.0, 0.5, 2.0):
        a, b = generator.normal(shift, 1, 10), generator.normal(0, 3, 7)
        expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
        padded = np.append(b, [-np.inf, -np.inf, -np.inf])  # not yet evaluated
        np.testing.assert_allclose(pbt.welch(a, padded), expected, rtol=1e-3)
    one, two = np.asarray([0.5]), np.asarray([0.1, 0.2])
    assert pbt.welch(one, two) == 1  # of one value nothing is known
    assert pbt.welch(np.full(3, 0.5), np.full(3, 0.4)) == 0
    assert pbt.welch(np.full(3, 0.5), np.full(3, 0.5)) == 0.5


@pytest.mark.parametrize(("p_value", "is_replaced"), [(0.045, True), (0.055, False)])
def test_a_member_is_replaced_at_a_level_of_5_per_cent(p_value, is_replaced):
    """Two of equal variance: 18 degrees of freedom, one-sided."""
    lower = np.random.default_rng(0).normal(0.5, 0.1, 10)
    difference = stats.t.isf(p_value, 18) * np.sqrt(2 * lower.var(ddof=1) / 10)
    accuracies = np.stack([lower + difference, lower])
    selection = pbt.make(SPACE, population=2, exploit="t_test").selection
    factors = selection.init(jax.random.key(0))
    parents, _ = selection.exploit(jax.random.key(1), factors, accuracies)
    assert parents.tolist() == ([0, 0] if is_replaced else [0, 1])


def test_by_the_t_test_only_what_is_surely_worse_goes():
    """Of three members 0 is far below 1 and 2, which differ by noise; a failure goes at once."""
    selection = pbt.make(SPACE, population=3, exploit="t_test").selection
    noise = np.random.default_rng(0).normal(0, 0.02, (3, 10))
    recent = np.asarray([[0.3], [0.7], [0.7]]) + noise - noise.mean(1, keepdims=True)
    factors = selection.init(jax.random.key(0))
    exploit = jax.jit(jax.vmap(selection.exploit, (0, None, None)))
    keys = jax.random.split(jax.random.key(1), 100)
    parents, after = jax.device_get(exploit(keys, factors, recent))
    assert set(parents[:, 0]) == {1, 2}  # whoever it is compared with
    assert (parents[:, 1:] == [1, 2]).all()
    moves = after["l2"][:, 0] / np.asarray(factors["l2"])[parents[:, 0]]
    assert np.isclose(moves[:, None], [1.2, 0.8]).any(1).all()
    recent[1, -1] = np.nan
    parents, _ = exploit(keys, factors, recent)
    assert set(np.asarray(parents)[:, 1].tolist()) == {0, 2}
    assert set(np.asarray(parents)[:, 0].tolist()) == {0, 2}  # that the failure is no parent
    nobody = np.where(np.isnan(recent), np.nan, -np.inf)
    nobody[:, -1] = 0.5  # the first turn: one accuracy each
    parents, _ = exploit(keys, factors, nobody)
    assert (np.asarray(parents) == np.arange(3)).all()


@pytest.mark.parametrize("size", [1, 2])
def test_the_t_test_of_few_members_is_sound(size):
    selection = pbt.make(SPACE, population=size, exploit="t_test").selection
    factors = selection.init(jax.random.key(0))
    parents, after = selection.exploit(jax.random.key(1), factors, np.full((size, 10), np.nan))
    np.testing.assert_array_equal(parents, np.arange(size))
    assert all(np.isfinite(after[name]).all() for name in after)
