"""The sections of a report on how well scores rank stand-alone accuracy, and what that costs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas_jax.report import analysis, figures, markdown, score_bias
from nas_jax.report.results import SIZE_RANKERS, Network, RunResults, columns
from nas_jax.report.sections.networks import BARS, axis, labelled, over_seeds, points
from nas_jax.training.ranking_metrics import RankingMetric

RANKING = """Correlation of what ranks architectures with their stand-alone accuracy (mean over
seeds), with 95 % intervals of a bootstrap over the n architectures (5,000 at a time where there are
more). A stratified sample holds more of the extremes than the candidates do, so it is easier to
rank; only the random sample speaks for them. The top half and the top tenth are the best by
stand-alone accuracy."""
SHARED = """Score and judge share images: the scores are of {:,} of the validation images, all of
which judge the stand-alone networks with {}, so their errors are not independent, which favours the
score."""
REGRET = """Stand-alone accuracy, in percentage points, lost by training only the k best-scored of
the n architectures, and by training k at random (exact mean). Both train k networks; the
supernet's own training comes on top."""
Samples = Mapping[tuple[str, str], list[Network]]  # as `RunResults.samples`


def write(results: RunResults) -> str:
    """Compare what ranks stand-alone accuracy: scores, sizes and another seed."""
    return comparison(results.out, results.ranking_metric, results.samples, results.trials)


def comparison(out: Path, metric: RankingMetric, samples: Samples, trials: Sequence[dict]) -> str:
    """Draw ranking_*.png in the folder `out`: scores against stand-alone accuracy, by sample.

    The errors of scores and of networks of the protocol "short" are not independent: scores are of
    some of the validation images that judge these networks. The text says so.

    Returns: Markdown, with tables of rank correlations and of the spread between seeds.
    """
    header = ("networks", "sample", "part", "ranked by", "n")
    header += ("Kendall's tau-b", "Spearman's rho", "Pearson's r")
    rows = [
        row for key, group in samples.items() for row in _coefficients(metric.name, *key, group)
    ]
    places = list(dict.fromkeys(where for where, _ in samples))
    images = [_panels(out, metric, samples, where) for where in places]
    judged = [where for where in places if where != "published"]
    notes = [BARS, RANKING, *_shared(metric, trials, judged)]
    return "\n\n".join([*images, *notes, markdown.table(header, rows), _seeds(samples)])


def _shared(metric, trials, places):
    scored = [row for row in trials if row["value"] is not None]
    if places and scored and metric.on_valid:
        yield SHARED.format(scored[0]["num_images"], " or ".join(places))


def _panels(out, metric, samples, where):
    by_sample = {
        f"{name} sample": points(group, "one_shot")
        for (place, name), group in samples.items()
        if place == where
    }
    if not (panels := labelled(by_sample)):
        return f"None of the networks with {where} has a score."
    truth = axis("short", metric.judge) if where != "published" else axis("final")
    name = f"ranking_{where.replace(' = ', '')}.png"
    figures.panels(out / name, [panels], metric.label, f"stand-alone {truth}")
    return f"![Score and stand-alone accuracy, {where}]({name})"


def _coefficients(metric_name, where, name, networks):
    """Yield a row for each part and ranker, all on the same networks: those with a score."""
    networks = [network for network in networks if network.one_shot is not None]
    (truth,) = columns(networks, "accuracy")
    for part, numbers in score_bias.parts(truth).items() if networks else ():
        for label, x, y in _rankers(metric_name, [networks[i] for i in numbers], part):
            result = analysis.rank_correlations(x, y)
            yield where, name, part, label, result.n, *markdown.coefficients(result)


def _rankers(metric_name, networks, part):
    """Yield (label, what ranks, what is ranked): the score, costs, a training ranking another.

    Within the best by the mean of the seeds these are pushed apart, so seeds are compared over all.
    """
    for label, field in {metric_name: "one_shot", **SIZE_RANKERS}.items():
        yield label, *columns(networks, field, "accuracy")
    if part == "all" and all(len(network.accuracies) > 1 for network in networks):
        yield "one seed, ranking another", *zip(*(n.accuracies[:2] for n in networks))
    if all(network.valid is not None for network in networks):
        yield "validation accuracy", *columns(networks, "valid", "accuracy")


def _seeds(samples):
    rows = [
        (where, name, seeds.n, seeds.between, seeds.within, seeds.ratio)
        for (where, name), group in samples.items()
        if not math.isnan((seeds := over_seeds(group)).within)
    ]
    header = ("networks", "sample", "n", "sd between architectures (%)")
    header += ("sd between seeds (%)", "ratio")
    return markdown.table(header, rows) if rows else "Every network has one seed."


def regret(results: RunResults) -> str:
    """List what is lost by training the best-scored alone, and by training some at random."""
    rows = [
        (where, name, result.n, result.k, result.regret, result.random)
        for (where, name), group in results.samples.items()
        for result in analysis.top_k_regret(*columns(group, "one_shot", "accuracy"))
    ]
    header = ("networks", "sample", "n", "k", "k best-scored", "k at random")
    return f"{REGRET}\n\n{markdown.table(header, rows)}"
