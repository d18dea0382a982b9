"""The sections of a report on the final networks: groups by accuracy, and accuracy by size."""

import math
from collections.abc import Mapping

from nas_jax.report import analysis, figures, markdown
from nas_jax.report.results import Network, RunResults, columns
from nas_jax.report.sections.networks import BARS, SIZES, axis, labelled, over_seeds, points

FINAL = """Mean ± sd over the n architectures of a group; seeds are averaged first, and their own
sd (pooled) stands apart where there are several. All-on is no architecture of the space."""

OF_POPULATIONS = """Each network is the best of a population (retrain.final.pbt). Validation images
selected it, so it was trained on the training split alone."""


def write(results: RunResults) -> str:
    """List accuracies and sizes of the groups of final networks."""
    return with_populations(table(results.final, results.ranking_metric.judge), results)


def with_populations(text: str, results: RunResults) -> str:
    """Add to a text on final networks that they are the best of populations, if they are."""
    pbt = results.config.get("retrain", {}).get("final", {}).get("pbt")
    return f"{text}\n\n{OF_POPULATIONS}" if pbt else text


def table(groups: Mapping[tuple[int, str], list[Network]], judge: str = "accuracy") -> str:
    """List accuracies and sizes of networks by (filters, group); `judge` as in `RankingMetric`."""
    rows = [_row(filters, name, group) for (filters, name), group in groups.items()]
    header = ("F", "group", "n", axis("final", judge), "sd over seeds (%)", *SIZES)
    return f"{FINAL}\n\n{markdown.table(header, rows)}"


def _row(filters, name, group):
    accuracy, *sizes = map(analysis.summary, columns(group, "accuracy", "params", "flops"))
    noise = over_seeds(group).within
    return (
        filters,
        _label(name),
        accuracy.n,
        markdown.spread(accuracy),
        "" if math.isnan(noise) else noise,
        *(markdown.millions(size.mean) for size in sizes),
    )


def _label(group):
    return group.replace("_", "-")


def accuracy_and_size(results: RunResults) -> str:
    """Draw accuracy against parameters, of the final networks or else of the short trainings."""
    protocol = "final" if results.final else "short"
    groups: dict[str, list] = {}
    for (_, name), group in getattr(results, protocol).items():
        groups.setdefault(_label(name), []).extend(group)
    samples = labelled({name: points(group, "params", 1e-6) for name, group in groups.items()})
    labels = SIZES[0], f"stand-alone {axis(protocol, results.ranking_metric.judge)}"
    figures.groups(results.out / "cost.png", samples, *labels)
    return f"![Accuracy against parameters](cost.png)\n\n{BARS}"
