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
ROUNDS = """In each round the network that the round before has scaled is trained with the penalty:
what is left of it, and the network that this is scaled to. The second figure shows the widths of
`{}` after each round."""
UNITS = {
    "flops": "multiply-adds (M)",
    "params": "parameters (M)",
    "latency_ms": "estimated latency (ms)",
}


def write(results: RunResults) -> str:
    """List the widths that a run has tuned; draw those of the first architecture."""
    return table(results.out, results.widths)


def table(out: Path, rows: Sequence[dict]) -> str:
    """List the costs of rows of widths.json; draw widths.png of the first in the folder `out`."""
    first = rows[0]
    figures.widths(out / "widths.png", first["widths"])
    unit = UNITS[first["resource"]]
    rounds = _rounds(out, rows, unit) if first.get("rounds") else []
    cells = [
        (
            f"`{row['arch']}`",
            row["seed"],
            *(_amount(row, row["costs"][name]) for name in schemas.NETWORKS),
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
            *rounds,
        ]
    )


def _rounds(out, rows, unit):
    """List the costs of each round; draw the first architecture's widths after each."""
    first = rows[0]
    after = [each["widths"]["tuned"] for each in first["rounds"]]
    figures.widths_of_rounds(out / "widths_rounds.png", first["widths"]["full"], after)
    cells = [
        (
            f"`{row['arch']}`",
            row["seed"],
            number,
            *(_amount(row, each["costs"][name]) for name in ("left", "tuned")),
            f"`{widths.split(each['tuned'])[0]}`",
        )
        for row in rows
        for number, each in enumerate(row["rounds"], 1)
    ]
    header = ("architecture", "seed", "round", f"left: {unit}", "tuned", "options left")
    drawn = "![Widths after each round](widths_rounds.png)"
    return [drawn, ROUNDS.format(first["arch"]), markdown.table(header, cells)]


def _amount(row, cost):
    return f"{cost:#.3g}" if row["resource"] == "latency_ms" else markdown.millions(cost)


def _changed(row):
    """Return the architecture that is left, where an op has vanished."""
    left, _ = widths.split(row["tuned"])
    return "" if left == row["arch"] else f"`{left}`"
