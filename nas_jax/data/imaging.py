"""Encoded images become pixels, parts of them are chosen, and they are resized; all by Pillow.

H and W are an image's height and width in pixels, C is its number of channels.
"""

import io
from typing import Any

import numpy as np

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
BILINEAR = 2  # Pillow's number; it averages over all pixels where an image becomes smaller
_LARGEST = 2**16 - 1  # of 16 bits

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def open_image(encoded: bytes, channels: int) -> Any:
    """Decode an image to 8 bits and so many channels.

    16 bits become value // 256, and transparency is dropped unless 4 channels are asked for, as
    TensorFlow does. What has no transparency is then opaque. RGB becomes grey by its luma. Colours
    of a palette are looked up, CMYK and YCbCr become RGB, and 1 bit becomes 0 or 255.

    Args:
      encoded: the bytes of an image file.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns:
      A Pillow image of mode "L", "RGB" or "RGBA".

    Raises:
      ValueError: the bytes are no image, or its pixels are floats or integers that are no whole
        numbers of 16 bits. Pillow raises errors of many other kinds where a file is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:  # it quotes an address in memory
        raise ValueError(f"{len(encoded)} bytes are no image that Pillow knows") from error
    image.load()
    if image.mode[0] in "IF":  # of one channel: integers of 16 or 32 bits, or floats
        image = Image.fromarray(_high_byte(np.asarray(image)))
    return image.convert(MODES[channels])


def _high_byte(pixels):
    """Uint8 of whole numbers of 16 bits. Pillow would clip them at 255 instead.

    Pillow itself keeps the high byte of 16-bit images of several channels.
    """
    if not np.all((pixels >= 0) & (pixels <= _LARGEST) & (pixels == np.floor(pixels))):
        raise ValueError(
            f"its pixels are from {pixels.min()} to {pixels.max()}; they must be whole numbers of "
            f"0..{_LARGEST} (or 8 bits)"
        )
    return (pixels // 256).astype(np.uint8)


def resize(image: Any, channels: int, size: int | None) -> np.ndarray:
    """Make an image `size` x `size`, by the mean of blocks of pixels if they fit.

    Args:
      image: a Pillow image with so many channels.
      channels: C.
      size: H = W of the result; None: as the image is.

    Returns:
      Uint8 [H, W, C].
    """
    if size and (image.width % size or image.height % size):
        image = image.resize((size, size), BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    if size is None or image.size == (size, size):
        return pixels
    blocks = pixels.reshape(size, image.height // size, size, image.width // size, channels)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def centre_box(width: int, height: int, share: float) -> Box:
    """Choose the square in the centre whose side is this share of the shorter side."""
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """Choose a part of the image as usual for ImageNet's training images.

    It has 8 to 100 % of the area, and sides of 3:4 to 4:3 (Szegedy et al., Going deeper with
    convolutions). If ten draws do not fit, it is the largest square in the centre.
    """
    area = width * height * rng.uniform(0.08, 1, 10)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 10))
    widths, heights = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = np.flatnonzero((widths <= width) & (heights <= height))
    if not fits.size:  # a very long image
        return centre_box(width, height, 1)
    w, h = widths[fits[0]], heights[fits[0]]
    left, top = rng.uniform(0, (width - w, height - h))
    return left, top, left + w, top + h
