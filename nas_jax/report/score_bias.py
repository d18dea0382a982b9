"""How far a score can be trusted: where it ranks well, and which options it rates too high or low.

Letters: n architectures, m labels (kinds of options).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from nas_jax.report import analysis

PARTS = {"all": 1.0, "top half": 0.5, "top 10 %": 0.1}  # the best by truth
TOP = 0.1  # of the architectures: where a collapse shows
FEW = 30  # architectures: below, an interval of tau is wider than what methods differ by
MANY = 50  # architectures: below, the best tenth is too few to show a collapse


class AgainstSize(NamedTuple):
    """Kendall's tau-b of a score, that of the `size` that ranks best, and how much more it is."""

    size: str
    tau: float
    tau_of_size: float
    gain: analysis.Estimate


class Bias(NamedTuple):
    """How an option is rated.

    Attributes:
      rank: mean, over all uses, of (rank by score - rank by truth) / n, in (-1, 1); above 0 the
        option is over-rated.
      share: of all options compared, in [0, 1], over all architectures.
      share_by_score, share_by_truth: the same over the best architectures by score and by truth.
    """

    rank: analysis.Estimate
    share: float
    share_by_score: float
    share_by_truth: float

    @property
    def dominates(self) -> bool:
        """Whether it crowds out others among the best by score more than it should."""
        return self.share_by_score > max(0.5, 1.5 * self.share_by_truth)


def parts(truth: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the numbers of the architectures in each of `PARTS`, the best by truth.

    Of equal ones at the border all are in it. A part too small for a coefficient is left out.
    """
    truth = np.asarray(truth, float)
    numbers_by_part = {}
    for name, share in PARTS.items():
        numbers = _best(truth, share)
        if name == "all" or analysis.MIN_PAIRS <= len(numbers) < len(truth):
            numbers_by_part[name] = numbers
    return numbers_by_part


def _best(values, share):
    bar = np.sort(values)[::-1][math.ceil(share * len(values)) - 1]
    return np.flatnonzero(values >= bar)


def against_size(
    scores: analysis.Numbers, sizes: Mapping[str, Sequence[float]], truth: Sequence[float]
) -> AgainstSize | None:
    """Compare a score with the size that ranks `truth` best; None where a coefficient is missing.

    Args:
      scores: [n], None for a gap.
      sizes: by name, [n] each.
      truth: [n].
    """
    known = [i for i, score in enumerate(scores) if score is not None]
    scores, truth = (np.asarray(values)[known].astype(float) for values in (scores, truth))
    sizes = {name: np.asarray(values)[known] for name, values in sizes.items()}
    taus = {name: analysis.kendall(values, truth) for name, values in sizes.items()}
    best = max(taus, key=lambda name: np.nan_to_num(taus[name], nan=-2))
    gain = analysis.kendall_gain(scores, sizes[best], truth)
    if gain is None:
        return None
    return AgainstSize(best, analysis.kendall(scores, truth), taus[best], gain)


def biases(
    uses: Mapping[str, Sequence[float]],
    scores: Sequence[float],
    truth: Sequence[float],
    *,
    num_resamples: int = 1000,
) -> dict[str, Bias]:
    """Compute the `Bias` of each label, with 95 % intervals of a bootstrap over architectures.

    Of more than 5,000 architectures, the intervals are of the normal distribution to which the
    bootstrap comes close (delta method of a ratio of means).

    Args:
      uses: per label how often each architecture uses it, [n]; at least one does.
      scores, truth: [n], no gaps.
      num_resamples: of the bootstrap.
    """
    scores, truth = np.asarray(scores, float), np.asarray(truth, float)
    table = np.asarray(list(uses.values()), float)  # [m, n]
    gap = (stats.rankdata(scores) - stats.rankdata(truth)) / len(scores)
    shares = [_shares(table)] + [_shares(table[:, _best(x, TOP)]) for x in (scores, truth)]
    ranks = _mean_gaps(table, gap, num_resamples)
    return {
        label: Bias(analysis.Estimate(*ranks[:, i].tolist()), *(float(s[i]) for s in shares))
        for i, label in enumerate(uses)
    }


def _mean_gaps(table, gap, num_resamples):
    """Average `gap` [n] over the uses in `table` [m, n]: values, low and high ends, [3, m]."""
    if len(gap) > analysis.DRAWN:
        means = table @ gap / table.sum(1)
        errors = np.linalg.norm(table * (gap - means[:, None]), axis=1) / table.sum(1)
        half = stats.norm.ppf(0.975) * errors
        return np.stack([means, means - half, means + half])
    counts = _resampled_counts(len(gap), num_resamples)
    used = counts @ table.T  # [1 + num_resamples, m]; in a resample an option may have no use
    means = (counts * gap) @ table.T / np.where(used, used, np.nan)
    return np.stack([means[0], *np.nanquantile(means[1:], (0.025, 0.975), axis=0)])


def _shares(table):
    return table.sum(1) / table.sum()


def _resampled_counts(n, num_resamples):
    """Draw how often each of n is taken: once each in the first row, then as in a bootstrap."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(n, np.full(n, 1 / n), num_resamples)
    return np.concatenate([np.ones((1, n)), drawn])


def num_tied(scores: Sequence[float]) -> int:
    """Count the scores that equal another."""
    _, counts = np.unique(np.asarray(scores, float), return_counts=True)
    return int(counts[counts > 1].sum())


def merged(groups: Sequence[str], *columns: Sequence[float]) -> list[np.ndarray]:
    """Merge groups: each column [n] becomes the means of its groups, [number of groups]."""
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(members)
    means = [np.bincount(members, np.asarray(column, float)) / sizes for column in columns]
    return [np.round(mean, 9) for mean in means]  # equal ones must tie when ranked
