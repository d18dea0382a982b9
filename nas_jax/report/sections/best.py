"""The section of a report on the architectures with the best scores."""

from nas_jax.report import cell_figure, markdown
from nas_jax.report.results import RunResults
from nas_jax.report.sections.networks import SIZES

CELL = """A line is a tensor and runs into the concat on the right. A block concatenates the tensors
at its dots and adds up its ops."""
LAST_CELL = "Each cell has its own; this is the last."
MOST_ROWS = 10


def write(results: RunResults) -> str:
    """List the best ten architectures; draw the first, where the space says how."""
    best = [
        (
            number,
            f"`{row['arch']}`",
            results.ranking_metric.factor * row["value"],
            markdown.millions(row["params"]),
            markdown.millions(row["flops"]),
        )
        for number, row in enumerate(results.ranked[:MOST_ROWS], 1)
    ]
    table = markdown.table(("", "architecture", results.ranking_metric.label, *SIZES), best)
    text = f"The first {len(best)} of n = {len(results.ranked):,}:\n\n{table}"
    if not hasattr(results.space, "graph"):
        return f"This space says nothing about how to draw an architecture.\n\n{text}"
    cell_figure.draw(results.out / "best.png", results.space.graph(results.best[0]["arch"]))
    about = CELL if getattr(results.space, "tied", True) else f"{CELL} {LAST_CELL}"
    return f"![The best cell](best.png)\n\n{about}\n\n{text}"
