"""Images and labels: data sets in memory or streamed, and augmentation on the device.

Letters: N images of a split, B of a global batch, b of one process's part of it; H height, W width,
C channels. TensorFlow is never imported: sets that tensorflow-datasets (TFDS) has prepared are read
by `as_data_source`.
"""

import abc
import dataclasses
import difflib
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import digits

STREAMED = ("imagenet2012",)  # too large for memory
DEFAULT_IMAGE_SIZE = {"digits": 16, "imagenet2012": 224}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_THREADS, NUM_PREFETCHED = 16, 512  # images that are decoded at once, and ahead of use
_FOREVER = 2**31  # batches
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
_BILINEAR = 2  # Pillow's number; it averages over all pixels where an image becomes smaller


@dataclasses.dataclass(frozen=True, eq=False)
class Data(abc.ABC):
    """Labelled images in three splits.

    Records are numbered through train, valid and test, so "train+valid" is one range as well.

    Attributes:
      name: of the data set.
      num_classes: labels are 0 .. num_classes - 1.
      image_shape: (H, W, C), pixels.
      mean: per channel, of pixels scaled to [0, 1].
      std: likewise.
      sizes: numbers of images of train, valid and test.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: tuple[int, int, int]

    def num_images(self, split: str) -> int:
        """N of "train", "valid", "train+valid" or "test"; a ValueError for others."""
        return len(self._records(split))

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, np.ndarray]]:
        """Batches number `start`, `start` + 1, ... without end.

        An epoch is N // B batches in an order that depends on (seed, epoch) only; what remains of
        the images is left out.

        Args:
          split: as in `num_images`.
          batch_size: B, over all processes.
          seed: 0 or more.
          start: number of the first batch, counted through the epochs.
          shard: (i, n): the i-th of n contiguous parts of each batch, b = B / n images.

        Returns:
          Iterator of {"image": uint8 [b, H, W, C], "label": int32 [b]}.

        Raises:
          ValueError: B is not in 1..N, or n does not divide it.
        """
        records, (part, count) = self._records(split), shard
        if not 1 <= batch_size <= len(records):
            raise ValueError(
                f"batch_size={batch_size} is not in 1..{len(records)} ({split} images)"
            )
        if batch_size % count:
            raise ValueError(f"batch_size={batch_size} does not divide among {count} processes")
        size, trained_on = batch_size // count, split.startswith("train")

        def plan(number):
            epoch, step = divmod(number, len(records) // batch_size)
            first = step * batch_size + part * size
            chosen = _order(len(records), seed, epoch)[first : first + size]
            return records.start + chosen, (seed, epoch) if trained_on else None

        return self._read(plan, range(start, _FOREVER))

    def fixed(
        self, split: str, num_images: int, *, start: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images start .. start + num_images - 1 of a split, the same each time, undistorted.

        Returns:
          (uint8 [num_images, H, W, C], int32 [num_images]).

        Raises:
          ValueError: the split has too few.
        """
        records = self._records(split)
        if start < 0 or not 1 <= num_images <= len(records) - start:
            raise ValueError(
                f"num_images={num_images} from number {start} on, but {split} has {len(records)}"
            )
        wanted = np.asarray(records[start : start + num_images])
        batch = next(self._read(lambda number: (wanted, None), range(1)))
        return batch["image"], batch["label"]

    def _records(self, split):
        train, valid, test = itertools.accumulate(self.sizes)
        ranges = {
            "train": range(train),
            "valid": range(train, valid),
            "train+valid": range(valid),
            "test": range(valid, test),
        }
        if split not in ranges:
            known = ", ".join(ranges)
            raise ValueError(f"split={split!r} is none of {known}; {_near(split, ranges)}")
        return ranges[split]

    @abc.abstractmethod
    def _read(
        self, plan: Callable[[int], tuple[np.ndarray, Any]], numbers: range
    ) -> Iterator[dict[str, np.ndarray]]:
        """The batches of these numbers; `plan` gives a batch's records [b] and seed of distortion.

        None as seed leaves images undistorted.
        """


@functools.lru_cache(maxsize=4)  # threads may be in two epochs at once
def _order(num_images, seed, epoch):
    return np.random.default_rng((seed, epoch)).permutation(num_images)


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory(Data):
    """Never distorts. Images uint8 [sum(sizes), H, W, C], labels int32 [sum(sizes)]."""

    images: np.ndarray
    labels: np.ndarray

    def _read(self, plan, numbers):
        for number in numbers:
            records, _ = plan(number)
            yield {"image": self.images[records], "label": self.labels[records]}


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Data):
    """Encoded images, `source[i]` = {"image": bytes, "label": int}, decoded when they are read.

    As usual for ImageNet, what is trained on is a random part of the image, resized; of others the
    shorter side becomes H * 256 / 224 and the centre is kept.
    """

    source: Sequence[dict[str, Any]]

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
        row, (height, width, channels) = self.source[record], self.image_shape
        image = _open(row["image"], channels)
        if seed is None:
            box = _centre_box(*image.size, height / (height * 256 // 224))
        else:
            box = _random_box(*image.size, np.random.default_rng((*seed, record)))
        image = image.resize((width, height), _BILINEAR, box)
        return {
            "image": np.asarray(image).reshape(self.image_shape),
            "label": np.int32(row["label"]),
        }


def _centre_box(width, height, share):
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _random_box(width, height, rng):
    """8 to 100 % of the area, sides 3:4 to 4:3 (Szegedy et al., Going deeper with convolutions)."""
    area = width * height * rng.uniform(0.08, 1, 10)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 10))
    widths, heights = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = np.flatnonzero((widths <= width) & (heights <= height))
    if not fits.size:  # a very long image
        return _centre_box(width, height, 1)
    w, h = widths[fits[0]], heights[fits[0]]
    left, top = rng.uniform(0, (width - w, height - h))
    return left, top, left + w, top + h


# -- loading --------------------------------------------------------------------------------------


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    train: str = "train[:90%]",
    valid: str = "train[90%:]",
    test: str = "test",
    seed: int = 0,
    **options: Any,
) -> Data:
    """Load a data set.

    Args:
      name: "digits" (embedded), "imagenet2012" (streamed), or any image classification set of TFDS
        (read into memory).
      data_dir: the folder of prepared sets; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: H = W, pixels. None: as the images are; 16 for digits, 224 for ImageNet.
      train: TFDS split string: slices by number or per cent, and sums of them. The three may not
        overlap.
      valid: likewise.
      test: likewise.
      seed: of embedded sets, which are drawn at random.
      **options: of embedded sets: `clutter` and `noise` of digits (see `digits.make`).

    Raises:
      ValueError: an argument is wrong or the set is not there; says which field of the config.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size={image_size} must be 1 or more, or None")
    specs = {"train": train, "valid": valid, "test": test}
    _check_options(name, options, digits.OPTIONS if name == "digits" else ())
    image_size = image_size or DEFAULT_IMAGE_SIZE.get(name)
    if name == "digits":
        return _load_digits(specs, image_size=image_size, seed=seed, **options)
    return _load_tfds(_builder(name, data_dir), specs, image_size)


def _load_digits(specs, **options):
    from tensorflow_datasets.core import SplitInfo

    made = digits.make(**options)
    infos = {
        split: SplitInfo(name=split, shard_lengths=[len(labels)], num_bytes=0)
        for split, (_, labels) in made.items()
    }
    sizes, pieces = _resolve(specs, infos)
    images, labels = (
        np.concatenate([made[split][i][rows] for split, rows in pieces]) for i in range(2)
    )
    return _in_memory("digits", digits.NUM_CLASSES, sizes, images, labels)


def _load_tfds(builder, specs, image_size):
    features = builder.info.features
    num_classes, channels = features["label"].num_classes, features["image"].shape[-1] or 3
    sizes, _ = _resolve(specs, builder.info.splits)
    source = _source(builder, specs, sizes)
    if builder.name in STREAMED:
        shape = (image_size, image_size, channels)
        stats = IMAGENET_MEAN, IMAGENET_STD
        return Streamed(builder.name, num_classes, shape, *stats, sizes, source)
    images, labels = _read_all(source, channels, image_size)
    return _in_memory(builder.name, num_classes, sizes, images, labels)


def _in_memory(name, num_classes, sizes, images, labels):
    train = images[: sizes[0]]
    mean = train.mean(0, dtype=np.float64).mean((0, 1))
    square = np.square(train, dtype=np.uint16).mean(0, dtype=np.float64).mean((0, 1))
    std = np.sqrt(
        np.maximum(square - mean**2, 1)
    )  # at least a grey level: images are divided by it
    stats = (tuple((x / 255).tolist()) for x in (mean, std))
    return InMemory(name, num_classes, images.shape[1:], *stats, sizes, images, labels)


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    if data_dir and not tfds.core.Path(data_dir).expanduser().is_dir():
        raise ValueError(f"data.data_dir={data_dir!r} is no folder")
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except (ValueError, TypeError, AssertionError) as error:  # name, argument, version
        names = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(f"data.name={name!r}: {_reason(error)}; {_near(name, names)}") from error
    if not builder.info.splits:
        raise ValueError(f"data.name={name!r} is not in {builder.data_dir}; {_how_to_get(name)}")
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = builder.info.features
    if not all(key in found and isinstance(found[key], kind) for key, kind in kinds.items()):
        raise ValueError(
            f"data.name={name!r} is no image classification set: its features are "
            f"{', '.join(found)}; needed are an image 'image' and a class 'label'"
        )
    return builder


def _how_to_get(name):
    return (
        "point TFDS_DATA_DIR or --config.data.data_dir to the folder that has it, or prepare it "
        '(TFDS may want TensorFlow for that): python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def _source(builder, specs, sizes):
    """Records of train, valid and test, one after another, the images encoded."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split="+".join(specs.values()), decoders=decoders)
    except NotImplementedError as error:
        raise ValueError(
            f"data.name={builder.name!r} in {builder.data_dir} is {builder.info.file_format.value}, "
            f"without random access; {_how_to_get(builder.name)}"
        ) from error
    for (field, spec), first in zip(specs.items(), itertools.accumulate((0, *sizes))):
        if source[first]["label"] < 0:
            raise ValueError(
                f"data.{field}={spec!r}: these images of {builder.name} have no labels"
            )
    return source


def _read_all(source, channels, image_size):
    images, labels = [], []
    for first in range(0, len(source), 1024):  # TFDS reads many at once faster than one by one
        for row in source.__getitems__(list(range(len(source))[first : first + 1024])):
            images.append(_resize(_open(row["image"], channels), channels, image_size))
            labels.append(row["label"])
    if len({image.shape for image in images}) > 1:
        raise ValueError("data.image_size=None, but the images differ in size: give it")
    return np.stack(images), np.asarray(labels, np.int32)


def _open(encoded, channels):
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert(_MODES[channels])


def _resize(image, channels, size):
    """A Pillow image as uint8 [H, W, C]; to `size` by the mean of blocks of pixels if they fit."""
    if size and (image.width % size or image.height % size):
        image = image.resize((size, size), _BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    if size is None or image.size == (size, size):
        return pixels
    blocks = pixels.reshape(size, image.height // size, size, image.width // size, channels)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def _resolve(specs, infos):
    """Sizes of train, valid and test, and what they are made of: [(split of `infos`, range)]."""
    from tensorflow_datasets.core import ReadInstruction

    parts = {}
    for field, spec in specs.items():
        try:
            pieces = ReadInstruction.from_spec(spec).to_absolute(infos)
        except ValueError as error:
            raise ValueError(
                f"data.{field}={spec!r}: {_reason(error)} (splits: {', '.join(infos)}; slices such "
                "as [:90%] and [1000:])"
            ) from error
        counts = [infos[p.splitname].num_examples for p in pieces]
        parts[field] = [(p.splitname, range(n)[p.from_ : p.to]) for p, n in zip(pieces, counts)]
        if not any(rows for _, rows in parts[field]):
            raise ValueError(f"data.{field}={spec!r} has no images")
    for a, b in itertools.combinations(parts, 2):
        for (split, rows), (other, others) in itertools.product(parts[a], parts[b]):
            if split == other and max(rows.start, others.start) < min(rows.stop, others.stop):
                raise ValueError(f"data.{a}={specs[a]!r} and data.{b}={specs[b]!r} overlap")
    sizes = tuple(sum(len(rows) for _, rows in pieces) for pieces in parts.values())
    return sizes, list(itertools.chain(*parts.values()))


def _check_options(name, options, allowed):
    for option in options:
        if option not in allowed:
            known = f"{', '.join(allowed)}; {_near(option, allowed)}" if allowed else "none"
            raise ValueError(f"data.options.{option} is no option of {name}, which has {known}")


def _near(name, names):
    return f"nearest: {difflib.get_close_matches(name, names, 1, 0)[0]!r}"


def _reason(error):
    return str(error).strip().split("\n")[0].rstrip(".")


# -- on the device --------------------------------------------------------------------------------


def standardise(
    images: jax.Array, mean: Sequence[float], std: Sequence[float], dtype: Any = jnp.float32
) -> jax.Array:
    """(images / 255 - mean) / std: uint8 [..., H, W, C] -> `dtype`, computed in float32."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def augment(
    keys: jax.Array, images: jax.Array, *, flip: bool, crop_padding: int, cutout: int
) -> jax.Array:
    """Distort each image by its own key; what is False or 0 is not computed.

    Args:
      keys: typed keys [B], consumed.
      images: float or uint8 [B, H, W, C]. Zeros come in, so standardise them first: 0 is the mean.
      flip: mirror left and right, half of the images.
      crop_padding: pixels of zeros around the image, of which a random H x W is kept.
      cutout: side in pixels of a square of zeros, centred anywhere, cut at the border (DeVries &
        Taylor 2017).

    Returns:
      As `images`.
    """
    if not (flip or crop_padding or cutout):
        return images

    def one(key, image):
        # A key for each, so that switching one off leaves what the others draw.
        flip_key, crop_key, cutout_key = jax.random.split(key, 3)
        if flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        if crop_padding:
            image = _random_crop(crop_key, image, crop_padding)
        return _cut_out(cutout_key, image, cutout) if cutout else image

    return jax.vmap(one)(keys, images)


def _random_crop(key, image, padding):
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _cut_out(key, image, side):
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.asarray((height, width)))
    top, left = centre - side // 2
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return jnp.where(inside[:, :, None], 0, image)
