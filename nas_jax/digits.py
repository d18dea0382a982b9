"""The embedded data set: scikit-learn's digits, placed at random on a canvas with clutter.

A digit of 8x8 pixels lies somewhere on a larger canvas, among fragments of other digits, under
noise: large receptive fields and a good mix of ops help, so architectures differ. No download.
"""

from typing import NamedTuple

import numpy as np

POOLS = {"train": 1197, "valid": 300, "test": 300}  # original digits, disjoint
SIZES = {"train": 6000, "valid": 1000, "test": 1000}  # images made of them
DIGIT = 8  # pixels


class Examples(NamedTuple):
    """`images` uint8 [N, size, size, 1] and `labels` int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


def make(
    *, size: int = 16, seed: int = 0, clutter: int = 3, fragment: int = 4, noise: float = 0.1
) -> dict[str, Examples]:
    """Make the three splits; the same arguments give the same images.

    Args:
      size: height and width of the canvas in pixels, 8 or more.
      seed: of pools, places, clutter and noise.
      clutter: pieces of other digits laid on each canvas before the digit.
      fragment: height and width of a piece in pixels, at most 8.
      noise: standard deviation of Gaussian noise, where a full stroke is 1.

    Raises:
      ValueError: an argument is out of range.
    """
    if size < DIGIT:
        raise ValueError(f"data.image_size={size} is too small for digits: {DIGIT} or more")
    if clutter < 0 or not 1 <= fragment <= DIGIT or noise < 0:
        raise ValueError(
            f"data.options: need clutter >= 0, 1 <= fragment <= {DIGIT} and noise >= 0, not "
            f"{clutter}, {fragment}, {noise}"
        )
    from sklearn.datasets import load_digits

    bunch = load_digits()
    strokes, labels = bunch.images.astype(np.float32) / 16, bunch.target.astype(np.int32)
    generator = np.random.default_rng(seed)
    order, start, splits = generator.permutation(len(labels)), 0, {}
    for split, pool_size in POOLS.items():
        pool = order[start : start + pool_size]
        start += pool_size
        drawn = _canvases(generator, strokes[pool], SIZES[split], size, clutter, fragment)
        canvas, which = drawn
        canvas = canvas + generator.normal(0, noise, canvas.shape).astype(np.float32)
        images = (255 * np.clip(canvas, 0, 1)).astype(np.uint8)[..., None]
        splits[split] = Examples(images, labels[pool][which])
    return splits


def _canvases(generator, strokes, count, size, clutter, fragment):
    """float32 [count, size, size] and which digit each shows, int [count]."""
    canvas = np.zeros((count, size, size), np.float32)
    for _ in range(clutter):
        others = strokes[generator.integers(len(strokes), size=count)]
        pieces = _cut(others, generator.integers(DIGIT - fragment + 1, size=(2, count)), fragment)
        _paste(canvas, pieces, generator.integers(size - fragment + 1, size=(2, count)))
    which = generator.integers(len(strokes), size=count)
    _paste(canvas, strokes[which], generator.integers(size - DIGIT + 1, size=(2, count)))
    return canvas, which


def _window(corner, side):
    """Index arrays of a square per image: rows [N, side, 1] and columns [N, 1, side]."""
    offsets = np.arange(side)
    return corner[0][:, None, None] + offsets[:, None], corner[1][:, None, None] + offsets


def _cut(images, corner, side):
    rows, columns = _window(corner, side)
    return images[np.arange(len(images))[:, None, None], rows, columns]


def _paste(canvas, pieces, corner):
    """Lay pieces [N, side, side] on canvases, the brighter pixel showing."""
    rows, columns = _window(corner, pieces.shape[1])
    index = (np.arange(len(canvas))[:, None, None], rows, columns)
    canvas[index] = np.maximum(canvas[index], pieces)
