"""The section of a report on tuned widths."""

from collections.abc import Sequence

from nas_jax.costs import widths
from nas_jax.report import figures, markdown
from nas_jax.storage import schemas

TEXT = """The network of an architecture is trained with MorphNet's penalty; what is left of it is
scaled uniformly to a share of the full network's cost (tuned), and so is the full network
(narrowed). An op with no channel left vanishes."""
UNITS = {"flops": "multiply-adds (M)", "params": "parameters (M)"}


def write(found) -> str:
    """Markdown of the widths that a run has tuned; draws those of the first."""
    return table(found, found.widths)


def table(found, rows: Sequence[dict]) -> str:
    """The same of some rows of widths.json."""
    first = rows[0]
    figures.widths(found.out / "widths.png", first["widths"])
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
    """The architecture that is left, where an op has vanished."""
    left, _ = widths.split(row["tuned"])
    return "" if left == row["arch"] else f"`{left}`"
