"""The section of a report on the distribution of the candidates' values."""

from collections.abc import Sequence
from pathlib import Path

from nas_jax.report import analysis, figures, markdown
from nas_jax.report.results import RunResults
from nas_jax.training.ranking_metrics import RankingMetric

THRESHOLDS = (10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)  # per cent


def write(results: RunResults) -> str:
    """Draw the distribution of the values, with a table of its quantiles."""
    return distribution(results.out, results.ranking_metric, results.trials)


def distribution(out: Path, metric: RankingMetric, trials: Sequence[dict]) -> str:
    """Draw scores.png in the folder `out`: the distribution of the trials' values, one or more.

    Returns: Markdown, with a table of quantiles and of the shares above some thresholds.
    """
    scored = [row for row in trials if row["value"] is not None]
    values = [metric.factor * row["value"] for row in scored]
    summary = analysis.summary(values)
    _draw(out / "scores.png", metric, values, summary, scored[0])
    rows = [
        ("mean ± sd", markdown.spread(summary)),
        ("lowest", summary.low),
        ("highest", summary.high),
    ]
    rows += [(f"{share:.0%} quantile", value) for share, value in summary.quantiles.items()]
    rows += _above(values) if metric.is_accuracy else []
    failed = f"{len(trials) - summary.n:,} of {len(trials):,} candidates failed."
    table = markdown.table((metric.name, metric.unit, "n"), [(*row, summary.n) for row in rows])
    return f"![Distribution of scores](scores.png)\n\n{failed}\n\n{table}"


def _draw(path, metric, values, summary, trial):
    quantiles = {share: summary.quantiles[share] for share in (0.5, 0.9, 0.99)}
    marks = {"mean": summary.mean, "sd": summary.sd, "quantiles": quantiles}
    resolution = 100 / trial["num_images"] if metric.is_accuracy else 1e-3
    figures.histogram(path, values, resolution, metric.label, **marks)


def _above(values):
    """Yield a row for each threshold that some of the values reach, and not all."""
    for bar in THRESHOLDS:
        count = sum(analysis.reaches(value, bar) for value in values)
        if 0 < count < len(values):
            yield f"candidates at {bar} % or more", 100 * count / len(values)
