"""Arrays as a data set: from Python, or of a file that `numpy.savez` wrote."""

import contextlib
import hashlib
import logging
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_jax import naming
from nas_jax.data import arguments, dataset, imaging, splits
from nas_jax.data.arguments import as_array
from nas_jax.data.dataset import InMemory
from nas_jax.data.records import SPLITS
from nas_jax.storage import file_paths

ARRAYS = ("images", "labels", "split", "class_names")  # of a file; the last two may be missing
_CHUNK = 1024  # images that are converted at once

logger = logging.getLogger(__name__)


def from_arrays(
    images: Any,
    labels: Any,
    *,
    split: Any = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    fractions: Sequence[float] = splits.FRACTIONS,
    split_seed: int = 0,
    shuffle_seed: int = 0,
    name: str = "arrays",
) -> InMemory:
    """Make a data set of arrays.

    Args:
      images: [N, H, W] or [N, H, W, C], uint8, or floats in [0, 1]; C is 1, 3 or 4.
      labels: whole numbers [N], each of 0 .. K - 1 at least once.
      split: texts [N], "train", "valid" or "test" for each image; None: all are drawn. If valid or
        test is missing, it is drawn from train.
      class_names: K texts; None: the numbers.
      image_size: H = W of the result, pixels: the largest square in the centre is resized. None: as
        they are.
      fractions: of train, valid and test, to draw them (see `splits.arrange`).
      split_seed: of the drawing.
      shuffle_seed: of the order in which `Data.fixed` takes images; -1 keeps the order given.
      name: of the data set.

    Returns: the set; its records are in the order of splits, `origins` has their former numbers.

    Raises: ValueError that names the array, the record and the value.
    """
    arguments.check(
        image_size=image_size,
        shuffle_seed=shuffle_seed,
        fractions=fractions,
        split_seed=split_seed,
    )
    _check_no_pillow(images)
    images, labels = as_array("images", images), as_array("labels", labels)
    check_images(images)
    names = _class_names(labels, len(images), class_names)
    which = _split(split, len(images))
    order, sizes = splits.arrange(labels, which, names, fractions, split_seed)
    if image_size:
        imaging.check_size(images.shape[2], images.shape[1], image_size)
    pixels = pixels_of(images, image_size)[order]
    labels = labels[order].astype(np.int32)
    _warn_of_repeated(name, pixels, order, sizes)
    return dataset.in_memory(name, names, sizes, shuffle_seed, pixels, labels, order.tolist())


def load(path: str, **options: Any) -> InMemory:
    """Load a file of arrays that `numpy.savez` wrote.

    Its arrays are `images`, `labels` and, if you like, `split` and `class_names`.

    Args:
      path: of the file, which ends with .npz.
      **options: of `from_arrays`, but for the arrays and the name.

    Raises: ValueError that names the file.
    """
    name = f"npz:{path}"
    file = file_paths.local(path, "data.name")
    if not file.is_file():
        raise ValueError(f"data.name={name!r}: there is no file {file.absolute()}")
    with splits.naming(f"data.name={name!r}"):
        return from_arrays(**_arrays(file), **options, name=name)


def _arrays(file):
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no file of numpy.savez, which holds arrays by name")
    with _damage_explained(), np.load(file) as stored:
        for key in stored.files:
            naming.check("an array", key, ARRAYS)
        missing = [key for key in ARRAYS[:2] if key not in stored.files]
        if missing:
            raise ValueError(f"it has no array {missing[0]!r}; it needs images and labels")
        return {key: _array(stored, key) for key in stored.files}


def _array(stored, key):
    try:
        return stored[key]
    except ValueError as error:  # NumPy's text tells how to read objects all the same
        raise ValueError(f"its array {key!r} is damaged, or holds objects") from error


@contextlib.contextmanager
def _damage_explained():
    """Turn the many kinds of error that a damaged file raises into a ValueError."""
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"it cannot be read ({reason}); write it anew") from error


def _check_no_pillow(images):
    """Refuse Pillow's images: the numbers in them may be of a palette, or of other colours."""
    first = next(iter(images), None) if isinstance(images, list | tuple) else images
    if hasattr(first, "getbands"):
        raise ValueError(
            "images are Pillow images, whose numbers depend on their mode: give arrays, as "
            "np.asarray(image.convert('RGB')), or the files, as data.name=folder:PATH"
        )


def check_images(images: np.ndarray) -> None:
    """Refuse images that `from_arrays` does not take. Raises: ValueError that says why."""
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(f"images has the shape {images.shape}, not [N, H, W] or [N, H, W, C]")
    if images.ndim == 4 and images.shape[-1] not in imaging.MODES:
        possible = ", ".join(map(str, imaging.MODES))
        raise ValueError(
            f"images has the shape {images.shape}: {images.shape[-1]} channels, which must be one "
            f"of {possible}, on the last axis"
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(f"images is {images.dtype}; it must be uint8, or floats in [0, 1]")


def _class_names(labels, num_images, given):
    """Check labels, and return the names of the classes."""
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels is {labels.dtype} {list(labels.shape)}; it must be whole numbers [N], N = "
            f"{num_images} as of images (np.unique(labels, return_inverse=True) numbers others)"
        )
    present = np.unique(labels)
    # No more names than labels, however large a label is: it then leaves a hole, or is no class.
    names = range(min(int(labels.max()) + 1, len(present) + 1)) if given is None else _texts(given)
    names = tuple(map(str, names))
    num_classes = len(names) if given is not None else int(labels.max()) + 1
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}, not in 0..{num_classes - 1}")
    if len(present) < num_classes:
        hole = np.flatnonzero(present != np.arange(len(present)))
        first = int(hole[0]) if hole.size else len(present)
        raise ValueError(
            f"labels has no {first}, though classes are 0..{num_classes - 1}; number those that "
            "there are: np.unique(labels, return_inverse=True)[1]"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"class_names={names} has one twice")
    return names


def _texts(given):
    names = as_array("class_names", given)
    items = names.tolist() if names.ndim == 1 else []
    if not items or not all(isinstance(item, str | int) for item in items):
        raise ValueError(
            f"class_names={naming.shown(given)} must be texts, one for each class, in the order of "
            "their numbers: such as ['cat', 'dog']"
        )
    return items


def _split(given, num_images):
    if given is None:
        return np.zeros(num_images, int)
    given = as_array("split", given)
    if given.shape != (num_images,) or given.dtype.kind not in "UO":
        raise ValueError(
            f"split is {given.dtype} {list(given.shape)}; it must be texts [N], N = {num_images} "
            "as of images"
        )
    given, which = np.asarray([str(text) for text in given]), np.full(num_images, -1)
    for number, name in enumerate(SPLITS):
        which[given == name] = number
    wrong = np.flatnonzero(which < 0)
    if wrong.size:
        naming.check(f"split[{wrong[0]}]", given[wrong[0]].item(), SPLITS)
    return which


def pixels_of(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """Return images, as `from_arrays` takes them, as uint8 [N, H, W, C].

    Raises: ValueError if floats are not in [0, 1].
    """
    images = images if images.ndim == 4 else images[..., None]
    channels = images.shape[-1]
    size = (image_size,) * 2 if image_size else images.shape[1:3]
    pixels = np.empty((len(images), *size, channels), np.uint8)
    for first in range(0, len(images), _CHUNK):
        part = images[first : first + _CHUNK]
        part = part if part.dtype == np.uint8 else _from_floats(part, first)
        if part.shape[1:3] != size:
            part = [_resized(image, channels, image_size) for image in part]
        pixels[first : first + _CHUNK] = part
    return pixels


def _from_floats(images, first):
    inside = (images >= 0) & (images <= 1)  # not NaN
    wrong = np.flatnonzero(~inside.all((1, 2, 3)))
    if wrong.size:
        record = wrong[0]
        value = images[record][~inside[record]][0]
        raise ValueError(
            f"images[{first + record}] has {value}; floats must be in [0, 1]: divide 0..255 by 255"
        )
    return np.rint(images.astype(np.float64) * 255).astype(np.uint8)


def _warn_of_repeated(name, pixels, order, sizes):
    """Warn of equal images in two splits; well-known sets have some, so they are not refused."""
    keys = [hashlib.sha256(np.ascontiguousarray(image)).digest() for image in pixels]
    pair, count = splits.repeated(keys, sizes)
    if pair:
        a, b = (f"images[{order[record]}] ({splits.name_of(record, sizes)})" for record in pair)
        what = "%s: %s and %s are equal, and so are %d more of two splits"
        logger.warning(what, name, a, b, count - 1)


def _resized(image, channels, image_size):
    from PIL import Image

    if channels == 3:
        return imaging.resize(imaging.square(Image.fromarray(image)), 3, image_size)
    # One by one: of four channels Pillow would take the last for transparency.
    bands = (imaging.square(Image.fromarray(image[..., i])) for i in range(channels))
    return np.concatenate([imaging.resize(band, 1, image_size) for band in bands], -1)
