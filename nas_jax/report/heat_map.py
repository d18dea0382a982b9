"""A heat map of a square table of coefficients."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas_jax.report import figures


def draw(path: Path, names: Sequence[str], values: np.ndarray) -> None:
    """Draw coefficients in [-1, 1] between things, [n, n], with their numbers; NaN stays blank.

    Args:
      path: of the PNG; a PDF lies beside it.
      names: [n], in order.
      values: float [n, n].
    """
    height = min(0.42 * len(names), 4.4) + 1.8  # the map is square, and names stand beside it
    with figures.canvas(path, 1, 1, height) as axes:
        ax = axes.item()
        ax.grid(False)
        ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                if np.isfinite(value):
                    colour = "white" if abs(value) > 0.6 else figures.DARK
                    text = f"{value:.2f}".replace("0.", ".", 1)
                    ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
