"""Figures, from plain arrays to PNG and PDF files; what they mean is up to the caller."""

import contextlib
import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas_jax.runtime import environment
from nas_jax.storage import file_paths

with environment.no_backend():
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "errorbar.capsize": 2,
}
# Okabe and Ito's palette, which stays apart for colour-blind readers; markers repeat the coding.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00")
MARKERS = "osD^*vP"
DARK, PALE = "0.2", "0.78"
DPI, WIDTH = 150, 6.5  # inches
MOST_BINS = 500  # of a histogram
CROWD = 300  # points of a sample; more are drawn small
MOST_VECTORS = 2000  # points of a sample in a PDF; more are a picture in it, which opens sooner


class Points(NamedTuple):
    """Points [n]; `spread` is the half-length of error bars, NaN for none of a point."""

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float]


@contextlib.contextmanager
def canvas(path: Path, rows: int, columns: int, height: float, **subplots: Any) -> Iterator[Any]:
    """Give axes to draw on, array [rows, columns], and write the files when the block ends.

    They are the PNG `path`, and a PDF of the same name beside it.
    What a user has set for figures of their own (matplotlibrc, a style) does not hold here.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        file_paths.check(path, "path")
        figure = Figure((WIDTH, height), layout="constrained")
        yield figure.subplots(rows, columns, squeeze=False, **subplots)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        undated = {"CreationDate": None}  # equal figures are equal files
        figure.savefig(path.with_suffix(".pdf"), dpi=2 * DPI, metadata=undated)


def curves(path: Path, steps: Sequence[int], series: Mapping[str, Sequence[float]]) -> None:
    """Draw small multiples over training steps [n]: one panel per label, two a row."""
    rows = -(-len(series) // 2)
    with canvas(path, rows, 2, 2.1 * rows + 0.3, sharex=True) as axes:
        for ax, (label, values) in zip(axes.flat, series.items()):
            ax.plot(steps, values, color=COLOURS[0])
            ax.set_title(label, loc="left")
            ax.set(xlim=(0, None), ylim=(0, None))
        for ax in axes[-1]:
            ax.set_xlabel("training step")


def histogram(
    path: Path,
    values: Sequence[float],
    resolution: float,
    xlabel: str,
    *,
    mean: float,
    sd: float,
    quantiles: Mapping[float, float],
) -> None:
    """Draw the distribution of values [n], which are multiples of `resolution`, with marks.

    Bins are whole multiples of the resolution: others would show a comb that is not in the data.
    """
    automatic = np.diff(np.histogram_bin_edges(values, "auto")[:2]).item()
    least = (max(values) - min(values)) / MOST_BINS
    width = max(1, round(automatic / resolution), math.ceil(least / resolution)) * resolution
    edges = np.arange(min(values) - resolution / 2, max(values) + width, width)
    with canvas(path, 1, 1, 3.3) as axes:
        ax = axes.item()
        heights, *_ = ax.hist(values, edges, color=COLOURS[5], edgecolor="white", linewidth=0.4)
        peak = 1.25 * max(heights)
        ax.errorbar(mean, peak, xerr=sd, fmt="o", color=COLOURS[6], linewidth=1.8, capsize=4)
        label = f"mean ± sd: {mean:.1f} ± {sd:.1f}"
        ax.annotate(label, (mean, peak), (0, 6), textcoords="offset points", ha="center")
        ax.vlines(list(quantiles.values()), 0, peak, color=DARK, linestyle=":", linewidth=1.3)
        for row, (share, value) in enumerate(quantiles.items()):
            height = (0.98 - 0.06 * row) * peak  # at several heights: quantiles may be close
            ax.annotate(f" {share:.0%}", (value, height), va="top", fontsize=9)
        ax.set(xlabel=xlabel, ylabel=f"candidates (n = {len(values):,})", ylim=(0, 1.1 * peak))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def panels(
    path: Path,
    rows: Sequence[Mapping[str, Points]],
    xlabel: str,
    ylabel: str,
    *,
    sharey: bool = True,
) -> None:
    """Draw a scatter panel per sample; those of a row share their axes, so that ranges compare."""
    columns = max(map(len, rows))
    height, size = (3.3, 10) if columns < 3 else (2.3, 7.5)
    share = {"sharex": "row", "sharey": "row" if sharey else False}
    with canvas(path, len(rows), columns, height * len(rows), **share) as axes:
        for line, samples in zip(axes, rows):
            for ax, (title, points) in zip(line, samples.items()):
                _scatter(ax, points, COLOURS[0], "o")
                ax.set_title(textwrap.fill(title, 80 // columns), loc="left", fontsize=size)
                ax.set_xlabel(xlabel, fontsize=size)
                ax.tick_params(labelsize=size)
            line[0].set_ylabel(ylabel, fontsize=size)
            for ax in line[len(samples) :]:
                ax.set_visible(False)


def courses(
    path: Path,
    steps: Sequence[int],
    series: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    order: str,
) -> None:
    """Draw a line per label over training steps [n], from pale to dark as they come.

    `order` says by what they are ordered.
    """
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, len(series)))
    with canvas(path, 1, 1, 3.4) as axes:
        ax = axes.item()
        for (label, values), colour in zip(series.items(), colours):
            ax.plot(steps, values, "o-", color=colour, markersize=4, label=label)
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        ax.legend(title=order, loc="center left", bbox_to_anchor=(1, 0.5))


def descent(path: Path, edges: Sequence[int], panels: Mapping[str, tuple[Any, Any]]) -> None:
    """Draw a panel per hyper-parameter over training steps; a wide range is logarithmic.

    Args:
      path: of the PNG.
      edges: steps [n + 1]; a value holds between two of them.
      panels: (values [n, M] of the members, values [n] of one line of descent) by label.
    """
    with canvas(path, 1, len(panels), 2.7) as axes:
        for ax, (label, (members, line)) in zip(axes.flat, panels.items()):
            for values in np.transpose(members):
                ax.stairs(values, edges, baseline=None, color=PALE, linewidth=0.8)
            ax.stairs(line, edges, baseline=None, color=COLOURS[0], linewidth=1.8)
            ax.set_title(label, loc="left")
            ax.set(xlabel="training step", xlim=(0, None))
            low, high = np.min(members), np.max(members)
            if low > 0 and high / low > 4:
                _make_logarithmic(ax, "y")


def _make_logarithmic(ax, which):
    """Make an axis logarithmic, with ticks at 1, 2 and 5."""
    ax.set(**{f"{which}scale": "log"})
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def groups(path: Path, samples: Mapping[str, Points], xlabel: str, ylabel: str) -> None:
    """Draw all samples in one panel, told apart by colour and marker; a wide x is logarithmic."""
    with canvas(path, 1, 1, 3.6) as axes:
        ax = axes.item()
        for (label, points), colour, marker in zip(samples.items(), COLOURS, MARKERS):
            _scatter(ax, points, colour, marker, label)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        low, high = ax.get_xlim()
        if low <= 0 or high / low > 4:  # within less, a logarithmic axis has no room for ticks
            _make_logarithmic(ax, "x")
        ax.legend(loc="best")


def _scatter(ax, points, colour, marker, label=None):
    size = 10 if marker == "*" else 6.5
    style = {"color": colour, "alpha": 0.75, "markeredgecolor": "white", "markeredgewidth": 0.5}
    if len(points.x) > CROWD:
        size, style = 2.5, {"color": colour, "alpha": 0.4, "markeredgewidth": 0}
    style |= {"fmt": marker, "markersize": size, "elinewidth": 0.9}
    spread = points.spread if np.isfinite(points.spread).any() else None  # no bars in the legend
    style["rasterized"] = len(points.x) > MOST_VECTORS
    ax.errorbar(points.x, points.y, spread, label=label, **style)


class Front(NamedTuple):
    """Points [n], and the numbers of those on the Pareto front, the cheapest first."""

    x: Sequence[float]
    y: Sequence[float]
    front: Sequence[int]


def fronts(path: Path, panels: Mapping[str, Front], ylabel: str) -> None:
    """Draw a panel per cost (its label): all points pale, the front as a staircase."""
    with canvas(path, 1, len(panels), 3.2, sharey=True) as axes:
        for ax, (label, points) in zip(axes.flat, panels.items()):
            _scatter(ax, Points(points.x, points.y, [np.nan]), PALE, "o")
            x, y = ([values[i] for i in points.front] for values in points[:2])
            ax.step([*x, max(points.x)], [*y, y[-1]], where="post", color=COLOURS[0])
            ax.plot(x, y, "o", color=COLOURS[0], markersize=5, zorder=5)
            ax.set_xlabel(label)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0, 0].set_ylabel(ylabel)


def bands(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], ...]]],
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw a panel per title, y logarithmic, with a line and its band per label.

    A line is (x, mean, low, high); its band has a gap where low and high are NaN.
    """
    with canvas(path, 1, len(panels), 3.6) as axes:
        for ax, (title, lines) in zip(axes.flat, panels.items()):
            for (label, (x, mean, low, high)), colour in zip(
                lines.items(), itertools.cycle(COLOURS)
            ):
                ax.plot(x, mean, color=colour, label=label)
                ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.set(xlabel=xlabel, yscale="log")
            ax.set_title(title, loc="left")
        axes[0, 0].set_ylabel(ylabel)
        axes[0, -1].legend(loc="best", fontsize=9)


def intervals(path: Path, estimates: Mapping[str, Sequence[float]], xlabel: str) -> None:
    """Draw a row per label, and a line at zero.

    A row is (value, low, high), a point with its interval; without ends (NaN) a point alone.
    """
    interval_groups(path, {"": estimates}, xlabel)


def interval_groups(
    path: Path, groups: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str
) -> None:
    """Draw rows as `intervals` does, of several groups with the same labels, each in a colour."""
    labels = list(next(iter(groups.values())))
    with canvas(path, 1, 1, 0.28 * len(labels) + 0.9) as axes:
        ax = axes.item()
        ax.axvline(0, color=DARK, linewidth=1)
        for number, (name, estimates) in enumerate(groups.items()):
            values, low, high = np.transpose([estimates[label] for label in labels])
            rows = np.arange(len(labels)) + 0.25 * (number - (len(groups) - 1) / 2)
            ends = values - low, high - values
            ax.errorbar(values, rows, xerr=ends, fmt="o", color=COLOURS[number], label=name)
        ax.set_yticks(np.arange(len(labels)), labels)
        ax.set(xlabel=xlabel, ylim=(len(labels) - 0.5, -0.5))
        if len(groups) > 1:
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(groups))


def widths(path: Path, by_tensor: Mapping[str, Mapping[str, int]]) -> None:
    """Draw the channels of each tensor: "full" as frames, "tuned" as bars, "narrowed" as ticks.

    Tensors that are not in "tuned" have vanished.
    """
    names = list(by_tensor["full"])
    places = np.arange(len(names))[::-1]
    tuned, narrowed = (
        [by_tensor[of].get(name, 0) for name in names] for of in ("tuned", "narrowed")
    )
    with canvas(path, 1, 1, 0.22 * len(names) + 1) as [[ax]]:
        full = list(by_tensor["full"].values())
        ax.barh(places, full, 0.8, color="none", edgecolor=PALE, label="full")
        ax.barh(places, tuned, 0.6, color=COLOURS[0], label="tuned")
        ax.plot(narrowed, places, "|", color=COLOURS[1], ms=9, mew=2.5, label="narrowed")
        ax.set_yticks(places, names, fontsize=8)
        ax.set(xlabel="channels", ylim=(-0.7, len(names) - 0.3))
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def widths_of_rounds(
    path: Path, full: Mapping[str, int], rounds: Sequence[Mapping[str, int]]
) -> None:
    """Draw the channels of each tensor: `full` as frames, those after each round as thin bars.

    Tensors that a round lacks have vanished.
    """
    names, height = list(full), 0.8 / len(rounds)
    places = np.arange(len(names))[::-1]
    with canvas(path, 1, 1, 0.22 * max(len(rounds), 2) / 2 * len(names) + 1) as [[ax]]:
        ax.barh(places, list(full.values()), 0.8, color="none", edgecolor=PALE, label="full")
        for number, after in enumerate(rounds):
            at = places + 0.4 - (number + 0.5) * height
            channels = [after.get(name, 0) for name in names]
            colour = COLOURS[number % len(COLOURS)]
            ax.barh(at, channels, 0.8 * height, color=colour, label=f"round {number + 1}")
        ax.set_yticks(places, names, fontsize=8)
        ax.set(xlabel="channels", ylim=(-0.7, len(names) - 0.3))
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)


def growth(
    path: Path, xs: Sequence[int], counts: Sequence[int], params: Sequence[float], xlabel: str
) -> None:
    """Draw architectures (log axis) and parameters in millions, side by side over xs [n]."""
    labels = "architectures in the space", "parameters of the supernet (M)"
    with canvas(path, 1, 2, 2.9, sharex=True) as axes:
        for ax, values, label in zip(axes.flat, (counts, params), labels):
            ax.plot(xs, [float(value) for value in values], "o-", color=COLOURS[0])
            ax.set_title(label, loc="left")
            ax.set_xlabel(xlabel)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0, 0].set_yscale("log")
        axes[0, 1].set_ylim(bottom=0)
