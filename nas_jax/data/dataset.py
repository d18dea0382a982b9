"""Images and labels: data sets in memory, or streamed, and their batches.

Letters: N images of a split, B of a global batch, b of one process's part of it; H height, W width,
C channels.
"""

import abc
import dataclasses
import functools
import hashlib
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nas_jax.data import imaging
from nas_jax.data.records import (
    ARRAYS_READ,
    SPLITS,
    STREAM_READ,
    Reading,
    decode,
    label_of,
    reading,
)

NUM_THREADS, NUM_PREFETCHED = 16, 512  # images decoded at once; images decoded ahead of use
FOREVER = 2**31  # batches, more than any training takes
NUM_SAMPLED = 100  # images that the fingerprint of a streamed set reads

Batch = dict[str, np.ndarray]  # "image" uint8 [b, H, W, C], "label" int32 [b]
Plan = Callable[[int], tuple[np.ndarray, tuple | None]]  # batch number -> records [b], crop seed
Shard = tuple[int, int]  # (i, n): the i-th of n parts


@dataclasses.dataclass(frozen=True, eq=False)
class Data(abc.ABC):
    """Labelled images in three splits.

    Records are numbered through train, valid and test, so "train+valid" is one range as well.

    Attributes:
      name: of the data set.
      class_names: one for each label, 0 .. num_classes - 1.
      image_shape: (H, W, C), pixels.
      mean, std: per channel, of pixels scaled to [0, 1].
      sizes: numbers of images of train, valid and test.
      shuffle_seed: decides the order in which `fixed` takes the images of a split, as many sets are
        stored sorted by class; -1 keeps the stored order.
      origins: of a set of the user's own, what each record was: a file's path within its folder, or
        the number in its array. None for other sets.
      read_as: how its images were made, for who wants others made alike.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: tuple[int, int, int]
    shuffle_seed: int
    origins: Sequence[str] | Sequence[int] | None = dataclasses.field(default=None, kw_only=True)
    read_as: Reading = dataclasses.field(default=ARRAYS_READ, kw_only=True)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def order(self) -> str:
        """The order in which `fixed` takes images, in words, for files of a run."""
        return "stored" if self.shuffle_seed < 0 else f"shuffled, seed {self.shuffle_seed}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """A text that is equal for equal images and labels in equal splits.

        It is a digest (hex), and the shape of an image, such as "-8x8x3". Of a streamed set only a
        sample is read.
        """
        digest = hashlib.blake2b(repr(tuple(self.sizes)).encode(), digest_size=16)
        for part in self._content():
            digest.update(part)
        return f"{digest.hexdigest()}-{'x'.join(map(str, self.image_shape))}"

    @abc.abstractmethod
    def _content(self) -> Iterator[Any]:
        """Yield the buffers that the fingerprint digests."""

    def facts(self) -> dict[str, Any]:
        """Return what a file of a run says: classes, sizes, shape, mean, std, reading."""
        return {
            "class_names": self.class_names,
            "sizes": dict(zip(SPLITS, self.sizes)),
            "image_shape": self.image_shape,
            "mean": self.mean,
            "std": self.std,
            "read_as": self.read_as._asdict(),
        }

    def origins_by_split(self) -> dict[str, list] | None:
        """Return {split: `origins` of its records}; None if the set has none."""
        if self.origins is None:
            return None
        parts = (self._records(split) for split in SPLITS)
        return {s: list(self.origins[r.start : r.stop]) for s, r in zip(SPLITS, parts)}

    def num_images(self, split: str) -> int:
        """Count the images of a split: "train", "valid", "train+valid" or "test".

        Raises: ValueError for another split.
        """
        return len(self._records(split))

    def class_counts(self, split: str) -> np.ndarray:
        """Count the images of each class of a split: int64 [K]. The first call reads all labels."""
        records = self._records(split)
        labels = self._labels()[records.start : records.stop]
        return np.bincount(labels, minlength=self.num_classes)

    @abc.abstractmethod
    def _labels(self) -> np.ndarray:
        """Return the label of each record, int32 [sum(sizes)]."""

    def batches(
        self, split: str, batch_size: int, *, seed: int, start: int = 0, shard: Shard = (0, 1)
    ) -> Iterator[Batch]:
        """Yield batches number `start`, `start` + 1, ... without end.

        An epoch has N // B batches and leaves out the other images. Its order depends on (seed,
        epoch) only.

        Args:
          split: as in `num_images`.
          batch_size: B, over all processes.
          seed: 0 or more.
          start: number of the first batch, counted through the epochs.
          shard: (i, n): the i-th of n contiguous parts of each batch, b = B / n images.

        Returns:
          An iterator of {"image": uint8 [b, H, W, C], "label": int32 [b]}.

        Raises:
          ValueError: B is not in 1..N, or n does not divide it.
        """
        records, (part, count) = self._records(split), shard
        if not 1 <= batch_size <= len(records):
            raise ValueError(
                f"batch_size={batch_size} must be in 1..{len(records)}, the images of {split}"
            )
        if batch_size % count:
            raise ValueError(f"batch_size={batch_size} does not divide among {count} processes")
        size, trained_on = batch_size // count, split.startswith("train")

        def plan(number):
            epoch, step = divmod(number, len(records) // batch_size)
            first = step * batch_size + part * size
            chosen = _order(len(records), (seed, epoch))[first : first + size]
            return records.start + chosen, (seed, epoch) if trained_on else None

        return self._read(plan, range(start, FOREVER))

    def fixed(
        self, split: str, num_images: int, *, start: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images number start .. start + num_images - 1 of a split, in its fixed order.

        That order is random and depends on (shuffle_seed, split) only. So these images are a random
        sample of the split, the same each time.

        Returns:
          Images uint8 [num_images, H, W, C], labels int32 [num_images].

        Raises:
          ValueError: the split has too few images.
        """
        wanted = self.fixed_records(split, num_images, start=start)
        batch = next(self._read(lambda number: (wanted, None), range(1)))
        return batch["image"], batch["label"]

    def fixed_records(self, split: str, num_images: int, *, start: int = 0) -> np.ndarray:
        """Return the numbers of the records that `fixed` takes, int [num_images]; errors alike."""
        records = self._records(split)
        if start < 0 or not 1 <= num_images <= len(records) - start:
            given = f"num_images={num_images} from number {start} on"
            raise ValueError(f"{given}, but {split} has {len(records)}")
        return records.start + self._fixed_order(split)[start : start + num_images]

    def in_order(self, split: str, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all images of a split once, in the order of `fixed`; the last batch may be less."""
        num_images = self.num_images(split)
        for start in range(0, num_images, batch_size):
            yield self.fixed(split, min(batch_size, num_images - start), start=start)

    def _fixed_order(self, split):
        num_images = self.num_images(split)
        if self.shuffle_seed < 0:
            return np.arange(num_images)
        return _order(num_images, (self.shuffle_seed, zlib.crc32(split.encode())))

    def _records(self, split):
        train, valid, test = itertools.accumulate(self.sizes)
        ranges = {
            "train": range(train),
            "valid": range(train, valid),
            "train+valid": range(valid),
            "test": range(valid, test),
        }
        if split not in ranges:
            raise ValueError(f"split={split!r} is none of {', '.join(ranges)}")
        return ranges[split]

    @abc.abstractmethod
    def _read(self, plan: Plan, numbers: range) -> Iterator[Batch]:
        """Yield the batches of these numbers.

        A streamed set crops images at random where `plan` gives a seed.
        """


@functools.lru_cache(maxsize=4)  # threads may be in two epochs at once
def _order(num_images, seeds):
    return np.random.default_rng(seeds).permutation(num_images)


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory(Data):
    """A data set in memory.

    Attributes:
      images: uint8 [sum(sizes), H, W, C].
      labels: int32 [sum(sizes)].
    """

    images: np.ndarray
    labels: np.ndarray

    def _labels(self):
        return self.labels

    def _content(self):
        yield from map(np.ascontiguousarray, (self.images, self.labels))

    def _read(self, plan, numbers):
        for number in numbers:
            records, _ = plan(number)
            yield {"image": self.images[records], "label": self.labels[records]}


def in_memory(
    name: str,
    class_names: Sequence[str],
    sizes: tuple[int, int, int],
    shuffle_seed: int,
    images: np.ndarray,
    labels: np.ndarray,
    origins: Sequence[Any] | None = None,
    read_as: Reading = ARRAYS_READ,
) -> InMemory:
    """Make a data set in memory; mean and std are those of the training images."""
    stats = moments(images[: sizes[0]])
    shape = images.shape[1:]
    names, arrays = tuple(class_names), (images, labels)
    said = {"origins": origins, "read_as": read_as}
    return InMemory(name, names, shape, *stats, sizes, shuffle_seed, *arrays, **said)


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation [C] of uint8 images [N, H, W, C], scaled to [0, 1]."""
    mean = images.mean(0, dtype=np.float64).mean((0, 1))
    square = np.square(images, dtype=np.uint16).mean(0, dtype=np.float64).mean((0, 1))
    std = np.sqrt(np.maximum(square - mean**2, 1))  # at least a grey level: a divisor
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Data):
    """A data set of encoded images, which are decoded when they are read.

    An unreadable record, or one whose label is no class, ends an iterator with a ValueError that
    names the record, when its batch is due.

    As usual for ImageNet, a training image is a random part of the stored image, resized. For other
    images the shorter side becomes H * 256 / 224, and the centre is kept.

    Attributes:
      source: `source[i]` is a row as of `decode`.
      files: the path of each record, where each has a file of its own.
      digest: of what the fingerprint tells apart beside a sample of the images.
    """

    source: Sequence[dict[str, Any]]
    files: Sequence[Any] | None = None
    digest: bytes = b""
    read_as: Reading = dataclasses.field(default=STREAM_READ, kw_only=True)

    def _labels(self):
        return self._read_labels

    @functools.cached_property
    def _read_labels(self):
        if (known := getattr(self.source, "labels", None)) is not None:  # need not be read
            return known
        labels = np.empty(sum(self.sizes), np.int32)
        for record in range(len(labels)):
            with reading(record, self.sizes, self.files):
                labels[record] = label_of(self.source[record], self.num_classes)
        return labels

    def measured(self, num_images: int) -> "Streamed":
        """Return the set with mean and std of so many random training images, or of all."""
        size = self.sizes[0]
        chosen = np.sort(_order(size, (0,))[:num_images])
        mean, std = moments(next(self._read(lambda number: (chosen, None), range(1)))["image"])
        return dataclasses.replace(self, mean=mean, std=std)

    def _content(self):
        yield self.digest
        for record in np.linspace(0, sum(self.sizes) - 1, NUM_SAMPLED).astype(int).tolist():
            with reading(record, self.sizes, self.files):
                row = self.source[record]
            yield from (row["image"], np.int64(row["label"]).tobytes())

    def _read(self, plan, numbers):
        import grain

        size = len(plan(numbers.start)[0])

        def decode(position):
            number, i = divmod(position, size)
            records, seed = plan(number)
            return self._decode(int(records[i]), seed)

        rows = grain.MapDataset.range(numbers.start * size, numbers.stop * size).map(decode)
        options = grain.ReadOptions(NUM_THREADS, NUM_PREFETCHED)
        return iter(rows.to_iter_dataset(options).batch(size))

    def _decode(self, record, seed):
        height, width, channels = self.image_shape
        with reading(record, self.sizes, self.files):
            image, label = decode(self.source[record], channels, self.num_classes)
        if seed is None:
            box = imaging.eval_box(*image.size, height)
        else:
            box = imaging.random_box(*image.size, np.random.default_rng((*seed, record)))
        pixels = np.asarray(image.resize((width, height), imaging.BILINEAR, box))
        return {"image": pixels.reshape(self.image_shape), "label": label}
