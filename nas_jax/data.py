"""Images of three splits: embedded digits, TFDS sets in memory, ImageNet as a stream.

TensorFlow is neither needed nor imported: TFDS is read through its data sources.
"""

import difflib
import functools
import itertools
import os
import types
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from nas_jax import digits, imagenet

SPLITS = ("train", "valid", "test")
Range = tuple[str, int, int]  # stored split, first image, end


class Data(Protocol):
    """A data set of the splits train, valid, test, and "train+valid" which joins two of them.

    `image_shape` is (H, W, C); `mean` and `std` are per channel, of pixels in [0, 1].
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def num_images(self, split: str) -> int:
        """Number of images of a split."""

    def batches(
        self, split: str, batch_size: int, *, seed: int, start: int = 0, shard=(0, 1)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches {"image": uint8 [b, H, W, C], "label": int32 [b]}, from number `start`.

        Batch i depends on (seed, i) only: an epoch's order on (seed, epoch); its remainder is
        dropped. `shard` (i, n) gives the i-th contiguous n-th of every batch, b = batch_size / n.
        """

    def fixed(self, split: str, num_images: int) -> tuple[np.ndarray, np.ndarray]:
        """The first images, uint8 [num_images, H, W, C], and labels int32: always the same."""


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    train: str = "train[:90%]",
    valid: str = "train[90%:]",
    test: str = "test",
    **options: Any,
) -> Data:
    """Load a data set.

    Args:
      name: "digits" (embedded), "imagenet2012" (streamed), or a TFDS image-classification set,
        held in memory as uint8.
      data_dir: folder of TFDS; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: height and width in pixels; None keeps what there is (digits: 16).
      train: TFDS split string, such as "train[:90%]"; so are `valid` and `test`. No two of them
        may overlap.
      valid: scores candidates.
      test: read once, by final networks.
      **options: of the embedded set; see `digits.make`.

    Raises:
      ValueError: an unknown or missing data set, a bad, empty or overlapping split.
    """
    texts = {"train": train, "valid": valid, "test": test}
    if name == "digits":
        return _digits(texts, image_size, options)
    if options:
        raise ValueError(f"data.options={sorted(options)}: data.name={name!r} takes none")
    builder = _builder(name, data_dir)
    ranges = resolve_splits(texts, {k: s.num_examples for k, s in builder.info.splits.items()})
    if name == "imagenet2012":
        return imagenet.ImageNet(builder, ranges, image_size or 224)
    if not {"image", "label"} <= set(builder.info.features):
        raise ValueError(f"data.name={name!r} has no image and label: no classification set")

    def read(split):
        stored, first, end = ranges[split]
        return _read(builder.as_data_source(split=stored), first, end, image_size)

    lengths = {split: end - first for split, (_, first, end) in ranges.items()}
    return InMemory(name, builder.info.features["label"].num_classes, lengths, read)


def _digits(texts, image_size, options):
    known = digits.make.__kwdefaults__
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1, 0)[0]
            raise ValueError(f"data.options.{option} is none of digits'; nearest: {near}")
    ranges = resolve_splits(texts, digits.SIZES)
    made = digits.make(**({"size": image_size} if image_size else {}), **options)

    def read(split):
        stored, first, end = ranges[split]
        return tuple(array[first:end] for array in made[stored])

    lengths = {split: end - first for split, (_, first, end) in ranges.items()}
    return InMemory("digits", 10, lengths, read)


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    known = [*tfds.list_builders(with_community_datasets=False), "digits"]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0)[0]
        raise ValueError(f"data.name={name!r} is no data set of TFDS; nearest: {near!r}")
    builder = tfds.builder(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"))
    if not builder.info.splits:
        raise ValueError(
            f"data.name={name!r} was not found: no prepared data set in {builder.data_dir}. Set "
            "TFDS_DATA_DIR or --config.data.data_dir to the folder that has it, or get it: "
            f'python -c "import tensorflow_datasets as t; t.builder({name!r}, '
            "file_format='array_record').download_and_prepare()\""
        )
    return builder


def resolve_splits(texts: dict[str, str], sizes: dict[str, int]) -> dict[str, Range]:
    """Absolute ranges of split strings.

    Args:
      texts: TFDS split string of each split; a contiguous part of one stored split.
      sizes: number of images of each stored split.

    Raises:
      ValueError: a string that is none, names no stored split, is empty, or overlaps another.
    """
    from tensorflow_datasets.core import ReadInstruction

    infos = {name: types.SimpleNamespace(num_examples=n) for name, n in sizes.items()}
    ranges: dict[str, Range] = {}
    for split, text in texts.items():
        try:
            (part,) = ReadInstruction.from_spec(text).to_absolute(infos)
        except (ValueError, AssertionError) as error:
            raise ValueError(
                f"data.{split}={text!r} is no part of a stored split; there are "
                f"{', '.join(f'{k} ({n})' for k, n in sizes.items())}: {str(error).splitlines()[0]}"
            ) from error
        size = sizes[part.splitname]
        ranges[split] = (part.splitname, part.from_ or 0, size if part.to is None else part.to)
        if ranges[split][1] >= ranges[split][2]:
            raise ValueError(f"data.{split}={text!r} has no images (of {size})")
    for a, b in itertools.combinations(ranges, 2):
        (stored_a, first_a, end_a), (stored_b, first_b, end_b) = ranges[a], ranges[b]
        shared = min(end_a, end_b) - max(first_a, first_b)
        if stored_a == stored_b and shared > 0:
            raise ValueError(
                f"data.{a}={texts[a]!r} and data.{b}={texts[b]!r} overlap in {shared} images"
            )
    return ranges


def _read(source, first, end, image_size):
    rows = source.__getitems__(list(range(first, end)))
    labels = np.asarray([row["label"] for row in rows], np.int32)
    return np.stack([_resize(row["image"], image_size) for row in rows]), labels


def _resize(image, size):
    """uint8 [H, W, C] -> [size, size, C]: the mean over pixels where the sizes divide."""
    height, width, channels = image.shape
    if not size or (height, width) == (size, size):
        return image
    if height == width and height % size == 0:
        blocks = image.reshape(size, height // size, size, height // size, channels)
        return np.round(blocks.mean((1, 3))).astype(np.uint8)
    return imagenet.resize(image, size, size)


class InMemory:
    """A data set that fits in memory as uint8; each split is read when it is first needed."""

    def __init__(
        self, name: str, num_classes: int, lengths: dict[str, int], read: Callable[[str], tuple]
    ):
        self.name, self.num_classes = name, num_classes
        self._lengths = {**lengths, "train+valid": lengths["train"] + lengths["valid"]}
        self._read = read
        images = self.arrays("train")[0]
        self.image_shape = images.shape[1:]
        pixels = images.reshape(-1, images.shape[-1])
        self.mean = tuple(float(m) for m in pixels.mean(0, dtype=np.float64) / 255)
        self.std = tuple(max(float(s), 1e-3) for s in pixels.std(0, dtype=np.float64) / 255)

    @functools.cache  # noqa: B019 - a data set lives as long as the program
    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """All images uint8 [N, H, W, C] and labels int32 [N] of a split."""
        if split == "train+valid":
            return tuple(map(np.concatenate, zip(self.arrays("train"), self.arrays("valid"))))
        return self._read(split)

    def num_images(self, split: str) -> int:
        """See `Data`."""
        return self._lengths[split]

    def batches(self, split, batch_size, *, seed, start=0, shard=(0, 1)):
        """See `Data`."""
        images, labels = self.arrays(split)
        for rows in batch_rows(len(labels), batch_size, seed=seed, start=start, shard=shard):
            yield {"image": images[rows], "label": labels[rows]}

    def fixed(self, split, num_images):
        """See `Data`."""
        if num_images > self.num_images(split):
            raise ValueError(f"{num_images} images asked of {split}: {self.num_images(split)}")
        return tuple(array[:num_images] for array in self.arrays(split))


def batch_rows(
    num_images: int, batch_size: int, *, seed: int, start: int = 0, shard=(0, 1)
) -> Iterator[np.ndarray]:
    """Numbers of the images of each batch, int64 [b]; see `Data.batches`."""
    part, parts = shard
    if batch_size > num_images or batch_size % parts:
        raise ValueError(
            f"batch_size={batch_size}: at most {num_images} images, a multiple of {parts} processes"
        )
    per_epoch = num_images // batch_size
    own = slice(part * batch_size // parts, (part + 1) * batch_size // parts)
    for epoch in itertools.count(start // per_epoch):
        order = np.random.default_rng((seed, epoch)).permutation(num_images)
        first = start % per_epoch if epoch == start // per_epoch else 0
        for number in range(first, per_epoch):
            yield order[number * batch_size :][:batch_size][own]
