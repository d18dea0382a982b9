"""The section of a report on the members of an ensemble: how well they rank, how alike they are."""

import itertools

import numpy as np

from nas_jax.report import analysis, heat_map, markdown, score_bias
from nas_jax.report.results import RunResults

TEXT = """The score combines the ranks by {names}. Where a member fails, it ranks an architecture
last. The figure has Kendall's tau-b between what ranks the {n:,} scored architectures: members that
err alike add little to each other."""
JUDGED = "Kendall's tau-b of each with stand-alone accuracy, over all and over those best by it:"


def write(results: RunResults) -> str:
    """List how well the members rank each sample; draw how they rank each other."""
    archs = [row["arch"] for row in results.ranked]
    signals = {
        name: filled([of_arch[arch] for arch in archs]) for name, of_arch in results.members.items()
    }
    signals["combined"] = np.asarray([row["value"] for row in results.ranked])
    signals["parameters"] = np.asarray([row["params"] for row in results.ranked], float)
    heat_map.draw(results.out / "members.png", list(signals), between(signals))
    names = ", ".join(results.members)
    parts = [TEXT.format(names=names, n=len(archs)), "![Rank correlations](members.png)"]
    numbers = {arch: i for i, arch in enumerate(archs)}
    rows = [
        (where, group, label, *taus)
        for (where, group), networks in results.samples.items()
        for label, *taus in _judged([n for n in networks if n.arch in numbers], signals, numbers)
    ]
    if rows:
        header = ("networks", "sample", "ranked by", *score_bias.PARTS)
        parts += [JUDGED, markdown.table(header, rows)]
    return "\n\n".join(parts)


def _judged(networks, signals, numbers):
    """Yield (signal, tau in each of `score_bias.PARTS`) of the networks of a sample."""
    truth = np.asarray([network.accuracy for network in networks])
    chosen = np.asarray([numbers[network.arch] for network in networks], int)
    for label, values in signals.items() if networks else ():
        found = taus(values[chosen], truth)
        shown = (found.get(name) for name in score_bias.PARTS)
        yield label, *("" if tau is None else markdown.interval(tau) for tau in shown)


def taus(values: np.ndarray, truth: np.ndarray) -> dict[str, analysis.Estimate | None]:
    """Estimate tau-b of values and truth, [n], in each of `score_bias.parts`, by name.

    It is None where there is no coefficient.
    """
    return {
        name: analysis.rank_correlations(values[part], truth[part]).kendall
        for name, part in score_bias.parts(truth).items()
    }


def filled(values: analysis.Numbers) -> np.ndarray:
    """Give failures, None, a value below all others: [N]."""
    known = [value for value in values if value is not None]
    least = min(known, default=0) - 1
    return np.asarray([least if value is None else value for value in values], float)


def between(signals: dict[str, np.ndarray]) -> np.ndarray:
    """Compute Kendall's tau-b between all pairs of signals, [N] each: [n, n]."""
    taus = np.eye(len(signals))
    for (i, x), (j, y) in itertools.combinations(enumerate(signals.values()), 2):
        taus[i, j] = taus[j, i] = analysis.kendall(x, y)
    return taus
