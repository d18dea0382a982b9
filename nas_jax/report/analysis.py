"""Statistics of a search on plain numbers: how well a score ranks and what trusting it costs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# Of a bootstrap: resamples at most and at least, and how many pairs in all decide between them.
MOST, LEAST, PAIRS = 2000, 200, 10**6
DRAWN = PAIRS // LEAST  # pairs of a resample at most; an interval is then shrunk to that of all
FEW = 100  # pairs, up to which tau-b is computed for many resamples at once
MIN_PAIRS = 10  # below, an interval of a rank correlation says nothing
ROUNDING = 1e-9  # values that differ by less are equal
SINGLE = 1e-6  # the same of float32, which scores are, relative to the value
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
Numbers = Sequence[float | None]


class Estimate(NamedTuple):
    """A value and its 95 % interval, whose ends are NaN where there is none."""

    value: float
    low: float
    high: float


class Correlations(NamedTuple):
    """Coefficients over `n` pairs; all None where `reason` says why. `dropped`: pairs left out."""

    kendall: Estimate | None
    spearman: Estimate | None
    pearson: Estimate | None
    n: int
    dropped: int
    reason: str = ""


class Regret(NamedTuple):
    """What picking the `k` best-scored of `n` loses, and what picking `k` at random loses."""

    k: int
    regret: float
    random: float
    n: int


class Summary(NamedTuple):
    """Of `n` values; `sd` with n - 1, NaN for one value; `quantiles` by share."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    quantiles: dict[float, float]


class OverSeeds(NamedTuple):
    """Repeated measurements of `n` things; a spread is NaN where too few values show it.

    `means` and `sds` are those of each thing. `between` is the sd of the means (what is left of
    the seeds' noise in them included), `within` the sd between seeds pooled over all things.
    """

    means: dict[str, float]
    sds: dict[str, float]
    between: float
    within: float
    ratio: float
    n: int


def rank_correlations(
    x: Numbers, y: Numbers, *, num_resamples: int | None = None, seed: int = 0
) -> Correlations:
    """Compute Kendall's tau-b, Spearman's rho and Pearson's r of paired values [n].

    Pairs with None or NaN are dropped. The intervals are percentiles of a bootstrap over pairs. A
    resample in which one side is constant has no coefficient, and is left out.

    Args:
      x, y: values [n].
      num_resamples: of the bootstrap; None: 2,000, fewer where there are more than 500 pairs, at
        least 200. Of more than 5,000 pairs a resample draws 5,000, and the interval is shrunk by
        the root of their share.
      seed: of the bootstrap.

    Raises: ValueError if the lengths differ.
    """
    (x, y), dropped = _complete(x, y)
    if reason := _no_coefficient(x, y):
        return Correlations(None, None, None, len(x), dropped, reason)
    picks = _resamples(len(x), num_resamples, seed)
    values, resampled = _coefficients(x[None], y[None]), _coefficients(x[picks], y[picks])
    estimates = (_estimate(v, r, len(x)) for v, r in zip(values, resampled))
    return Correlations(*estimates, len(x), dropped)


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Compute Kendall's tau-b of paired values [n]; NaN if one side is constant."""
    return float(_kendall(np.asarray(x, float)[None], np.asarray(y, float)[None])[0])


def kendall_gain(
    x: Numbers, baseline: Numbers, y: Numbers, *, num_resamples: int | None = None, seed: int = 0
) -> Estimate | None:
    """Compute how much higher Kendall's tau-b of `x` with `y` is than of `baseline` with `y`.

    Values [n]; both taus are taken on the same resamples, so the interval is that of a paired
    comparison. None where `rank_correlations` has no coefficient for one of the two.
    """
    (x, baseline, y), _ = _complete(x, baseline, y)
    if _no_coefficient(x, y) or _no_coefficient(baseline, y):
        return None
    picks = _resamples(len(x), num_resamples, seed)
    value = _kendall(x[None], y[None]) - _kendall(baseline[None], y[None])
    resampled = _kendall(x[picks], y[picks]) - _kendall(baseline[picks], y[picks])
    return _estimate(value, resampled, len(x))


def top_k_regret(
    scores: Numbers, truth: Numbers, ks: Sequence[int] = (1, 3, 5, 10)
) -> list[Regret]:
    """Compute the best truth of all minus the best among the k best-scored, for each k up to n.

    `random` is its exact mean over all sets of k. Of equal scores at the border any may be among
    the k: the regret is then the mean over these. Pairs with None or NaN are dropped.
    """
    (scores, truth), _ = _complete(scores, truth)
    best, regrets = truth.max(initial=-math.inf), []
    for k in (k for k in ks if k <= len(truth)):
        border = np.sort(scores)[-k]
        kept, tied = truth[scores > border], truth[scores == border]
        floor = kept.max(initial=-math.inf)
        chosen = _mean_best(np.maximum(tied, floor), k - len(kept))
        regrets.append(Regret(k, best - chosen, best - _mean_best(truth, k), len(truth)))
    return regrets


def mean_interval(values: Sequence[float]) -> Estimate:
    """Compute the mean, with the 95 % interval of Student's t.

    The interval is NaN where the values do not show their spread: one alone, or equal ones (which
    differ by rounding at most).
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) < ROUNDING:
        return Estimate(mean, math.nan, math.nan)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return Estimate(mean, float(low), float(high))


def mean_difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Compute the difference of two means, with the 95 % interval of Welch's t.

    The interval is NaN where the values do not show their spread: one alone on a side, or equal
    ones on both.
    """
    value = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2 or max(np.ptp(ours), np.ptp(theirs)) < ROUNDING:
        return Estimate(value, math.nan, math.nan)
    squares = [np.var(values, ddof=1) / len(values) for values in (ours, theirs)]
    parts = sum(s**2 / (len(values) - 1) for s, values in zip(squares, (ours, theirs)))
    half = stats.t.ppf(0.975, sum(squares) ** 2 / parts) * math.sqrt(sum(squares))
    return Estimate(value, value - float(half), value + float(half))


def reaches(value: float, bar: float) -> bool:
    """Say whether a value is at or above a bar, or below it by no more than float32 rounds."""
    return value >= bar or math.isclose(value, bar, rel_tol=SINGLE)


def bucket(value: float, width: float) -> int:
    """Find the number of the bucket that a value lies in; number m begins at m times the width."""
    nearest = round(value / width)
    return nearest if reaches(value, nearest * width) else nearest - 1


def evenly(values: Sequence, most: int) -> list:
    """Pick at most so many of the values, evenly spread, with both ends."""
    count = min(most, len(values))
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]


def pareto_front(values: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the numbers of those on the Pareto front, the cheapest first.

    No other has at least the value at no more cost, one of the two strictly. Of equal ones the
    first is on it.
    """
    order = np.lexsort((np.arange(len(values)), -np.asarray(values), costs))
    best, front = -math.inf, []
    for i in order.tolist():
        if values[i] > best:
            best = values[i]
            front.append(i)
    return front


def _mean_best(values, k):
    """Average the best of a set over all sets of k of the n values."""
    n = len(values)
    # the i-th best is the best of k if the other k - 1 come from the n - 1 - i below it
    chances = [math.comb(n - 1 - i, k - 1) / math.comb(n, k) for i in range(n)]
    return float(np.dot(chances, np.sort(values)[::-1]))


def summary(values: Numbers) -> Summary:
    """Summarise values [n], less None and NaN. Raises: ValueError if there is none."""
    (array,), _ = _complete(values)
    if not array.size:
        raise ValueError("there is no value to summarise")
    quantiles = dict(zip(QUANTILES, np.quantile(array, QUANTILES).tolist()))
    low, high = float(array.min()), float(array.max())
    return Summary(array.size, float(array.mean()), _sd(array), low, high, quantiles)


def over_seeds(values: Mapping[str, Sequence[float]]) -> OverSeeds:
    """Compute means and spreads over seeds, of one or more values for each name."""
    means = {name: float(np.mean(repeats)) for name, repeats in values.items()}
    sds = {name: _sd(repeats) for name, repeats in values.items()}
    squares = sum((v - means[name]) ** 2 for name, repeats in values.items() for v in repeats)
    freedom = sum(len(repeats) - 1 for repeats in values.values())
    within = math.sqrt(squares / freedom) if freedom else math.nan
    between = _sd(list(means.values()))
    ratio = between / within if within else math.nan
    return OverSeeds(means, sds, between, within, ratio, len(means))


def _complete(*columns):
    """Return (float64 columns of the complete rows, number of rows dropped) of columns [n]."""
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"lengths differ: {', '.join(str(len(column)) for column in columns)}")
    table = np.array([[math.nan if v is None else v for v in column] for column in columns], float)
    known = ~np.isnan(table).any(0)
    return table[:, known], int(np.sum(~known))


def _no_coefficient(x, y):
    if len(x) < MIN_PAIRS:
        return f"n = {len(x)} is less than {MIN_PAIRS}"
    return "all values are the same" if np.ptp(x) == 0 or np.ptp(y) == 0 else ""


def _resamples(n, num_resamples, seed):
    count = num_resamples or max(LEAST, min(MOST, PAIRS // n))
    return np.random.default_rng(seed).integers(n, size=(count, min(n, DRAWN)))


def _coefficients(x, y):
    """Return kendall, spearman, pearson, each [R], of arrays [R, n]."""
    ranks = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
    return _kendall(x, y), _pearson(*ranks), _pearson(x, y)


def _rowwise(coefficient):
    """Apply to rows [R, n] that vary on both sides; NaN, not a warning, for the others."""

    def applied(x, y):
        varied = (np.ptp(x, 1) > 0) & (np.ptp(y, 1) > 0)
        values = np.full(len(x), math.nan)
        values[varied] = coefficient(x[varied], y[varied])
        return values

    return applied


@_rowwise
def _pearson(x, y):
    return stats.pearsonr(x, y, axis=1).statistic


@_rowwise
def _kendall(x, y):
    if x.shape[1] > FEW:
        # the p-value is not used, and "asymptotic" is the quicker one
        return [stats.kendalltau(a, b, method="asymptotic").statistic for a, b in zip(x, y)]
    # For thousands of short rows SciPy's calls take ten times as long as its sums.
    return np.concatenate([_tau(*rows) for rows in zip(_parts(x), _parts(y))])


def _parts(rows):
    """Divide rows [R, n], so that the pairs of a part are some million numbers."""
    return np.array_split(rows, 1 + rows.size * rows.shape[1] // 10**7)


def _tau(x, y):
    """Compute tau-b of rows [R, n] by the signs of all pairs, to the bit as SciPy does."""
    first, second = np.triu_indices(x.shape[1], 1)
    x, y = (np.sign(values[:, first] - values[:, second]) for values in (x, y))
    untied_x, untied_y = (np.sum(signs**2, 1) for signs in (x, y))
    return (np.sum(x * y, 1) / np.sqrt(untied_x) / np.sqrt(untied_y)).clip(-1, 1)


def _estimate(value, resampled, n):
    """Join `value` [1] of n pairs with its interval, from resamples of at most `DRAWN` pairs."""
    value, shrinkage = float(value[0]), math.sqrt(min(1, DRAWN / n))
    ends = np.nanquantile(resampled, (0.025, 0.975))
    return Estimate(value, *(shrinkage * ends + (1 - shrinkage) * value).tolist())


def _sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
