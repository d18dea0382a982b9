"""The size of images: (height, width) in pixels, or the side of a square."""

import numbers
from collections.abc import Sequence

import numpy as np

ImageSize = int | Sequence[int]


def height_and_width(image_size: ImageSize) -> tuple[int, int]:
    """Return height and width of images, pixels.

    Raises: ValueError unless they are whole numbers above 0.
    """
    is_pair = isinstance(image_size, Sequence | np.ndarray)
    sides = tuple(image_size) if is_pair else (image_size, image_size)
    if len(sides) != 2 or not all(map(_is_side, sides)):
        raise ValueError(
            f"image_size={image_size!r} must be a whole number above 0, or a height and a width"
        )
    return int(sides[0]), int(sides[1])


def _is_side(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0
