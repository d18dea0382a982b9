"""Decoding, cropping and resizing of images, all by Pillow.

H and W are an image's height and width in pixels, C is its number of channels.
"""

import io
import logging
from typing import Any

import numpy as np

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
BILINEAR = 2  # Pillow's number; Pillow averages over all pixels where an image becomes smaller
MOST_MAGNIFIED = 4  # what an image's shorter side may grow by
_ORIENTATION = 0x0112  # EXIF tag; from 5 on width and height are exchanged
_TURNED = "TIFF"  # format that Pillow turns when it decodes; older versions do not say so
_TIFF_SIZE = 0x0100, 0x0101  # tags of width and height
_LARGEST = 2**16 - 1  # whole number of 16 bits

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def open_image(encoded: bytes, channels: int, upright: bool = False) -> Any:
    """Decode an image to 8 bits and so many channels: `opened`, then `converted`."""
    return converted(opened(encoded), channels, upright)


def opened(encoded: bytes) -> Any:
    """Decode the bytes of an image file, as a Pillow image.

    Raises: ValueError if they are no image. Pillow raises errors of many other kinds where a file
      is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:  # its text quotes an address in memory
        raise ValueError(f"{len(encoded)} bytes are no image that Pillow knows") from error
    image.load()
    return image


def converted(image: Any, channels: int, upright: bool = False) -> Any:
    """Bring a Pillow image to 8 bits and so many channels.

    As in TensorFlow, 16 bits become value // 256, and transparency is dropped unless 4 channels are
    asked for. With 4 channels, an image without transparency is opaque. RGB becomes grey by its
    luma, colours of a palette are looked up, CMYK and YCbCr become RGB, and 1 bit becomes 0 or 255.

    Args:
      image: a Pillow image of any mode.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA).
      upright: whether to turn (and mirror) the image as its EXIF data say.

    Returns:
      A Pillow image of mode "L", "RGB" or "RGBA".

    Raises: ValueError if its pixels are no whole numbers of 16 bits, or Pillow cannot convert it.
    """
    from PIL import Image, ImageOps

    if upright and image.format != _TURNED:
        image = ImageOps.exif_transpose(image)
    if _is_deep(image):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    return image.convert(MODES[channels])


def becomes_black(image: Any) -> bool:
    """Say whether a Pillow image has values above 0, but none in its high bytes.

    Where it has several channels, Pillow has kept the high bytes alone.
    """
    return _is_deep(image) and 0 < np.asarray(image).max() < 256


def _is_deep(image):
    return image.mode[0] in "IF"  # one channel of 16- or 32-bit integers, or of floats


def upright_size(image: Any) -> tuple[int, int]:
    """Return (width, height) that a Pillow image has once it is turned as its EXIF data say.

    Args:
      image: as it was opened; it is not decoded.
    """
    size = image.size
    if image.format == _TURNED:  # older versions exchange width and height only then
        size = tuple(image.tag_v2[tag] for tag in _TIFF_SIZE)
    turned = image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    return size[::-1] if turned else size


def _high_byte(pixels):
    """Reduce whole numbers of 16 bits to uint8; Pillow would clip them at 255 instead.

    For 16-bit images of several channels Pillow keeps the high byte, too.
    """
    if not np.all((pixels >= 0) & (pixels <= _LARGEST) & (pixels == np.floor(pixels))):
        raise ValueError(
            f"its pixels are from {pixels.min()} to {pixels.max()}; they must be whole numbers of "
            f"0..{_LARGEST} (or 8 bits)"
        )
    return (pixels // 256).astype(np.uint8)


def check_brightness(name: str, images: np.ndarray) -> None:
    """Refuse a set of black images, and warn of a nearly black one.

    12 bits stored in 16 keep only four bits in the high byte, and 8 bits keep none.
    """
    brightest = images.max()
    if not brightest:
        raise ValueError(
            f"data.name={name!r}: every pixel is 0; of images of more than 8 bits the high byte of "
            "16 is read: store them as 8 bits, or times 256"
        )
    if brightest < 16:
        logger.warning(
            "data.name=%r: no pixel is above %d of 255. If these are values of 12 bits in 16-bit "
            "images, of which the high byte is read: store them times 16",
            name,
            brightest,
        )


def check_size(width: int, height: int, size: int) -> None:
    """Refuse an image that is tiny for `size`. Raises: ValueError if it had to grow too much."""
    if min(width, height) * MOST_MAGNIFIED < size:
        raise ValueError(
            f"{width} x {height} pixels are too few for data.image_size={size}, as an image may "
            f"grow by {MOST_MAGNIFIED} at most; lower data.image_size, or leave it out"
        )


def square(image: Any) -> Any:
    """Cut the largest square of a Pillow image from its centre."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image if image.size == (side, side) else image.crop((left, top, left + side, top + side))


def resize(image: Any, channels: int, size: int | None) -> np.ndarray:
    """Resize an image to `size` x `size`: by the mean of blocks of pixels if whole blocks fit.

    Args:
      image: a Pillow image.
      channels: C of the image.
      size: H = W of the result, pixels; None keeps those of the image.

    Returns:
      uint8 [H, W, C].
    """
    if size and (image.width % size or image.height % size):
        image = image.resize((size, size), BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    if size is None or image.size == (size, size):
        return pixels
    blocks = pixels.reshape(size, image.height // size, size, image.width // size, channels)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def centre_box(width: int, height: int, share: float) -> Box:
    """Choose the square in the centre whose side is `share`, in (0, 1], of the shorter side."""
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def eval_box(width: int, height: int, side: int) -> Box:
    """Choose what streamed sets keep of an image outside of training, for a `side` of pixels.

    The shorter side becomes side * 256 / 224 pixels, of which the centre is kept.
    """
    return centre_box(width, height, side / (side * 256 // 224))


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """Choose a random part of an image, as usual for ImageNet's training images.

    The part has 8 to 100 % of the area, and sides of 3:4 to 4:3 (Szegedy et al., Going deeper with
    convolutions). If none of ten draws fits, it is the largest square in the centre.
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
