"""Data sets by name: embedded digits, sets of TFDS, and a user's own folder or arrays."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_jax import naming
from nas_jax.data import (
    arguments,
    arrays,
    dataset,
    digits,
    folders,
    split_strings,
    splits,
    tfds_sets,
)
from nas_jax.data.dataset import Data
from nas_jax.data.records import SPLITS
from nas_jax.data.tfds_sets import STREAMED

__all__ = ["STREAMED", "load"]
DIGITS_IMAGE_SIZE = 16

logger = logging.getLogger(__name__)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    train: str = "train[:90%]",
    valid: str = "train[90%:]",
    test: str = "test",
    shuffle_seed: int = 0,
    image_key: str = tfds_sets.KEYS[0],
    label_key: str = tfds_sets.KEYS[1],
    fractions: Sequence[float] = splits.FRACTIONS,
    split_seed: int = 0,
    memory_gb: float = folders.MEMORY_GB,
    **options: Any,
) -> Data:
    """Load a data set.

    Of images of 16 bits the high bytes are read (see `imaging.open_image`); a warning says if a set
    of TFDS in memory is then nearly black.

    Args:
      name: "digits" (embedded); "folder:PATH", a folder of image files (see `folders`); "npz:PATH",
        a file of arrays (see `arrays`); or of TFDS: "imagenet2012" (streamed), or any image
        classification set (read into memory).
      data_dir: folder of sets that TFDS prepared; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: H = W, pixels; None: 16 for digits, 224 for ImageNet, else the images' size.
      train, valid, test: of TFDS and digits: TFDS split strings, slices by number or per cent, or
        sums of slices. They must not overlap. Digits have the splits "train", "valid" and "test".
      shuffle_seed: of the order in which `Data.fixed` takes images; -1 keeps the stored order.
      image_key, label_key: of TFDS: the features that are the image and the class.
      fractions: of a folder or a file of arrays: the parts of train, valid and test, where the set
        has no such splits itself (see `splits.arrange`).
      split_seed: of the drawing of these parts.
      memory_gb: of a folder: if its images take more memory, 10^9 bytes, they are streamed.
      **options: of the embedded set: `seed`, `clutter` and `noise` (see `digits.make`).

    Raises:
      ValueError: an argument is wrong, the set is missing, an image or label is damaged, or a split
        lacks a class (of TFDS: that train has). The message names the field of the config and the
        record or file. Records of a streamed set are checked when they are read; the classes of one
        of TFDS are not compared, as that would take reading the whole set.
    """
    common = {"image_size": image_size, "shuffle_seed": shuffle_seed}
    drawn = {"fractions": fractions, "split_seed": split_seed}
    arguments.check(**common, **drawn, memory_gb=memory_gb)
    _check_options(name, options, digits.OPTIONS if name == "digits" else ())
    kind, _, path = name.partition(":")
    if kind in ("folder", "npz") and not path:
        raise ValueError(f"data.name={name!r} names no path: write {kind}:PATH")
    if kind == "folder":
        return _said(folders.load(path, memory_gb=memory_gb, **common, **drawn))
    if kind == "npz":
        return _said(arrays.load(path, **common, **drawn))
    specs = {"train": train, "valid": valid, "test": test}
    if name == "digits":
        return _load_digits(specs, shuffle_seed, image_size or DIGITS_IMAGE_SIZE, options)
    return tfds_sets.load(name, specs, data_dir=data_dir, keys=(image_key, label_key), **common)


def _said(data):
    """Log what was read of a set of the user's own."""
    parts = ", ".join(f"{split} {size}" for split, size in zip(SPLITS, data.sizes))
    logger.info(
        "%s  %d images of %d classes: %s; %d x %d pixels, %d channel(s)",
        *(data.name, sum(data.sizes), data.num_classes, parts, *data.image_shape),
    )
    return data


def _load_digits(specs, shuffle_seed, image_size, options):
    from tensorflow_datasets.core import SplitInfo

    drawn = digits.make(image_size=image_size, **options)
    infos = {
        split: SplitInfo(name=split, shard_lengths=[len(labels)], num_bytes=0)
        for split, (_, labels) in drawn.items()
    }
    sizes, pieces = split_strings.resolve(specs, infos)
    images, labels = (np.concatenate([drawn[s][i][rows] for s, rows in pieces]) for i in (0, 1))
    split_strings.check_classes(specs, sizes, labels, digits.CLASS_NAMES)
    return dataset.in_memory("digits", digits.CLASS_NAMES, sizes, shuffle_seed, images, labels)


def _check_options(name, options, allowed):
    for option in options:
        if option not in allowed:
            there = "none"
            if allowed:
                there = f"{', '.join(allowed)}; nearest: {naming.nearest(option, allowed)!r}"
            raise ValueError(f"data.{name}.{option} is no option; {name} has {there}")
