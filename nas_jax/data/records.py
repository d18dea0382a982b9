"""Records of a data set: how each is decoded, and named in an error."""

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nas_jax.data import imaging

SPLITS = ("train", "valid", "test")  # records are numbered through them


class Reading(NamedTuple):
    """How the images of a set were made of files or arrays, apart from random parts in training.

    Attributes:
      crop: "square", the largest square in the centre; "centre", that of which streamed sets keep
        224/256; "none", the whole image. Then it is resized.
      upright: whether images are turned as their EXIF data say.
      by_band: whether each of four channels is resized by itself; else by the weight that the last,
        transparency, gives a pixel.
    """

    crop: str
    upright: bool
    by_band: bool


ARRAYS_READ = Reading("square", upright=True, by_band=True)
FOLDER_READ = ARRAYS_READ._replace(by_band=False)
TFDS_READ = Reading("none", upright=False, by_band=False)
STREAM_READ = TFDS_READ._replace(crop="centre")


@contextlib.contextmanager
def reading(
    record: int, sizes: Sequence[int], files: Sequence[Any] | None = None
) -> Iterator[None]:
    """Name the record in errors that are raised inside the block.

    Args:
      record: its number, counted through train, valid and test.
      sizes: numbers of images of these three.
      files: the path of each record, where each has a file of its own.

    Raises:
      ValueError: an error was raised inside; decoders of damaged images raise errors of many kinds.
        One line names the split, the record's number in it, and the way out.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise  # the machine's fault, not the record's
        reason = " ".join(str(error).split()) or type(error).__name__
        if files is not None:
            raise ValueError(f"{files[record]}: {reason}; mend the file, or remove it") from error
        which = bisect.bisect(list(itertools.accumulate(sizes)), record)
        field, number = f"data.{SPLITS[which]}", record - sum(sizes[:which])
        raise ValueError(
            f"{field}: record {number} (counted from 0): {reason}; mend it, or start a new run "
            f"without it: {field} can be the sum of two slices"
        ) from error


def decode(row: dict[str, Any], channels: int, num_classes: int) -> tuple[Any, np.int32]:
    """Decode a record: a Pillow image of so many channels, and a label, int32 [].

    Args:
      row: {"image": bytes of an image file, "label": int}; with "upright": True the image is turned
        as its EXIF data say.
      channels: C.
      num_classes: labels must be in 0 .. num_classes - 1.

    Raises: ValueError for another label; errors of many kinds for a damaged image.
    """
    label = label_of(row, num_classes)
    upright = row.get("upright", False)
    return imaging.open_image(row["image"], channels, upright), np.int32(label)


def label_of(row: dict[str, Any], num_classes: int) -> int:
    """Return the label of a record. Raises: ValueError if it is not in 0 .. num_classes - 1."""
    label = int(row["label"])
    if not 0 <= label < num_classes:
        raise ValueError(f"its label is {label}, not in 0..{num_classes - 1}")
    return label
