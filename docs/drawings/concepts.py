"""Drawings of the pages in docs/concepts: `python docs/drawings/concepts.py` writes docs/figures.

Lengths are in inches, from the lower left corner. Dark is what is on or computed, pale what is off.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

FIGURES = Path(__file__).parents[1] / "figures"
INK, DARK, LIGHT, PALE = "#1a1a1a", "#0b5394", "#d6e6f5", "#c4ccd4"
OPS = ("identity", "sep3x3", "sep5x5", "sep7x7", "conv7x7", "maxpool", "avgpool")
SIZE = 10.5  # of text, points
Point = tuple[float, float]


@contextlib.contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Axes]:
    """Give axes in inches to draw on, and write the file when the block ends."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": path.stem, "font.family": "DejaVu Sans"})
        figure = Figure((width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        yield axes
        undated = {"Date": None} if path.suffix == ".svg" else {}  # equal figures are equal files
        figure.savefig(path, dpi=130, metadata=undated)


def write(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Write text, centred at a point unless the style says otherwise."""
    given = {"ha": "center", "va": "center", "fontsize": SIZE, "color": INK}
    axes.text(x, y, text, **given | {"linespacing": 1.35} | style)


def box(axes: Axes, centre: Point, size: Point, text: str = "", on: bool = True) -> None:
    """Draw a rounded box, with text in it."""
    (x, y), (width, height) = centre, size
    style = {"facecolor": LIGHT, "edgecolor": DARK, "linewidth": 1.4}
    if not on:
        style = {"facecolor": "white", "edgecolor": PALE, "linewidth": 1.2, "linestyle": "--"}
    corner = (x - width / 2, y - height / 2)
    shape = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, width, height, shape, zorder=2, **style))
    write(axes, x, y, text, zorder=3)


def bit(axes: Axes, x: float, y: float, on: bool, side: float = 0.24) -> None:
    """Draw an entry of a mask: 1 on dark, 0 on white."""
    style = {"facecolor": DARK if on else "white", "edgecolor": DARK if on else PALE}
    corner = (x - side / 2, y - side / 2)
    axes.add_patch(Rectangle(corner, side, side, linewidth=1, zorder=3, **style))
    colour = "white" if on else INK
    write(axes, x, y - 0.01, str(int(on)), color=colour, fontsize=SIZE - 1, zorder=4)


def bits(axes: Axes, x: float, y: float, mask: Sequence[int], side: float = 0.24) -> None:
    """Draw a mask in a row; the first entry is at the point."""
    for j, on in enumerate(mask):
        bit(axes, x + j * side, y, bool(on), side)


def arrow(axes: Axes, start: Point, end: Point, on: bool = True) -> None:
    """Draw an arrow between two points."""
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    style |= {"color": DARK if on else PALE, "linewidth": 1.6 if on else 1.1}
    axes.annotate("", end, start, arrowprops=style, zorder=1)


# -- masks ----------------------------------------------------------------------------------------


def _inputs(axes: Axes, mask: Sequence[int], middle: float, right: float) -> None:
    for j, on in enumerate(map(bool, mask)):
        y = middle + 0.85 * (1 - j)
        box(axes, (0.6, y), (0.9, 0.42), f"input {j}", on)
        box(axes, (1.72, y), (0.92, 0.42), "BN, ReLU", on)
        arrow(axes, (1.05, y), (1.26, y), on)
        arrow(axes, (2.18, y), (right, middle + 0.1 * (1 - j)), on)
        bit(axes, 2.42, y + (middle - y) * 0.29, on)


def _ops(axes: Axes, mask: Sequence[int], middle: float, left: float, right: float) -> None:
    for j, (name, on) in enumerate(zip(OPS, map(bool, mask))):
        y = middle + 0.53 * (3 - j)
        arrow(axes, (left, middle), (4.65, y), on)
        box(axes, (5.1, y), (0.9, 0.38), name, on)
        arrow(axes, (5.55, y), (right, middle + 0.05 * (3 - j)), on)
        bit(axes, 5.85, y + (middle - y) * 0.2, on)


def draw_masks(path: Path) -> None:
    """Draw a choice block with three inputs and seven ops under the masks of one architecture."""
    middle = 2.0
    with canvas(path, 8.2, 4.25) as axes:
        _inputs(axes, (1, 0, 1), middle, 2.93)
        box(axes, (3.35, middle), (0.84, 0.62), "concat,\n1x1 conv")
        _ops(axes, (0, 1, 0, 0, 0, 1, 0), middle, 3.77, 6.97)
        box(axes, (7.25, middle), (0.56, 0.56), "sum")
        arrow(axes, (7.53, middle), (8.1, middle))
        for x, title in ((2.0, 'mask "inputs" [3]'), (5.75, 'mask "ops" [7]')):
            write(axes, x, 3.98, title, weight="bold")
        write(axes, 1.75, 0.3, "this block as a string:  0,2>sep3x3,maxpool")


# -- groups ---------------------------------------------------------------------------------------

_ROWS = ((0, 1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0, 0), (0, 1, 0, 0, 0, 0, 1))


def _images(axes: Axes, x: float, y: float, count: int) -> None:
    for i in range(count):
        corner, style = (x + 0.4 * i - 0.17, y - 0.17), {"facecolor": LIGHT, "edgecolor": DARK}
        axes.add_patch(Rectangle(corner, 0.34, 0.34, zorder=2, linewidth=1.2, **style))


def _columns(axes: Axes, y: float, texts: Sequence[str], **style: object) -> None:
    for x, text in zip((0.97, 3.35, 5.68, 7.52), texts):
        write(axes, x, y, text, **style)


def _networks(axes: Axes, y: float) -> None:
    """Draw for each group its masks, the network and its logits."""
    for g, row in enumerate(_ROWS):
        at = y - 0.5 * g
        write(axes, 2.22, at, f"g = {g}", fontsize=SIZE - 1)
        bits(axes, 2.63, at, row)
        arrow(axes, (4.3, at), (4.75, at))
        box(axes, (5.68, at), (1.86, 0.38), "own batch statistics")
        arrow(axes, (6.61, at), (6.98, at))
        write(axes, 7.52, at, "[n, K]", fontsize=SIZE - 1)


def draw_groups(path: Path) -> None:
    """Draw ghost batches of a training step, and candidates on the same images."""
    with canvas(path, 8.2, 6.55) as axes:
        title = {"ha": "left", "weight": "bold"}
        write(axes, 0.15, 6.3, "Training: G = 4 ghost batches of n = 2 images", **title)
        _networks(axes, 5.3)
        for g in range(4):
            _images(axes, 0.77, 5.3 - 0.5 * g, 2)
            arrow(axes, (1.45, 5.3 - 0.5 * g), (1.9, 5.3 - 0.5 * g))
        titles = ("images", "masks of one Choice", "the supernet", "logits")
        _columns(axes, 5.83, titles, va="baseline")
        shapes = ("[B, H, W, C]\nB = G n", "[G, k]", "[G, n, H, W, C]\ninside", "[B, K]")
        _columns(axes, 3.28, shapes)
        axes.plot((0.15, 8.05), (2.97, 2.97), color=PALE, linewidth=1)
        write(axes, 0.15, 2.73, "Evaluation: G = 4 candidates on the same n = 2 images", **title)
        _networks(axes, 2.28)
        _images(axes, 0.77, 1.53, 2)
        for g in range(4):
            arrow(axes, (1.45, 1.53), (1.93, 2.28 - 0.5 * g))
        inside = "[1, n, H, W, C], then\n[G, n, H, W, C]"
        _columns(axes, 0.3, ("[1, n, H, W, C]", "[G, k]", inside, "[G, n, K]"))


# -- executions -----------------------------------------------------------------------------------

_CELL = 0.3


def _cell(axes: Axes, x: float, y: float, used: float, computed: bool) -> None:
    """Draw an option of a group: dark if it is used, pale if it is computed in vain."""
    style = {"facecolor": DARK if used else PALE if computed else "white", "edgecolor": PALE}
    axes.add_patch(Rectangle((x - 0.13, y - 0.13), 0.26, 0.26, linewidth=1, **style))
    if computed and not used:
        write(axes, x, y - 0.01, "0", fontsize=SIZE - 1.5)


def _grid(axes: Axes, left: float, top: float, computed: np.ndarray) -> None:
    for (g, j), is_computed in np.ndenumerate(computed):
        _cell(axes, left + _CELL * j, top - 0.42 * g, _ROWS[g][j], bool(is_computed))
    for g in range(len(computed)):
        write(axes, left - 0.2, top - 0.42 * g, f"g = {g}", ha="right", fontsize=SIZE - 1)
    for j, name in enumerate(OPS):
        style = {"rotation": 60, "ha": "left", "va": "bottom", "rotation_mode": "anchor"}
        write(axes, left + _CELL * j + 0.02, top + 0.22, name, fontsize=SIZE - 1.5, **style)


def _legend(axes: Axes, y: float) -> None:
    kinds = ((1, True, "computed and used"), (0, True, "computed, times 0"), (0, False, "skipped"))
    for x, (used, computed, text) in zip((0.72, 3.44, 6.16), kinds):
        _cell(axes, x, y, used, computed)
        write(axes, x + 0.28, y, text, ha="left")


def dispatched(masks: np.ndarray) -> np.ndarray:
    """Compute what "dispatch" computes, bool [G, k]: room for a quarter, half or all groups."""
    groups = len(masks)
    rooms = np.array([0, *(-(-groups * share // 4) for share in (1, 2, 4))])
    room = rooms[np.searchsorted(rooms, masks.sum(0))]
    first = np.argsort(1 - masks, 0, kind="stable")  # users first
    return np.argsort(first, 0) < room


def draw_executions(path: Path) -> None:
    """Draw what the three executions compute of four groups and seven ops."""
    masks = np.array(_ROWS)
    panels = (
        ("masked", np.ones_like(masks, bool), "all options for all groups,\ntimes the masks"),
        ("switch", masks > 0, "one group after the other,\nonly options that are on"),
        ("dispatch", dispatched(masks), "for each option the groups\nthat use it, rounded up"),
    )
    with canvas(path, 8.6, 4.55) as axes:
        _legend(axes, 4.32)
        title = {"weight": "bold", "fontsize": SIZE + 1, "va": "baseline"}
        for i, (name, computed, text) in enumerate(panels):
            left, top = 0.72 + 2.72 * i, 2.55
            write(axes, left + 0.9, 3.72, name, **title)
            _grid(axes, left, top, computed)
            write(axes, left + 0.9, 0.82, text, fontsize=SIZE - 0.5)
            write(axes, left + 0.9, 0.28, f"computed: {int(computed.sum())} of {masks.size}")


# -- batch statistics -----------------------------------------------------------------------------

_LANES = (
    ("batch", "the validation batch\nat hand", "of this batch,\nof this candidate", False),
    ("recalibrate", "several batches of\ntraining images", "means,\nof this candidate", False),
    ("running", "several batches of\ntraining images", "means, one set\nfor all candidates", True),
)
_RANDOM = ((1, 0, 0, 0, 1, 0, 1), (0, 0, 1, 1, 0, 0, 0), (0, 0, 0, 0, 0, 1, 1))


def draw_batch_statistics(path: Path) -> None:
    """Draw where the three kinds of statistics that normalise a candidate come from."""
    with canvas(path, 8.6, 4.2) as axes:
        titles = ("sweep.bn", "images", "architecture", "statistics", "the candidate")
        for x, title in zip((0.65, 2.25, 4.38, 6.18, 7.8), titles):
            write(axes, x, 3.9, title, weight="bold", va="baseline")
        for i, (name, images, statistics, is_random) in enumerate(_LANES):
            y = 3.2 - 1.2 * i
            write(axes, 0.65, y, name)
            box(axes, (2.25, y), (1.95, 0.66), images)
            arrow(axes, (3.23, y), (3.5, y))
            rows = _RANDOM if is_random else _ROWS[:1]
            for r, row in enumerate(rows):
                bits(axes, 3.66, y + 0.28 * ((len(rows) - 1) / 2 - r), row)
            label = "a random one for each batch" if is_random else "this candidate"
            write(axes, 4.38, y - 0.17 - 0.16 * len(rows), label, fontsize=SIZE - 1)
            arrow(axes, (5.26, y), (5.45, y))
            box(axes, (6.18, y), (1.46, 0.66), statistics)
            arrow(axes, (6.91, y), (7.2, 2.0 + 0.5 * (1 - i)))
        box(axes, (7.8, 2.0), (1.2, 1.7), "normalised\nwith them,\non validation\nimages")


def _bell(axes: Axes, x: np.ndarray, mean: float, variance: float, on: bool) -> None:
    y = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    style = {"color": DARK if on else PALE}
    axes.fill_between(x, y, alpha=0.25 if on else 0.45, linewidth=0, **style)
    axes.plot(x, y, linewidth=2, **style)


def _panel(axes: Axes, place: Sequence[float], title: str, limits: Point, top: float) -> Axes:
    width, height = axes.figure.get_size_inches()
    shape = np.asarray(place) / (width, height, width, height)
    inner = axes.figure.add_axes(tuple(shape), xlim=limits, ylim=(0, top), yticks=[])
    inner.set_title(title, fontsize=SIZE, color=INK, loc="left")
    inner.spines[["left", "right", "top"]].set_visible(False)
    inner.tick_params(labelsize=SIZE - 1, colors=INK)
    return inner


def draw_all_on(path: Path) -> None:
    """Draw one path, and the same normalised by its own statistics and by those of all paths."""
    with canvas(path, 8.6, 3.0) as axes:
        x = np.linspace(-6, 12, 400)
        left = _panel(axes, (0.25, 0.45, 3.8, 2.1), "before batch norm", (-6, 12), 0.45)
        _bell(left, x, 3.5, 7, False)
        _bell(left, x, 0.5, 1, True)
        write(left, -1.0, 0.33, "one path:\nmean 0.5,\nvariance 1", ha="right")
        write(left, 6.3, 0.22, "all seven paths:\nmean 3.5,\nvariance 7", ha="left")
        right = _panel(axes, (4.6, 0.45, 3.8, 2.1), "the path after batch norm", (-3.5, 3.5), 1.3)
        _bell(right, x, -3 / 7**0.5, 1 / 7, True)
        _bell(right, x, 0, 1, False)
        right.axvline(0, color=INK, linewidth=1)
        write(right, -1.6, 1.17, "with the statistics\nof all paths", ha="right", va="top")
        write(right, 0.75, 0.5, "with its own\nstatistics", ha="left")
        write(right, 0.12, 1.2, "a ReLU keeps this side", ha="left")


DRAWINGS = (draw_masks, draw_groups, draw_executions, draw_batch_statistics, draw_all_on)


def draw_all(folder: Path = FIGURES, form: str = "svg") -> None:
    """Draw all figures into a folder; the form is "svg" or "png"."""
    for draw in DRAWINGS:
        draw(folder / f"concept_{draw.__name__.removeprefix('draw_')}.{form}")


if __name__ == "__main__":
    draw_all()
