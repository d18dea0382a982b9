"""The section of a report on tuned widths."""

from collections.abc import Sequence
from pathlib import Path

from nas_jax.costs import widths
from nas_jax.report import figures, markdown
from nas_jax.report.results import RunResults
from nas_jax.storage import schemas

TEXT = """The network of an architecture is trained with MorphNet's penalty; what is left of it is
scaled uniformly to a share of the full network's cost (tuned), and so is the full network
(narrowed). An op with no channel left vanishes."""
UNITS = {"flops": "multiply-adds (M)", "params": "parameters (M)"}


def write(results: RunResults) -> str:
    """List the widths that a run has tuned; draw those of the first architecture."""
    return table(results.out, results.widths)


def table(out: Path, rows: Sequence[dict]) -> str:
    """List the costs of rows of widths.json; draw widths.png of the first in the folder `out`."""
    first = rows[0]
    figures.widths(out / "widths.png", first["widths"])
    unit = UNITS[first["resource"]]
    cells = [
        (
            f"`{row['arch']}`",
            row["seed"],
            *(markdown.millions(row["costs"][name]) for name in schemas.NETWORKS),
            _changed(row),
        )
        for row in rows
    ]
    header = ("architecture", "seed", f"full: {unit}", *schemas.NETWORKS[1:], "what is left")
    return "\n\n".join(
        [
            "![Widths](widths.png)",
            f"{TEXT} The figure shows `{first['arch']}`.",
            markdown.table(header, cells),
        ]
    )


def _changed(row):
    """Return the architecture that is left, where an op has vanished."""
    left, _ = widths.split(row["tuned"])
    return "" if left == row["arch"] else f"`{left}`"
