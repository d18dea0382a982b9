"""How numbers and tables are written in a report."""

import math
from collections.abc import Iterable

from nas_jax.report.analysis import Correlations, Estimate, Summary


def table(header: Iterable, rows: Iterable[Iterable]) -> str:
    """A table; floats get two decimals."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value):
    return (f"{value:z.2f}" if isinstance(value, float) else str(value)).replace("|", "\\|")


def millions(value: float) -> str:
    """In millions, three digits."""
    millions = value / 1e6
    return f"{millions:#.3g}" if millions < 100 else f"{millions:,.0f}"


def interval(estimate: Estimate) -> str:
    """'value [low, high]', without the interval where there is none; a zero has no sign."""
    value, low, high = (f"{number:z.2f}" for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def coefficients(found: Correlations, count: int = 3) -> list[str]:
    """Cells of the first `count` of Kendall, Spearman, Pearson; or of why there are none."""
    return [found.reason] * count if found.reason else list(map(interval, found[:count]))


def spread(summary: Summary) -> str:
    """'mean ± sd', without sd where there is one value."""
    return f"{summary.mean:.2f}" + ("" if math.isnan(summary.sd) else f" ± {summary.sd:.2f}")
