"""Data sets that tensorflow-datasets (TFDS) prepared, read without TensorFlow.

ImageNet is streamed, all others are read into memory.
"""

import contextlib
import itertools
import logging
import os
import re

import numpy as np

from nas_jax import naming
from nas_jax.data import dataset, imaging, split_strings
from nas_jax.data.dataset import Data, Streamed
from nas_jax.data.records import TFDS_READ, decode, reading
from nas_jax.storage import file_paths

_FOLDER, _DEFAULT_FOLDER = "TFDS_DATA_DIR", "~/tensorflow_datasets"
STREAMED = ("imagenet2012",)  # too large for memory
STREAMED_IMAGE_SIZE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

KEYS = ("image", "label")  # usual names of the features

logger = logging.getLogger(__name__)


def load(
    name: str,
    specs: dict[str, str],
    *,
    data_dir: str | None,
    image_size: int | None,
    shuffle_seed: int,
    keys: tuple[str, str] = KEYS,
) -> Data:
    """Load a set that TFDS prepared; arguments and errors as of `loading.load`.

    Args:
      name: of the set.
      specs: {"train", "valid", "test": split string}.
      data_dir: folder of prepared sets, or None.
      image_size: H = W, pixels, or None.
      shuffle_seed: of the order in which `Data.fixed` takes images.
      keys: the features that are the image and the label.
    """
    builder = _builder(name, data_dir, keys)
    features = builder.info.features
    label, channels = features[keys[1]], features[keys[0]].shape[-1] or 3
    sizes, _ = split_strings.resolve(specs, builder.info.splits)
    with _damage_explained(builder):
        source = _source(builder, specs, sizes, keys)
    if builder.name in STREAMED:
        size = image_size or STREAMED_IMAGE_SIZE
        pixels = (size, size, channels), IMAGENET_MEAN, IMAGENET_STD
        return Streamed(builder.name, tuple(label.names), *pixels, sizes, shuffle_seed, source)
    with _damage_explained(builder):
        images, labels = _read_all(source, sizes, channels, label.num_classes, image_size)
    imaging.check_brightness(builder.name, images)
    split_strings.check_classes(specs, sizes, labels, label.names)
    described = (builder.name, label.names, sizes, shuffle_seed)
    return dataset.in_memory(*described, images, labels, read_as=TFDS_READ)


def _builder(name, data_dir, keys):
    import tensorflow_datasets as tfds

    folder = _folder(data_dir)
    if data_dir and not folder.is_dir():
        raise ValueError(f"data.data_dir={data_dir!r} is no folder")
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (ValueError, TypeError, AssertionError) as error:  # name, argument, version
        raise ValueError(
            f"data.name={name!r}: {split_strings.reason_of(error)}; {_way_out(name, folder)}"
        ) from error
    if not builder.info.splits:
        raise ValueError(f"data.name={name!r} is not in {builder.data_dir}; {_how_to_get(name)}")
    _check_features(name, dict(builder.info.features), keys)
    return builder


def _way_out(name, folder):
    """Name the nearest set, or the prefix that a path lacks."""
    import tensorflow_datasets as tfds

    path = os.path.expanduser(name)
    for prefix, is_one in (("folder", os.path.isdir), ("npz", os.path.isfile)):
        if is_one(path):
            return f"for the {'folder' if prefix == 'folder' else 'file'}: '{prefix}:{name}'"
    names = ["digits", *tfds.list_builders(with_community_datasets=False), *_prepared(folder)]
    near = naming.nearest(re.split("[:/]", name)[0], names)  # without version or variant
    return f"nearest: {near!r}; images of your own are 'folder:PATH' or 'npz:PATH'"


def _prepared(folder):
    """List the names of prepared sets; TFDS may have no code for some of them."""
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _folder(data_dir):
    """Find the folder of prepared sets, a local one: TFDS reads no array_record from buckets."""
    if data_dir:
        return file_paths.local(data_dir, "data.data_dir")
    return file_paths.local(os.environ.get(_FOLDER) or _DEFAULT_FOLDER, f"${_FOLDER}")


def _check_features(name, features, keys):
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    good = [isinstance(features.get(key), kind) for key, kind in zip(keys, kinds)]
    if not all(good) or features[keys[0]].np_dtype != np.uint8:
        raise ValueError(
            f"data.name={name!r} has the features {', '.join(sorted(features))}, but needed are an "
            f"8-bit image {keys[0]!r} and a class {keys[1]!r}; name others by data.image_key and "
            "data.label_key"
        )
    image, label = (features[key] for key in keys)
    if image.shape[-1] not in (None, *imaging.MODES):
        possible = ", ".join(map(str, imaging.MODES))
        raise ValueError(
            f"data.name={name!r} has images of the shape {image.shape}; the channels, "
            f"{image.shape[-1]}, must be one of {possible}"
        )
    if not label.num_classes:
        raise ValueError(f"data.name={name!r}: its {keys[1]!r} has no number of classes")


def _how_to_get(name):
    return (
        "point TFDS_DATA_DIR or --config.data.data_dir to the folder that has it, or prepare it "
        '(TFDS may want TensorFlow for that): python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def _source(builder, specs, sizes, keys):
    """Open the records of train, valid and test, one after another, with encoded images."""
    import tensorflow_datasets as tfds

    decoders = {keys[0]: tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split="+".join(specs.values()), decoders=decoders)
    except NotImplementedError as error:
        stored = f"{builder.info.file_format.value} in {builder.data_dir}"
        raise ValueError(
            f"data.name={builder.name!r} is stored as {stored}, which has no random access; "
            f"{_how_to_get(builder.name)}"
        ) from error
    _check_files(builder, specs)
    source = source if keys == KEYS else _Renamed(source, keys)
    for (field, spec), first in zip(specs.items(), itertools.accumulate((0, *sizes))):
        if source[first]["label"] < 0:
            raise ValueError(f"data.{field}={spec!r} of {builder.name} has no labels")
    return source


class _Renamed:
    """The records of a source, whose image and label have other names there."""

    def __init__(self, source, keys):
        self._source, self._keys = source, keys

    def __len__(self):
        return len(self._source)

    def __getitem__(self, record):
        return self._row(self._source[record])

    def __getitems__(self, records):
        return [self._row(row) for row in self._source.__getitems__(records)]

    def _row(self, row):
        return {name: row[key] for name, key in zip(KEYS, self._keys)}


@contextlib.contextmanager
def _damage_explained(builder):
    try:
        yield
    except RuntimeError as error:  # from array_record, which has checksums
        raise ValueError(
            f"data.name={builder.name!r}: a file in {builder.data_dir} is damaged "
            f"({split_strings.reason_of(error)}); {_how_to_get(builder.name)}"
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
