"""The section of a report on the Pareto front: the best score for what an architecture costs."""

from nas_jax.costs import latency
from nas_jax.report import analysis, figures, markdown
from nas_jax.report.results import RunResults

COSTS = {  # field of a trial -> (label, unit)
    "params": ("parameters (M)", 1e6),
    "flops": ("multiply-adds (M)", 1e6),
    "latency_ms": ("latency (ms)", 1),
}
MOST_ROWS = 20
TEXT = """An architecture is on a front if no other scored one has at least its score at no more
cost. Costs are those of the network with the supernet's width. The table has the front of score
and parameters."""


def write(results: RunResults) -> str:
    """Draw the fronts, of every cost that the trials have; list that of the parameters."""
    rows, metric = results.ranked, results.ranking_metric
    values = [metric.factor * row["value"] for row in rows]
    known = {
        field: cost
        for field, cost in COSTS.items()
        if all(row.get(field) is not None for row in rows)
    }
    fronts, panels = {}, {}
    for field, (label, unit) in known.items():
        costs = [row[field] / unit for row in rows]
        fronts[field] = analysis.pareto_front(values, costs)
        panels[label] = figures.Front(costs, values, fronts[field])
    figures.fronts(results.out / "pareto.png", panels, metric.label)
    return "\n\n".join(
        [
            "![Pareto fronts](pareto.png)",
            TEXT,
            *_limits(results.config.get("sweep", {}).get("constraints", {})),
            *_latency(results.latency),
            *_table_of_latencies(results.config.get("sweep", {}).get("latency", {}).get("table")),
            _table(results, known, fronts["params"]),
        ]
    )


def _limits(constraints):
    limits = [f"{name} = {limit:,}" for name, limit in constraints.items() if limit]
    if limits:
        yield f"Candidates keep to {', '.join(limits)}."


def _latency(timed):
    if timed:
        yield (
            f"Latencies are estimated from {timed['num_archs']} architectures that were timed on "
            f"{timed['device']}, batches of {timed['batch_size']}, with a "
            f"{latency.quality(timed)} on a quarter of them kept apart."
        )
    if timed and latency.is_poor(timed):
        yield f"**These estimates are poor, and so is a search by them: {latency.REMEDY}.**"


def _table_of_latencies(name):
    if name:
        yield f"Latencies are those of a target device: `{name}`."


def _table(results, known, front):
    rows = [
        (
            f"`{row['arch']}`",
            results.ranking_metric.factor * row["value"],
            *(f"{row[field] / unit:#.3g}" for field, (_, unit) in known.items()),
        )
        for row in (results.ranked[i] for i in analysis.evenly(front, MOST_ROWS))
    ]
    header = "architecture", results.ranking_metric.label, *(label for label, _ in known.values())
    count = f"{len(rows)} of the {len(front)} architectures on the front, the smallest first:"
    return f"{count}\n\n{markdown.table(header, rows)}"
