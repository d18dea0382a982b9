"""Data sets by name: embedded digits, TFDS sets in memory, ImageNet as a stream.

Sets that tensorflow-datasets (TFDS) prepared are read without importing TensorFlow.
"""

import contextlib
import itertools
import logging
import os
import re
from typing import Any

import numpy as np

from nas_jax import naming
from nas_jax.data import digits, imaging
from nas_jax.data.dataset import Data, InMemory, Streamed, decode, reading
from nas_jax.storage import file_paths

_FOLDER, _DEFAULT_FOLDER = "TFDS_DATA_DIR", "~/tensorflow_datasets"
STREAMED = ("imagenet2012",)  # too large for memory
STREAMED_IMAGE_SIZE, DIGITS_IMAGE_SIZE = 224, 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

logger = logging.getLogger(__name__)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    train: str = "train[:90%]",
    valid: str = "train[90%:]",
    test: str = "test",
    seed: int = 0,
    shuffle_seed: int = 0,
    **options: Any,
) -> Data:
    """Load a data set.

    Of images of 16 bits the high bytes are read (see `imaging.open_image`); a warning says if a set
    in memory is then nearly black.

    Args:
      name: "digits" (embedded), "imagenet2012" (streamed), or any image classification set of TFDS
        (read into memory).
      data_dir: folder of prepared sets; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: H = W, pixels; None: 16 for digits, 224 for ImageNet, else the images' size.
      train, valid, test: TFDS split strings: slices by number or per cent, or sums of slices. They
        must not overlap. Digits have the splits "train", "valid" and "test".
      seed: of the embedded set, which is drawn at random.
      shuffle_seed: of the order in which `Data.fixed` takes images; -1 keeps the stored order.
      **options: of the embedded set: `clutter` and `noise` (see `digits.make`).

    Raises:
      ValueError: an argument is wrong, the set is missing, an image or label is damaged, or valid
        or test has a class that train lacks. The message names the field of the config and the
        record. Records of a streamed set are checked when they are read; its classes are not
        compared, as that would take reading the whole set.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size={image_size} must be 1 or more, or None")
    if shuffle_seed < -1:
        raise ValueError(f"data.shuffle_seed={shuffle_seed} must be 0 or more, or -1: as stored")
    specs = {"train": train, "valid": valid, "test": test}
    _check_options(name, options, digits.OPTIONS if name == "digits" else ())
    if name == "digits":
        size = image_size or DIGITS_IMAGE_SIZE
        return _load_digits(specs, shuffle_seed, image_size=size, seed=seed, **options)
    return _load_tfds(_builder(name, data_dir), specs, shuffle_seed, image_size)


def _load_digits(specs, shuffle_seed, **options):
    from tensorflow_datasets.core import SplitInfo

    drawn = digits.make(**options)
    infos = {
        split: SplitInfo(name=split, shard_lengths=[len(labels)], num_bytes=0)
        for split, (_, labels) in drawn.items()
    }
    sizes, pieces = _resolve(specs, infos)
    images, labels = (np.concatenate([drawn[s][i][rows] for s, rows in pieces]) for i in (0, 1))
    _check_classes(specs, sizes, labels, digits.CLASS_NAMES)
    return _in_memory("digits", digits.CLASS_NAMES, sizes, shuffle_seed, images, labels)


def _load_tfds(builder, specs, shuffle_seed, image_size):
    features = builder.info.features
    label, channels = features["label"], features["image"].shape[-1] or 3
    sizes, _ = _resolve(specs, builder.info.splits)
    with _damage_explained(builder):
        source = _source(builder, specs, sizes)
    if builder.name in STREAMED:
        size = image_size or STREAMED_IMAGE_SIZE
        pixels = (size, size, channels), IMAGENET_MEAN, IMAGENET_STD
        return Streamed(builder.name, tuple(label.names), *pixels, sizes, shuffle_seed, source)
    with _damage_explained(builder):
        images, labels = _read_all(source, sizes, channels, label.num_classes, image_size)
    _warn_of_dim(builder.name, images)
    _check_classes(specs, sizes, labels, label.names)
    return _in_memory(builder.name, label.names, sizes, shuffle_seed, images, labels)


def _check_classes(specs, sizes, labels, names):
    """Raise a ValueError if valid or test has a class that train lacks."""
    train, *others = np.split(labels, np.cumsum(sizes)[:-1])
    for field, other in zip(("valid", "test"), others):
        unseen = np.setdiff1d(other, train)
        if unseen.size:
            shown = ", ".join(repr(names[label]) for label in unseen[:5])
            raise ValueError(
                f"data.{field}={specs[field]!r} has classes that data.train={specs['train']!r} "
                f"lacks: {shown}{', ...' if unseen.size > 5 else ''}; choose slices that have them "
                "all (of a set that is stored sorted by class: a sum of several, or prepare it in "
                "a random order)"
            )


def _warn_of_dim(name, images):
    """Warn of nearly black images: 12 bits stored in 16 keep only four bits in the high byte."""
    brightest = images.max()
    if brightest < 16:
        logger.warning(
            "data.name=%r: no pixel is above %d of 255. If these are values of 12 bits in 16-bit "
            "images, of which the high byte is read: store them times 16",
            name,
            brightest,
        )


def _in_memory(name, class_names, sizes, shuffle_seed, images, labels):
    train = images[: sizes[0]]
    mean = train.mean(0, dtype=np.float64).mean((0, 1))
    square = np.square(train, dtype=np.uint16).mean(0, dtype=np.float64).mean((0, 1))
    std = np.sqrt(np.maximum(square - mean**2, 1))  # at least a grey level: a divisor
    stats = (tuple((x / 255).tolist()) for x in (mean, std))
    shape = images.shape[1:]
    return InMemory(name, tuple(class_names), shape, *stats, sizes, shuffle_seed, images, labels)


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    folder = _folder(data_dir)
    if data_dir and not folder.is_dir():
        raise ValueError(f"data.data_dir={data_dir!r} is no folder")
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (ValueError, TypeError, AssertionError) as error:  # name, argument, version
        names = ["digits", *tfds.list_builders(with_community_datasets=False), *_prepared(folder)]
        near = naming.nearest(re.split("[:/]", name)[0], names)  # without version or variant
        raise ValueError(f"data.name={name!r}: {_reason(error)}; nearest: {near!r}") from error
    if not builder.info.splits:
        raise ValueError(f"data.name={name!r} is not in {builder.data_dir}; {_how_to_get(name)}")
    _check_features(name, builder.info.features)
    return builder


def _prepared(folder):
    """List the names of prepared sets; TFDS may have no code for some of them."""
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _folder(data_dir):
    """Find the folder of prepared sets, a local one: TFDS reads no array_record from buckets."""
    if data_dir:
        return file_paths.local(data_dir, "data.data_dir")
    return file_paths.local(os.environ.get(_FOLDER) or _DEFAULT_FOLDER, f"${_FOLDER}")


def _check_features(name, features):
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    good = [key for key, kind in kinds.items() if isinstance(dict(features).get(key), kind)]
    if good != list(kinds) or features["image"].np_dtype != np.uint8:
        raise ValueError(
            f"data.name={name!r} has the features {', '.join(sorted(features))}, but needed are an "
            "8-bit image 'image' and a class 'label'"
        )
    shape = features["image"].shape
    if shape[-1] not in (None, *imaging.MODES):
        possible = ", ".join(map(str, imaging.MODES))
        raise ValueError(
            f"data.name={name!r} has images of the shape {shape}; the channels, {shape[-1]}, must "
            f"be one of {possible}"
        )
    if not features["label"].num_classes:
        raise ValueError(f"data.name={name!r}: its 'label' has no number of classes")


def _how_to_get(name):
    return (
        "point TFDS_DATA_DIR or --config.data.data_dir to the folder that has it, or prepare it "
        '(TFDS may want TensorFlow for that): python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def _source(builder, specs, sizes):
    """Open the records of train, valid and test, one after another, with encoded images."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split="+".join(specs.values()), decoders=decoders)
    except NotImplementedError as error:
        stored = f"{builder.info.file_format.value} in {builder.data_dir}"
        raise ValueError(
            f"data.name={builder.name!r} is stored as {stored}, which has no random access; "
            f"{_how_to_get(builder.name)}"
        ) from error
    _check_files(builder, specs)
    for (field, spec), first in zip(specs.items(), itertools.accumulate((0, *sizes))):
        if source[first]["label"] < 0:
            raise ValueError(f"data.{field}={spec!r} of {builder.name} has no labels")
    return source


@contextlib.contextmanager
def _damage_explained(builder):
    try:
        yield
    except RuntimeError as error:  # from array_record, which has checksums
        raise ValueError(
            f"data.name={builder.name!r}: a file in {builder.data_dir} is damaged "
            f"({_reason(error)}); {_how_to_get(builder.name)}"
        ) from error


def _check_files(builder, specs):
    """Raise a ValueError if a split's file is missing; reading would give an obscure error."""
    for field, spec in specs.items():
        for file in builder.info.splits[spec].filepaths:
            if not file.exists():
                raise ValueError(
                    f"data.{field}={spec!r} of {builder.name} needs {file}, which is missing; "
                    f"{_how_to_get(builder.name)}"
                )


def _read_all(source, sizes, channels, num_classes, image_size):
    images, labels = [], []
    for first in range(0, len(source), 1024):  # TFDS reads many at once faster than one by one
        for row in source.__getitems__(list(range(len(source))[first : first + 1024])):
            with reading(len(labels), sizes):
                image, label = decode(row, channels, num_classes)
            images.append(imaging.resize(image, channels, image_size))
            labels.append(label)
    if len({image.shape for image in images}) > 1:
        raise ValueError("data.image_size=None, but the images differ in size: give it")
    return np.stack(images), np.asarray(labels, np.int32)


def _resolve(specs, infos):
    """Return the sizes of train, valid and test, and their pieces [(split of `infos`, range)]."""
    from tensorflow_datasets.core import ReadInstruction

    parts = {}
    for field, spec in specs.items():
        try:
            pieces = ReadInstruction.from_spec(spec).to_absolute(infos)
        except (ValueError, NotImplementedError) as error:  # the latter for slices of "all"
            allowed = f"slices such as [:90%] or [1000:] of {', '.join(infos)}"
            raise ValueError(
                f"data.{field}={spec!r}: {_reason(error)}; allowed: {allowed}"
            ) from error
        counts = [infos[p.splitname].num_examples for p in pieces]
        parts[field] = [(p.splitname, range(n)[p.from_ : p.to]) for p, n in zip(pieces, counts)]
        if not any(rows for _, rows in parts[field]):
            raise ValueError(f"data.{field}={spec!r} has no images")
    _check_apart(specs, parts)
    sizes = tuple(sum(len(rows) for _, rows in pieces) for pieces in parts.values())
    return sizes, list(itertools.chain(*parts.values()))


def _check_apart(specs, parts):
    for a, b in itertools.combinations(parts, 2):
        for (split, rows), (other, others) in itertools.product(parts[a], parts[b]):
            if split == other and max(rows.start, others.start) < min(rows.stop, others.stop):
                raise ValueError(f"data.{a}={specs[a]!r} and data.{b}={specs[b]!r} overlap")


def _check_options(name, options, allowed):
    for option in options:
        if option not in allowed:
            there = "none"
            if allowed:
                there = f"{', '.join(allowed)}; nearest: {naming.nearest(option, allowed)!r}"
            raise ValueError(f"data.{name}.{option} is no option; {name} has {there}")


def _reason(error):
    return str(error).strip().split("\n")[0].rstrip(".")
