"""How far a score can be trusted: worked by hand."""

import numpy as np
import pytest

from nas_jax import trust

TRUTH = np.arange(40.0)


def test_parts_are_the_best_by_truth():
    found = trust.parts(np.arange(200.0)[::-1])
    assert list(found) == ["all", "top half", "top 10 %"]
    assert found["top half"].tolist() == list(range(100))
    assert found["top 10 %"].tolist() == list(range(20))


def test_parts_too_small_for_a_coefficient_are_left_out():
    """A tenth of 40 is 4; of 12 neither half nor tenth is 10."""
    assert list(trust.parts(TRUTH)) == ["all", "top half"]
    assert list(trust.parts(TRUTH[:12])) == ["all"]


def test_equal_ones_at_the_border_all_belong():
    truth = np.array([1.0] * 10 + [2.0] * 25 + [3.0] * 5)
    assert len(trust.parts(truth)["top half"]) == 30


def test_bias_by_hand():
    """Four architectures; the score swaps the best, which has "a" twice, and the worst."""
    uses = {"a": [0, 1, 1, 2], "b": [2, 1, 1, 0]}
    found = trust.biases(uses, [4, 2, 3, 1], [1, 2, 3, 4], num_resamples=50)
    # Rank by score - by truth: 3, 0, 0, -3 of n = 4; over the uses of "a": (0 + 0 + 2 * -3/4) / 4.
    assert found["a"].rank.value == pytest.approx(-6 / 16)
    assert found["b"].rank.value == pytest.approx(6 / 16)
    assert found["a"].rank.low <= found["a"].rank.value <= found["a"].rank.high
    assert (found["a"].share, found["b"].share) == (0.5, 0.5)
    # The best tenth is one architecture: the first by score, the last by truth.
    assert (found["a"].share_by_score, found["a"].share_by_truth) == (0, 1)
    assert found["b"].dominates
    assert not found["a"].dominates


def test_a_perfect_score_has_no_bias():
    uses = {"a": TRUTH % 3, "b": TRUTH % 2}
    for bias in trust.biases(uses, TRUTH / 7, TRUTH, num_resamples=20).values():
        assert tuple(bias.rank) == (0, 0, 0)
        assert not bias.dominates


def test_an_option_of_few_has_an_interval_of_those_that_have_it():
    """A resample without it says nothing about it."""
    uses = {"rare": [1, *[0] * 39], "other": [1] * 40}
    rare = trust.biases(uses, -TRUTH, TRUTH, num_resamples=200)["rare"].rank
    assert rare.low > 0.5  # it is worst by truth and best by score


def test_merged_ties_stay_ties():
    """The mean of seven 63.9 is not 63.9 in floating point."""
    [means] = trust.merged([*"aaaaaaa", "b"], [63.9] * 8)
    assert means[0] == means[1]


def test_what_should_dominate_is_no_collapse():
    """The best by truth have nothing else either."""
    uses = {"a": (TRUTH > 30).astype(float), "b": (TRUTH <= 30).astype(float)}
    found = trust.biases(uses, TRUTH, TRUTH, num_resamples=5)
    assert found["a"].share_by_score == found["a"].share_by_truth == 1
    assert not found["a"].dominates


@pytest.mark.parametrize(("scores", "tied"), [([1, 2, 3], 0), ([1, 2, 1, 3, 3, 3], 5)])
def test_ties(scores, tied):
    assert trust.num_tied(scores) == tied


def test_merged_are_means_over_groups():
    scores, truth = trust.merged(["x", "y", "x"], [1, 5, 3], [10, 50, 20])
    np.testing.assert_array_equal(scores, [2, 5])
    np.testing.assert_array_equal(truth, [15, 50])


def test_intervals_of_many_are_those_of_a_bootstrap(monkeypatch):
    """Of 4,000 architectures, an option of one in 40 among them."""
    n, generator = 4_000, np.random.default_rng(0)
    uses = {"a": generator.integers(3, size=n), "rare": generator.random(n) < 1 / 40}
    truth = generator.normal(size=n)
    scores = truth + generator.normal(size=n) + 0.3 * uses["a"]
    slow = trust.biases(uses, scores, truth)
    monkeypatch.setattr(trust.analysis, "DRAWN", 1_000)
    for label, quick in trust.biases(uses, scores, truth).items():
        assert quick.rank.value == pytest.approx(slow[label].rank.value)
        width = slow[label].rank.high - slow[label].rank.low
        np.testing.assert_allclose(quick.rank, slow[label].rank, atol=0.1 * width)
        assert quick[1:] == slow[label][1:]
