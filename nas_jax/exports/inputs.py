"""From an image file to a network's input, as its training read images."""

import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas_jax import naming
from nas_jax.data import arrays, folders, imaging
from nas_jax.data.arguments import as_array
from nas_jax.data.dataset import Data, Streamed
from nas_jax.data.records import ARRAYS_READ, FOLDER_READ, STREAM_READ, TFDS_READ, Reading
from nas_jax.data.tfds_sets import STREAMED
from nas_jax.storage import file_paths

_MOST_CHANNELS = 16  # of an image that a grey network would take for many narrow ones

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How an image becomes a network's input.

    Attributes:
      image_shape: (H, W, C) of the input, pixels.
      read_as: how the images of the training were made.
    """

    image_shape: tuple[int, int, int]
    read_as: Reading

    def decoded(self, encoded: bytes) -> np.ndarray:
        """Return the input uint8 [H, W, C] of the bytes of an image file.

        Raises: ValueError if the image is too small, or of another size where training takes images
          as they are. Pillow raises errors of many other kinds where a file is damaged.
        """
        channels = self.image_shape[-1]
        return self._fitted(imaging.open_image(encoded, channels, self.read_as.upright))

    def read(self, file: Path) -> np.ndarray:
        """Return the input uint8 [H, W, C] of an image file.

        A warning says if the network sees black, of an image that is not.

        Raises: ValueError that names the file.
        """
        with _named(file):
            return self._of_pillow(imaging.opened(Path(file).read_bytes()), file)

    def of_pillow(self, image: Any) -> np.ndarray:
        """Return the input uint8 [H, W, C] of a Pillow image, as `read` of its file."""
        name = f"images: the Pillow image of mode {image.mode}"
        with _named(name):
            image.load()
            return self._of_pillow(image, name)

    def _of_pillow(self, image, name):
        channels = self.image_shape[-1]
        made = self._fitted(imaging.converted(image, channels, self.read_as.upright))
        if imaging.becomes_black(image):
            logger.warning(
                "%s: the network sees black: no pixel is above 255 of 65535, and of 16 bits the "
                "high byte is read; store it as 8 bits, or times 256",
                name,
            )
        return made

    def of_arrays(self, images: Any) -> np.ndarray:
        """Return the inputs uint8 [N, H, W, C] of images of one size.

        Args:
          images: uint8 or floats in [0, 1], [H, W], [H, W, C], [N, H, W] or [N, H, W, C].

        Raises: ValueError if they are of another form, or too small.
        """
        from PIL import Image

        height, width, channels = self.image_shape
        given = as_array("images", images)
        if given.dtype == object or not given.ndim:
            raise ValueError(
                f"images={naming.shown(images)} is neither the path of an image, nor an array, nor "
                "a list of these"
            )
        has_channels = given.ndim > 2 and given.shape[-1] == channels
        may_be_channels = 1 < given.shape[-1] <= _MOST_CHANNELS and given.shape[-1] != width
        if given.ndim == 3 and channels == 1 and may_be_channels:
            raise ValueError(
                f"images has the shape {given.shape}: an image of {given.shape[-1]} channels, or "
                "grey images of that width? The network takes grey images: give [H, W], or several "
                "as [N, H, W, 1]"
            )
        if given.ndim == (3 if has_channels else 2):
            given = given[None]
        if given.ndim == 3:
            given = given[..., None]
        if given.ndim != 4 or given.shape[-1] != channels:
            raise ValueError(
                f"images has the shape {np.shape(images)}; the network takes [N, H, W, "
                f"{channels}], of any height and width"
            )
        arrays.check_images(given)
        if given.shape[1:3] == (height, width):
            return arrays.pixels_of(given, None)
        self._check_size(given.shape[2], given.shape[1])
        if self.read_as.crop == "square" and (self.read_as.by_band or channels < 4):
            return arrays.pixels_of(given, height)
        pixels = arrays.pixels_of(given, None)
        squeezed = pixels[..., 0] if channels == 1 else pixels
        return np.stack([self._fitted(Image.fromarray(image)) for image in squeezed])

    def _fitted(self, image):
        height, width, channels = self.image_shape
        if image.size != (width, height):
            self._check_size(*image.size)
        if self.read_as.by_band and channels == 4:
            return np.concatenate([self._resized(band, 1) for band in image.split()], -1)
        return self._resized(image, channels)

    def _resized(self, image, channels):
        height, width, _ = self.image_shape
        if self.read_as.crop == "centre":
            box = imaging.eval_box(*image.size, height)
            pixels = np.asarray(image.resize((width, height), imaging.BILINEAR, box))
            return pixels.reshape(height, width, channels)
        if self.read_as.crop == "square" and height == width:
            image = imaging.square(image)
        return imaging.resize(image, channels, height if height == width else None)

    def _check_size(self, width, height):
        high, wide, _ = self.image_shape
        if high != wide:
            raise ValueError(
                f"it is {height} x {width} pixels, not {high} x {wide} (height x width): training "
                "took images as they are, so resize it first"
            )
        if min(width, height) * imaging.MOST_MAGNIFIED < high:
            raise ValueError(
                f"it is {height} x {width} pixels, too few for the network's {high} x {wide}, as "
                f"an image may grow by {imaging.MOST_MAGNIFIED} at most"
            )


@contextlib.contextmanager
def _named(what):
    """Turn all that a decoder raises into a ValueError that names the image."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a decoder raises anything
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{what}: {reason or type(error).__name__}") from error


def of_former(
    data: Mapping[str, Any], image_shape: tuple[int, int, int], num_images: int
) -> Reading:
    """Return how a run read its images, of which neither they nor data.json tell.

    Args:
      data: the section `data` of its config.
      image_shape: (H, W, C), pixels.
      num_images: of all splits.
    """
    kind = re.split("[:/]", data["name"])[0]  # without a path, version or variant
    if kind == "folder":
        num_bytes = num_images * float(np.prod(image_shape))
        streamed = num_bytes > data["memory_gb"] * 1e9
        return STREAM_READ._replace(upright=True) if streamed else FOLDER_READ
    if kind in ("npz", "digits") or str(data["train"]).endswith(" images"):  # objects
        return ARRAYS_READ
    return STREAM_READ if kind in STREAMED else TFDS_READ


def file_of(data: Data, record: int) -> tuple[str, bytes | None]:
    """Return the name and the bytes of the file that a record was made of; None if it has none."""
    if isinstance(data, Streamed):
        name = f"record {record} of {data.name}" if data.files is None else str(data.files[record])
        return name, data.source[record]["image"]
    kind, _, root = data.name.partition(":")
    if kind != "folder" or data.origins is None:
        return "", None
    path = file_paths.local(root, "data.name") / data.origins[record]
    return str(path), path.read_bytes() if path.is_file() else None


def files(given: Iterable[str | Path]) -> Iterator[Path]:
    """Yield image files: those given, and those in given folders and below, sorted by name.

    Hidden files and folders are passed over; so are other files in a folder, and the log says how
    many.

    Raises: ValueError if there is no such file, or a folder has no image.
    """
    if not isinstance(given, str | os.PathLike | Iterable):
        raise ValueError(f"images={naming.shown(given)} must be a path, or a list of paths")
    for each in [given] if isinstance(given, str | os.PathLike) else given:
        path = file_paths.local(each, "images")
        if not path.is_dir():
            if not path.exists():
                raise ValueError(f"{path}: there is no such file or folder")
            yield path
            continue
        there = [file for file in sorted(path.rglob("*")) if _is_seen(file, path)]
        found = [file for file in there if file.suffix.lower() in folders.SUFFIXES]
        suffixes = " ".join(folders.SUFFIXES)
        if not found:
            raise ValueError(f"{path}: the folder has no image ({suffixes})")
        if others := len(there) - len(found):
            logger.info("%s: %d of %d files are no %s", path, others, len(there), suffixes)
        yield from found


def _is_seen(file, root):
    return file.is_file() and not any(name[0] == "." for name in file.relative_to(root).parts)
