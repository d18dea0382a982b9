"""Figures are files: they come out the same whatever the process has set for figures of its own."""

import contextlib
import itertools
import os
import subprocess
import sys

import matplotlib
import pytest

from nas_jax import spaces
from nas_jax.report import cell_figure, figures

DRAW = """
import sys
from pathlib import Path
from nas_jax.report import figures
figures.curves(Path(sys.argv[1]), [1, 2, 3], {"loss": [3.0, 2.0, 1.5]})
import matplotlib
print(matplotlib.rcParams["backend"])
"""


def _draw(path, **environment):
    """What a process of its own says after it has drawn."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", DRAW, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("backend", "left"),
    [
        ("module://nowhere", "module://nowhere"),  # found out when a window is opened
        ("module://matplotlib_inline.backend_inline", None),  # of notebooks, which may be elsewhere
        ("pdf", "pdf"),
    ],
)
def test_the_backend_of_the_process_does_not_matter(tmp_path, backend, left):
    """And one that is there stays for the process's own figures."""
    assert _draw(tmp_path / "x.png", MPLBACKEND=backend) == left or left is None
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_style_of_the_process_does_not_matter(tmp_path):
    plain, styled = tmp_path / "plain.png", tmp_path / "styled.png"
    lines = [1, 2, 3], {"loss": [3.0, 2.0, 1.5]}
    figures.curves(plain, *lines)
    own = {"text.usetex": True, "savefig.format": "pdf", "lines.linestyle": ":", "font.size": 30}
    with matplotlib.rc_context(own):
        figures.curves(styled, *lines)
        assert matplotlib.rcParams["font.size"] == 30
    assert styled.read_bytes() == plain.read_bytes()


def test_each_figure_is_a_pdf_too_the_same_each_time(tmp_path):
    """It holds lines; more than 2,000 points of a sample are a picture in it."""
    for name, count in (("few", 1999), ("again", 1999), ("many", 20_000)):
        numbers = list(range(count))
        points = figures.Points(numbers, numbers, [float("nan")] * count)
        figures.groups(tmp_path / f"{name}.png", {"a": points}, "x", "y")
    few, again, many = (
        (tmp_path / f"{name}.pdf").read_bytes() for name in ("few", "again", "many")
    )
    assert few.startswith(b"%PDF")
    assert few == again
    assert b"CreationDate" not in few
    assert b"/Subtype /Image" not in few
    assert b"/Subtype /Image" in many


def test_all_ops_of_a_block_are_inside_its_box(tmp_path, monkeypatch):
    kept, real = [], figures.canvas

    @contextlib.contextmanager
    def canvas(*args, **options):
        with real(*args, **options) as axes:
            kept.append(axes.item())
            yield axes

    monkeypatch.setattr(figures, "canvas", canvas)
    space = spaces.make("cell")
    cell_figure.draw(tmp_path / "x.png", space.graph(space.to_str(space.all_on())))
    boxes, texts = (
        [part.get_window_extent() for part in parts if part.get_visible()]
        for parts in (kept[0].patches, [t for t in kept[0].texts if t.get_text()])
    )
    assert len(boxes) == len(texts) == 2 + 4 + 1  # inputs, blocks, the concat
    for outer, inner in zip(boxes, texts):
        assert outer.x0 < inner.x0 < inner.x1 < outer.x1
        assert outer.y0 < inner.y0 < inner.y1 < outer.y1
    for upper, lower in itertools.pairwise(boxes[:-1]):
        assert lower.y1 < upper.y0
