"""Numbers and tables as a report writes them."""

import math
import re
from collections.abc import Iterable

from nas_jax.report.analysis import Correlations, Estimate, Summary


def table(header: Iterable, rows: Iterable[Iterable]) -> str:
    """Write a table; floats get two decimals."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value):
    return (f"{value:z.2f}" if isinstance(value, float) else str(value)).replace("|", "\\|")


def tables(text: str) -> list[list[list[str]]]:
    """Read the tables that `table` wrote in a text: for each its rows of cells, the header first.

    Of a cell that is code, the code is returned.
    """
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    lines = ([_cells(line) for line in each.splitlines()] for each in found)
    return [[header, *rows] for header, _, *rows in lines]


def _cells(line):
    cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
    return [re.sub(r"^`(.*)`$", r"\1", cell.replace("\\|", "|").strip()) for cell in cells]


def millions(value: float) -> str:
    """Write a number in millions, with three digits."""
    millions = value / 1e6
    return f"{millions:#.3g}" if millions < 100 else f"{millions:,.0f}"


def interval(estimate: Estimate) -> str:
    """Write 'value [low, high]', without the interval where there is none; a zero has no sign."""
    value, low, high = (f"{number:z.2f}" for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def coefficients(correlations: Correlations, count: int = 3) -> list[str]:
    """Write cells of the first `count` of Kendall, Spearman, Pearson; or why there are none."""
    if correlations.reason:
        return [correlations.reason] * count
    return list(map(interval, correlations[:count]))


def spread(summary: Summary) -> str:
    """Write 'mean ± sd', without sd where there is one value."""
    return f"{summary.mean:.2f}" + ("" if math.isnan(summary.sd) else f" ± {summary.sd:.2f}")
