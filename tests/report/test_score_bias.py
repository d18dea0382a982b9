"""How far a score can be trusted: worked by hand."""

import numpy as np
import pytest

from nas_jax.report import score_bias
from nas_jax.report.sections import trust as trust_lib

pytestmark = pytest.mark.usefixtures("few_resamples")

TRUTH = np.arange(40.0)


def test_parts_are_the_best_by_truth():
    found = score_bias.parts(np.arange(200.0)[::-1])
    assert list(found) == ["all", "top half", "top 10 %"]
    assert found["top half"].tolist() == list(range(100))
    assert found["top 10 %"].tolist() == list(range(20))


def test_parts_too_small_for_a_coefficient_are_left_out():
    """A tenth of 40 is 4; of 12 neither half nor tenth is 10."""
    assert list(score_bias.parts(TRUTH)) == ["all", "top half"]
    assert list(score_bias.parts(TRUTH[:12])) == ["all"]


def test_equal_ones_at_the_border_all_belong():
    truth = np.array([1.0] * 10 + [2.0] * 25 + [3.0] * 5)
    assert len(score_bias.parts(truth)["top half"]) == 30


def test_bias_by_hand():
    """Four architectures; the score swaps the best, which has "a" twice, and the worst."""
    uses = {"a": [0, 1, 1, 2], "b": [2, 1, 1, 0]}
    found = score_bias.biases(uses, [4, 2, 3, 1], [1, 2, 3, 4], num_resamples=50)
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
    for bias in score_bias.biases(uses, TRUTH / 7, TRUTH, num_resamples=20).values():
        assert tuple(bias.rank) == (0, 0, 0)
        assert not bias.dominates


def test_an_option_of_few_has_an_interval_of_those_that_have_it():
    """A resample without it says nothing about it."""
    uses = {"rare": [1, *[0] * 39], "other": [1] * 40}
    rare = score_bias.biases(uses, -TRUTH, TRUTH, num_resamples=200)["rare"].rank
    assert rare.low > 0.5  # it is worst by truth and best by score


def test_merged_ties_stay_ties():
    """The mean of seven 63.9 is not 63.9 in floating point."""
    [means] = score_bias.merged([*"aaaaaaa", "b"], [63.9] * 8)
    assert means[0] == means[1]


def test_what_should_dominate_is_no_collapse():
    """The best by truth have nothing else either."""
    uses = {"a": (TRUTH > 30).astype(float), "b": (TRUTH <= 30).astype(float)}
    found = score_bias.biases(uses, TRUTH, TRUTH, num_resamples=5)
    assert found["a"].share_by_score == found["a"].share_by_truth == 1
    assert not found["a"].dominates


@pytest.mark.parametrize(("scores", "tied"), [([1, 2, 3], 0), ([1, 2, 1, 3, 3, 3], 5)])
def test_ties(scores, tied):
    assert score_bias.num_tied(scores) == tied


def test_merged_are_means_over_groups():
    scores, truth = score_bias.merged(["x", "y", "x"], [1, 5, 3], [10, 50, 20])
    np.testing.assert_array_equal(scores, [2, 5])
    np.testing.assert_array_equal(truth, [15, 50])


def test_intervals_of_many_are_those_of_a_bootstrap(monkeypatch):
    """Of 4,000 architectures, an option of one in 40 among them."""
    n, generator = 4_000, np.random.default_rng(0)
    uses = {"a": generator.integers(3, size=n), "rare": generator.random(n) < 1 / 40}
    truth = generator.normal(size=n)
    scores = truth + generator.normal(size=n) + 0.3 * uses["a"]
    slow = score_bias.biases(uses, scores, truth)
    monkeypatch.setattr(score_bias.analysis, "DRAWN", 1_000)
    for label, quick in score_bias.biases(uses, scores, truth).items():
        assert quick.rank.value == pytest.approx(slow[label].rank.value)
        width = slow[label].rank.high - slow[label].rank.low
        np.testing.assert_allclose(quick.rank, slow[label].rank, atol=0.1 * width)
        assert quick[1:] == slow[label][1:]


# -- against counting parameters or multiply-adds -------------------------------------------------


def _swapped(numbers, first, last):
    """With the values from `first` to `last` backwards."""
    numbers = np.array(numbers)
    numbers[first:last] = numbers[first:last][::-1]
    return numbers


def test_a_score_is_held_against_the_better_of_two_sizes():
    """Of 66 pairs parameters have one wrong, multiply-adds all, the score three."""
    truth = np.arange(12.0)
    sizes = {"parameters": _swapped(truth, 0, 2), "multiply-adds": -truth}
    found = score_bias.against_size(_swapped(truth, 0, 3), sizes, truth)
    assert found.size == "parameters"
    assert (found.tau, found.tau_of_size) == pytest.approx((1 - 6 / 66, 1 - 2 / 66))
    assert found.gain.value == pytest.approx(-4 / 66)


@pytest.mark.parametrize(
    ("scores", "params"),
    [([1] * 12, range(12)), (range(12), [1] * 12), ([None, *range(8)], range(9))],
)
def test_what_has_no_coefficient_is_held_against_nothing(scores, params):
    truth = np.arange(float(len(scores)))
    assert score_bias.against_size(scores, {"parameters": params}, truth) is None


TRUTH_OF_MANY = np.arange(400.0)
NOISE = np.random.default_rng(0).normal(size=400)
WRONG_AT_THE_TOP = _swapped(TRUTH_OF_MANY, 360, 400)
MIXED_AT_THE_TOP = np.where(TRUTH_OF_MANY < 360, TRUTH_OF_MANY, TRUTH_OF_MANY + 60 * NOISE)
LESS_MIXED = np.where(TRUTH_OF_MANY < 360, TRUTH_OF_MANY, TRUTH_OF_MANY + 50 * NOISE)


@pytest.mark.parametrize(
    ("scores", "flops", "params", "expected"),
    [
        (TRUTH_OF_MANY, TRUTH_OF_MANY + 99 * NOISE, -TRUTH_OF_MANY, {}),
        (WRONG_AT_THE_TOP, -TRUTH_OF_MANY, -TRUTH_OF_MANY, {}),  # and so do the sizes
        (
            WRONG_AT_THE_TOP,
            TRUTH_OF_MANY + 200 * NOISE,
            -TRUTH_OF_MANY,
            {"top 10 %": ("ranks worse", "multiply-adds")},
        ),
        (
            MIXED_AT_THE_TOP,
            -TRUTH_OF_MANY,
            LESS_MIXED + 20 * NOISE[::-1],
            {"top 10 %": ("ranks no better", "parameters")},
        ),
        (
            TRUTH_OF_MANY + 300 * NOISE,
            TRUTH_OF_MANY + 300 * NOISE[::-1],
            -TRUTH_OF_MANY,
            {
                "": ("cannot be shown to rank better", "multiply-adds"),
                "top half": ("ranks no better", "multiply-adds"),
            },
        ),
        (
            -TRUTH_OF_MANY,
            TRUTH_OF_MANY,
            -TRUTH_OF_MANY,
            dict.fromkeys(("", "top half", "top 10 %"), ("ranks worse", "multiply-adds")),
        ),
    ],
)
def test_where_a_size_ranks_better_is_warned_of(scores, flops, params, expected):
    sizes = {"parameters": params, "multiply-adds": flops}
    found = list(trust_lib.size_warnings(scores, sizes, TRUTH_OF_MANY))
    assert len(found) == len(expected)
    for text, (part, (verb, size)) in zip(found, expected.items()):
        assert text.startswith(f"within the {part} by accuracy the score" if part else "the score")
        assert f"{verb} than counting {size}: " in text


@pytest.mark.parametrize(("n", "parts"), [(58, 1), (60, 2)])
def test_of_few_a_lower_coefficient_is_not_yet_a_warning(n, parts):
    """The score swaps the best two. Of 60 the top half are 30, of 58 only 29."""
    truth = np.arange(float(n))
    sizes = {"parameters": truth, "multiply-adds": -truth}
    found = list(trust_lib.size_warnings(_swapped(truth, n - 2, n), sizes, truth))
    assert ["top half" in text for text in found] == [False, True][:parts]


def test_a_warning_says_both_coefficients_and_their_difference():
    """Of 40: of the score 190 of 780 pairs are wrong, of the parameters 3."""
    truth = np.arange(40.0)
    sizes = {"parameters": _swapped(truth, 37, 40)}
    text = next(trust_lib.size_warnings(_swapped(truth, 20, 40), sizes, truth))
    expected = "the score ranks worse than counting parameters: tau-b is 0.51 against 0.99, and "
    assert text.startswith(expected + "differs by -0.48 [")
    assert text.endswith("] (n = 40).")
