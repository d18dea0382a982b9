"""The figure of a cell: its tensors as wires, its blocks as boxes."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_jax.report import figures
from nas_jax.runtime import environment

with environment.no_backend():
    from matplotlib.patches import FancyBboxPatch

GAP = 0.28  # between boxes, where a row of two lines is 1 high
LINE = 0.27  # of text


def draw(path: Path, graph: Mapping[str, Any]) -> None:
    """Draw a cell as wires: every tensor runs right into the concat, blocks tap those they use.

    Args:
      path: of the PNG.
      graph: {"inputs": names, "blocks": [{"inputs": tensor numbers, "ops": names}, ...]}; the
        blocks' tensors are numbered after the inputs.
    """
    inputs, blocks = graph["inputs"], graph["blocks"]
    taps = [1.1 + 1.75 * i for i in range(len(blocks) + 1)]  # the last one is the concat's
    starts = [0.9] * len(inputs) + [tap + 1.5 for tap in taps[:-1]]
    last = {j: taps[i] for i, block in enumerate(blocks) for j in block["inputs"]}
    texts = [name.replace(" ", "\n") for name in inputs]
    texts += ["\n+ ".join(block["ops"]) for block in blocks]
    heights = [_height(text) for text in texts]
    ends = list(itertools.accumulate(height + GAP for height in heights))
    rows = [end - (height + GAP) / 2 for end, height in zip(ends, heights)]
    with figures.canvas(path, 1, 1, 0.5 * ends[-1] + 0.3) as axes:
        ax = axes.item()
        ax.set(xlim=(-0.05, taps[-1] + 0.45), ylim=(ends[-1], 0))
        ax.axis("off")
        for number, (row, start) in enumerate(zip(rows, starts)):
            ax.plot((start, taps[-1]), (row, row), color=figures.PALE, linewidth=1.2, zorder=1)
            end = last.get(number, start)
            ax.plot((start, end), (row, row), color=figures.DARK, zorder=2)
        for row, text, height in zip(rows, texts[: len(inputs)], heights):
            _box(ax, (0, row), 0.9, text, "0.93", height)
        for number, (tap, block) in enumerate(zip(taps, blocks), len(inputs)):
            _wire_in(ax, tap, rows[number], [rows[j] for j in block["inputs"]])
            place, height = (tap + 0.25, rows[number]), heights[number]
            _box(ax, place, 1.25, texts[number], figures.COLOURS[5], height)
        middle = (taps[-1], ends[-1] / 2)
        _box(ax, middle, 0.4, "concat", "0.93", ends[-1] - 0.4, rotation=90)


def _height(text):
    """Return the height of a box, of which two lines need the least."""
    return max(0.72, LINE * (text.count("\n") + 1) + 0.1)


def _wire_in(ax, x, row, inputs):
    """Draw a wire from the tensors' rows down to the block's; only a dot connects."""
    ax.plot((x, x), (min(inputs), row), color=figures.DARK, zorder=3)
    ax.plot([x] * len(inputs), inputs, "o", color=figures.DARK, markersize=5, zorder=4)
    arrow = {
        "arrowstyle": "-|>",
        "color": figures.DARK,
        "shrinkA": 0,
        "shrinkB": 0,
        "linewidth": 1.8,
    }
    ax.annotate("", (x + 0.25, row), (x, row), arrowprops=arrow, zorder=3)


def _box(ax, left_middle, width, text, colour, height, rotation=0):
    left, middle = left_middle
    patch = FancyBboxPatch(
        (left, middle - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=colour,
        edgecolor=figures.DARK,
        linewidth=0.8,
        zorder=5,
    )
    ax.add_patch(patch)
    style = {"ha": "center", "va": "center", "fontsize": 8.5, "linespacing": 1.05, "zorder": 6}
    ax.text(left + width / 2, middle, text, rotation=rotation, **style)
