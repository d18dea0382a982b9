"""Stand-alone networks as the points of figures and the cells of tables."""

from collections.abc import Iterable, Mapping

from nas_jax.report import analysis, figures
from nas_jax.report.results import Network, columns

IMAGES = {"short": "validation", "final": "test"}  # that judge the networks of a protocol
SIZES = ("parameters (M)", "multiply-adds (M)")
BARS = "Error bars, where there are several seeds, are their sd."


def axis(protocol: str, judge: str = "accuracy") -> str:
    """Name an axis or a column of networks; `judge` as in `RankingMetric`."""
    return f"{IMAGES[protocol]} {judge} (%)"


def over_seeds(networks: Iterable[Network]) -> analysis.OverSeeds:
    """Compute means and spreads of the networks' accuracies over their seeds."""
    return analysis.over_seeds({network.arch: network.accuracies for network in networks})


def points(networks: Iterable[Network], field: str, unit: float = 1) -> figures.Points:
    """Return accuracy against `unit` times a field, of the networks that have the field.

    Error bars are the sd over seeds, where there are several.
    """
    known = [network for network in networks if getattr(network, field) is not None]
    x, y = columns(known, field, "accuracy")
    sds = over_seeds(known).sds
    return figures.Points([unit * value for value in x], y, [sds[n.arch] for n in known])


def labelled(samples: Mapping[str, figures.Points]) -> dict[str, figures.Points]:
    """Add the number of points to each label; samples without points are left out."""
    return {f"{name} (n = {len(points.x)})": points for name, points in samples.items() if points.x}
