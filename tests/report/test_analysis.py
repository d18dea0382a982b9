"""Statistics against numbers worked by hand."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from nas_jax.report import analysis, figures, markdown

FEW = {"num_resamples": 200}  # the interval is not what is tested
ONE_TO_TEN = list(range(1, 11))
SWAPPED = [2, 1, 3, 4, 5, 6, 7, 8, 9, 10]


def _noisy(n=50):
    rng = np.random.default_rng(1)
    x = rng.normal(size=n)
    return x, x + rng.normal(size=n)


@pytest.mark.parametrize("n", [10, 30, analysis.FEW, analysis.FEW + 1])
def test_tau_is_scipys_to_the_bit(n):
    """Rows with ties on both sides, more of them than a part has."""
    x, y = np.random.default_rng(n).integers(0, n // 3, (2, 600, n)).astype(float)
    wanted = [stats.kendalltau(a, b).statistic for a, b in zip(x, y)]
    np.testing.assert_array_equal(analysis._kendall(x, y), wanted)
    assert analysis.kendall(x[0], x[0]) == 1
    assert analysis.kendall(x[0], -x[0]) == -1


def test_one_swap_by_hand():
    result = analysis.rank_correlations(ONE_TO_TEN, SWAPPED, **FEW)
    assert result.n == 10
    assert result.kendall.value == pytest.approx(1 - 2 * 1 / 45)  # one discordant pair of 45
    assert result.spearman.value == pytest.approx(1 - 6 * 2 / (10 * 99))  # two ranks off by one
    assert result.pearson.value == pytest.approx(result.spearman.value)  # the values are the ranks


def test_ties_are_tau_b():
    x = [0, 0, *range(2, 10)]
    # 44 concordant pairs and one tied in x: 44 / sqrt(44 * 45)
    result = analysis.rank_correlations(x, ONE_TO_TEN, **FEW)
    assert result.kendall.value == pytest.approx(math.sqrt(44 / 45))


def test_reversed_order_is_minus_one():
    result = analysis.rank_correlations(ONE_TO_TEN, ONE_TO_TEN[::-1], **FEW)
    for estimate in result[:3]:
        assert estimate == pytest.approx((-1, -1, -1))


def test_interval_holds_the_value_and_follows_the_seed():
    x, y = _noisy()
    first, again, other = (analysis.rank_correlations(x, y, seed=s, **FEW) for s in (0, 0, 1))
    assert first == again
    assert first != other
    for estimate in first[:3]:
        assert -1 < estimate.low < estimate.value < estimate.high < 1


def test_interval_narrows_with_more_pairs():
    widths = []
    for n in (20, 320):
        kendall = analysis.rank_correlations(*_noisy(n), **FEW).kendall
        widths.append(kendall.high - kendall.low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("n", [0, 1, 9])
def test_too_few_pairs_have_no_coefficient(n):
    result = analysis.rank_correlations(ONE_TO_TEN[:n], SWAPPED[:n])
    assert result[:3] == (None, None, None)
    assert str(n) in result.reason


@pytest.mark.parametrize("constant_first", [True, False])
def test_constant_values_have_no_coefficient(constant_first):
    pair = ([3.0] * 10, ONE_TO_TEN)
    result = analysis.rank_correlations(*(pair if constant_first else pair[::-1]))
    assert result.kendall is None
    assert "the same" in result.reason


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_values_are_dropped_and_counted(missing):
    result = analysis.rank_correlations([missing, *ONE_TO_TEN, 5], [1, *SWAPPED, missing], **FEW)
    whole = analysis.rank_correlations(ONE_TO_TEN, SWAPPED, **FEW)
    assert (result.n, result.dropped) == (10, 2)
    assert result[:3] == whole[:3]


def test_constant_resamples_are_left_out():
    x = [0] * 9 + [1]  # a third of the resamples do not hold the 1
    result = analysis.rank_correlations(x, ONE_TO_TEN, **FEW)
    assert all(math.isfinite(number) for estimate in result[:3] for number in estimate)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="10, 9"):
        analysis.rank_correlations(ONE_TO_TEN, SWAPPED[:9])


def test_fifty_pairs_are_quick():
    began = time.process_time()
    analysis.rank_correlations(*_noisy())
    assert time.process_time() - began < 3


def test_gain_is_the_difference_of_two_taus():
    gain = analysis.kendall_gain(SWAPPED, ONE_TO_TEN[::-1], ONE_TO_TEN, **FEW)
    assert gain.value == pytest.approx(43 / 45 + 1)
    assert 1 < gain.low <= gain.value <= gain.high


def test_gain_over_oneself_is_nothing():
    x, y = _noisy()
    assert analysis.kendall_gain(x, x, y, **FEW) == (0, 0, 0)


def test_gain_needs_both_taus():
    assert analysis.kendall_gain(SWAPPED, [1] * 10, ONE_TO_TEN) is None


def test_regret_by_hand():
    # best scored first: 70, 90, 80, 100
    regrets = analysis.top_k_regret([4, 3, 2, 1], [70, 90, 80, 100], ks=(1, 2, 4, 5))
    assert [r.k for r in regrets] == [1, 2, 4]  # there are no five
    assert [r.regret for r in regrets] == pytest.approx([30, 10, 0])
    # one at random has mean 85; of six pairs the best is 100, 100, 100, 90, 90 or 80
    assert [r.random for r in regrets] == pytest.approx([15, 100 - 560 / 6, 0])
    assert {r.n for r in regrets} == {4}


@pytest.mark.parametrize("k", [1, 3, 5])
def test_random_regret_is_the_mean_over_all_sets(k):
    truth = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
    sets = [max(chosen) for chosen in itertools.combinations(truth, k)]
    (regret,) = analysis.top_k_regret(range(7), truth, ks=(k,))
    assert regret.random == pytest.approx(9 - np.mean(sets))


@pytest.mark.parametrize("truth", [[90, 70, 100, 80], [100, 80, 70, 90]])
def test_regret_of_equal_scores_is_a_mean_whatever_their_order(truth):
    # any one of four: mean 85; of six pairs as above
    regrets = analysis.top_k_regret([1, 1, 1, 1], truth, ks=(1, 2))
    assert [r.regret for r in regrets] == pytest.approx([15, 100 - 560 / 6])


def test_regret_with_a_tie_at_the_border():
    # the best-scored has 80, the second is one of 60 and 100: the best of two is 80 or 100
    (regret,) = analysis.top_k_regret([3, 2, 2, 1], [80, 60, 100, 90], ks=(2,))
    assert regret.regret == pytest.approx(10)


def test_regret_drops_what_has_no_score():
    (regret,) = analysis.top_k_regret([None, 2, 1], [100, 50, 60], ks=(1,))
    assert (regret.n, regret.regret) == (2, pytest.approx(10))


def test_summary_by_hand():
    summary = analysis.summary([1, 2, None, 3, 4, 5])
    assert (summary.n, summary.mean, summary.low, summary.high) == (5, 3, 1, 5)
    assert summary.sd == pytest.approx(math.sqrt(2.5))
    assert summary.quantiles == pytest.approx(
        {0.1: 1.4, 0.25: 2, 0.5: 3, 0.75: 4, 0.9: 4.6, 0.99: 4.96}
    )


def test_summary_of_one_value_has_no_spread():
    assert math.isnan(analysis.summary([2]).sd)


def test_summary_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no value"):
        analysis.summary([None])


def test_seeds_by_hand():
    seeds = analysis.over_seeds({"a": [1, 3], "b": [5, 5, 5], "c": [9]})
    assert seeds.means == {"a": 2, "b": 5, "c": 9}
    assert seeds.sds["a"] == pytest.approx(math.sqrt(2))
    assert math.isnan(seeds.sds["c"])
    assert seeds.within == pytest.approx(math.sqrt(2 / 3))  # squares 2 + 0, freedom 1 + 2 + 0
    assert seeds.between == pytest.approx(np.std([2, 5, 9], ddof=1))
    assert seeds.ratio == pytest.approx(seeds.between / seeds.within)
    assert seeds.n == 3


def test_single_seeds_show_no_noise():
    seeds = analysis.over_seeds({"a": [1], "b": [2]})
    assert math.isnan(seeds.within)
    assert math.isnan(seeds.ratio)
    assert seeds.between == pytest.approx(math.sqrt(0.5))


def test_an_interval_of_many_pairs_is_shrunk_to_theirs():
    """Of independent normal pairs: tau's sd is 2 / (3 root n), Pearson's is 1 / root n."""
    n = 20_000
    x, y = np.random.default_rng(0).normal(size=(2, n))
    found = analysis.rank_correlations(x, y)
    for estimate, sd in ((found.kendall, 2 / 3), (found.spearman, 1), (found.pearson, 1)):
        width = 2 * 1.96 * sd / n**0.5
        assert estimate.high - estimate.low == pytest.approx(width, rel=0.15)
        assert estimate.low < estimate.value < estimate.high
    gain = analysis.kendall_gain(x, -x, y)
    assert gain.high - gain.low == pytest.approx(2 * 2 * 1.96 * 2 / 3 / n**0.5, rel=0.15)


def test_a_mean_s_interval_by_hand():
    """Of 1, 2, 3: the standard error is 1 / sqrt(3), and 4.303 of them reach to 95 %."""
    assert analysis.mean_interval([1, 2, 3]) == pytest.approx((2, -0.484, 4.484), abs=1e-3)


@pytest.mark.parametrize("values", [[3], [1, 1, 1], [0.1 + 0.2, 0.3], [-2.5, -2.5]])
def test_one_value_and_equal_ones_have_no_interval(values):
    """Equal ones do not show how far others would spread."""
    estimate = analysis.mean_interval(values)
    assert estimate.value == pytest.approx(np.mean(values))
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert markdown.interval(estimate) == f"{values[0]:.2f}"


def test_welch_s_interval_by_hand():
    """Means 2 and 5; squared errors 1/3 and 8/2; freedom (13/3)^2 / ((1/3)^2 / 2 + 4^2 / 1)."""
    found = analysis.mean_difference([1, 2, 3], [3, 7])
    reach = stats.t.ppf(0.975, (13 / 3) ** 2 / (1 / 18 + 16)) * math.sqrt(13 / 3)
    assert found == pytest.approx((-3, -3 - reach, -3 + reach))
    theirs = stats.ttest_ind([1, 2, 3], [3, 7], equal_var=False).confidence_interval()
    assert found[1:] == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([60.3, 60.3], [59.7, 59.7, 59.7], "0.60"),
        ([60.5], [59.0, 58.0], "2.00"),
        ([60.0, 60.0], [59.0, 58.0], "1.50 [-4.85, 7.85]"),  # 12.71 errors of 0.5
    ],
)
def test_a_difference_of_equal_ones_has_no_interval(ours, theirs, text):
    assert markdown.interval(analysis.mean_difference(ours, theirs)) == text
    assert markdown.interval(analysis.mean_difference(theirs, ours)).startswith(f"-{text[:4]}")


@pytest.mark.parametrize("known", [[True, False], [False, False]])
def test_figures_leave_out_what_has_no_interval(tmp_path, known):
    """Rows and bands are drawn, whether some or none of them have an interval."""
    estimates = [analysis.mean_interval([1, 2, 3] if is_known else [1, 1]) for is_known in known]
    rows = {f"row {i}": estimate for i, estimate in enumerate(estimates)}
    figures.intervals(tmp_path / "rows.png", rows, "gain")
    band = range(1, len(known) + 1), *np.transpose(estimates)
    figures.bands(tmp_path / "band.png", {"title": {"label": band}}, "queries", "regret")
    for path in tmp_path.iterdir():
        assert path.stat().st_size > 5000


@pytest.mark.parametrize("width", ["0.05", "0.1", "0.025"])
def test_a_bucket_begins_at_every_multiple_of_its_width(width):
    """Written as a decimal or multiplied out, in double or single precision, or a mean."""
    for number in range(int(1 / float(width)) + 1):
        value = float(number * Fraction(width))
        forms = value, number * float(width), float(np.float32(value))
        forms += (float(np.mean([np.float32(value + 0.1), np.float32(value - 0.1)])),)
        assert [analysis.bucket(form, float(width)) for form in forms] == [number] * 4
        assert analysis.bucket(-value, float(width)) == -number


@pytest.mark.parametrize("n", [60, 128, 1_000, 5_000, 50_000])
@pytest.mark.parametrize("width", ["0.05", "0.1", "0.025"])
def test_shares_lie_in_their_buckets(width, n):
    """k of n right answers, for k around every border."""
    borders = [round(m * n * float(width)) for m in range(int(1 / float(width)) + 1)]
    for k in {k + i for k in borders for i in (-1, 0, 1) if 0 <= k + i <= n}:
        number = math.floor(Fraction(k, n) / Fraction(width))
        assert analysis.bucket(k / n, float(width)) == number
        assert analysis.bucket(float(np.float32(k / n)), float(width)) == number


@pytest.mark.parametrize("bar", range(0, 101, 5))
def test_a_share_in_single_precision_reaches_its_own_bar(bar):
    assert analysis.reaches(100 * float(np.float32(bar / 100)), bar)
    assert not analysis.reaches(100 * float(np.float32(bar / 100 - 1 / 50_000)), bar)
