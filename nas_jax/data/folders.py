"""A folder of image files as a data set.

Either `PATH/<class>/<file>`, or `PATH/train/<class>/<file>` with `valid` and `test` beside `train`
as they are there. Files are PNG, JPEG, BMP, TIFF or WebP. Hidden files, and those that systems
leave (Thumbs.db, desktop.ini), are passed over.
"""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas_jax.data import dataset, imaging, splits
from nas_jax.data.dataset import Data, Streamed
from nas_jax.data.records import FOLDER_READ, SPLITS, STREAM_READ, decode, reading
from nas_jax.storage import file_paths

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MEMORY_GB = 4.0  # of decoded images; a set that takes more is streamed
NUM_MEASURED = 1000  # training images of a streamed set of which mean and std are taken
_PASSED_OVER = ("thumbs.db", "desktop.ini")
MOST_NAMED = 5  # of the files that cannot be read
_HEAD = 4096  # bytes that tell nearly all files apart

logger = logging.getLogger(__name__)


def load(
    path: str,
    *,
    image_size: int | None = None,
    shuffle_seed: int = 0,
    fractions: Sequence[float] = splits.FRACTIONS,
    split_seed: int = 0,
    memory_gb: float = MEMORY_GB,
) -> Data:
    """Load a folder of images.

    Labels number the class folders in the order of their names. If all images are grey there is one
    channel, else there are three; transparency is dropped, and of 16 bits the high byte is read.
    Images are turned as their EXIF data say. In memory, an image is the largest square in the
    centre, resized; a streamed set crops as `Streamed` says.

    Args:
      path: of the folder.
      image_size: H = W, pixels; None: as they are, and then all must be of one size.
      shuffle_seed: as of `loading.load`, as are the others.
      fractions: of train, valid and test, where the folder has no such splits.
      split_seed: of their drawing.
      memory_gb: of the decoded images, 10^9 bytes; beyond it they are streamed.

    Raises: ValueError that names the file, folder or class.
    """
    name = f"folder:{path}"
    root = file_paths.local(path, "data.name")
    if not root.is_dir():
        raise ValueError(f"data.name={name!r}: there is no folder {root.absolute()}")
    with splits.naming(f"data.name={name!r}"):
        class_names, files, labels, split = _list(root)
        order, sizes = splits.arrange(labels, split, class_names, fractions, split_seed)
    files, labels = [files[record] for record in order], labels[order]
    headers = _each(_read_header, files)
    _check_apart(files, headers, sizes)
    channels = 1 if all(header.grey for header in headers) else 3
    shape = (*_common_size(files, headers, image_size), channels)
    described = (name, class_names, sizes, shuffle_seed)
    source, origins = Files(files, labels), [file.relative_to(root).as_posix() for file in files]
    if len(files) * float(np.prod(shape)) <= memory_gb * 1e9:
        images = _decode_all(source, shape, image_size)
        imaging.check_brightness(name, images)
        return dataset.in_memory(*described, images, labels, origins, FOLDER_READ)
    if image_size is None:
        raise ValueError(
            f"data.name={name!r} takes more than data.memory_gb={memory_gb}, so it is streamed: "
            "give data.image_size, or more memory"
        )
    return _stream(described, shape, source, headers, origins)


class Files:
    """The rows of `records.decode` for image files and their labels, read when they are asked for.

    Args:
      files: their paths.
      labels: int [N].
    """

    def __init__(self, files: Sequence[Path], labels: np.ndarray):
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, record: int) -> dict[str, Any]:
        encoded = _read(self.files[record], -1)
        return {"image": encoded, "label": int(self.labels[record]), "upright": True}


def _stream(described, shape, source, headers, origins):
    name, class_names, sizes, shuffle_seed = described
    logger.info("data.name=%r is streamed; training images are random parts, resized", name)
    facts = np.asarray([(header.num_bytes, label) for header, label in zip(headers, source.labels)])
    digest = hashlib.sha256(facts.astype("<i8").tobytes()).digest()
    rows = (sizes, shuffle_seed, source, source.files, digest)
    said = {"origins": origins, "read_as": STREAM_READ._replace(upright=True)}
    return Streamed(name, class_names, shape, (), (), *rows, **said).measured(NUM_MEASURED)


# -- which files there are ------------------------------------------------------------------------


def _list(root):
    """Return the names of classes, all files, and of each its label and split, int [N]."""
    found = [
        (folder.name, SPLITS.index(split), file)
        for split, part in _parts(root).items()
        for folder in _classes(part)
        for file in _class_files(folder)
    ]
    names, which, files = zip(*found)
    class_names, labels = np.unique(names, return_inverse=True)
    return tuple(class_names.tolist()), files, labels.astype(np.int32), np.asarray(which)


def _parts(root):
    """Return {split: folder of class folders}: the root itself for train, if it is not divided."""
    folders, _ = _content(root)
    divided = [folder for folder in folders if folder.name in SPLITS and _content(folder)[0]]
    if not divided:
        return {"train": root}
    others = [folder.name for folder in folders if folder not in divided]
    if others:
        raise ValueError(
            f"{root} has {divided[0].name}/ with class folders and, beside it, {others[0]}/; "
            "either its folders are train/, valid/ and test/, with class folders in each, or they "
            "are the classes"
        )
    if "train" not in (folder.name for folder in divided):
        raise ValueError(f"{root} has {divided[0].name}/ but no train/ with class folders")
    return {folder.name: folder for folder in divided}


def _classes(part):
    folders, files = _content(part)
    loose = [file for file in files if file.suffix.lower() in SUFFIXES]
    if loose:
        raise ValueError(f"{loose[0]} is in no class folder: put it into {part}/<class>/")
    if not folders:
        raise ValueError(f"{part} has no class folders: put the images of a class into one")
    return folders


def _class_files(folder):
    folders, files = _content(folder)
    if folders:
        raise ValueError(f"{folders[0]} is a folder in a class folder, which may have files alone")
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{file} is no image ({' '.join(SUFFIXES)}): take it out of {folder}")
    if not files:
        raise ValueError(f"the class folder {folder} is empty: put images in, or remove it")
    return files


def _content(folder):
    """Return the folders and the files in a folder, sorted by name."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}") from error
    seen = [e for e in entries if e.name[0] != "." and e.name.lower() not in _PASSED_OVER]
    return [e for e in seen if e.is_dir()], [e for e in seen if not e.is_dir()]


# -- what is in them ------------------------------------------------------------------------------


class _Header(NamedTuple):
    """What the beginning of an image file says; `head` is a digest of its first bytes."""

    width: int
    height: int
    grey: bool
    num_bytes: int
    head: bytes


def _read_header(file):
    from PIL import Image, UnidentifiedImageError

    with reading(0, (), [file]):
        head = _read(file, _HEAD)
        try:
            with Image.open(file) as image:
                size, mode = imaging.upright_size(image), image.mode
        except UnidentifiedImageError as error:  # its text repeats the file
            raise ValueError("it is no image that Pillow knows") from error
        grey = mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16")
        num_bytes = file.stat().st_size
        return _Header(*size, grey, num_bytes, hashlib.sha256(head).digest())


def _read(file, num_bytes):
    """Read the first bytes of a file, all for -1."""
    try:
        with open(file, "rb") as stream:
            return stream.read(num_bytes)
    except OSError as error:
        raise ValueError(error.strerror) from error  # `reading` names the file


def _each(function: Callable, items: Iterable) -> list:
    """Apply a function in threads, as reading and decoding wait and release the GIL.

    Raises: ValueError of the first file that is wrong, which also names others that are.
    """
    errors = []

    def apply(item):
        try:
            return function(item)
        except ValueError as error:
            errors.append(str(error))  # the error itself would keep the file's bytes

    with futures.ThreadPoolExecutor(dataset.NUM_THREADS) as pool:
        results = list(pool.map(apply, items))
    if errors:
        first, *others = sorted(errors)
        raise ValueError(f"{first}{_named(others)}")
    return results


def _named(errors):
    """Name the files of errors, which begin with them; "" for none."""
    if not errors:
        return ""
    names = [error.partition(": ")[0] for error in errors[:MOST_NAMED]]
    more = ", .." if len(errors) > MOST_NAMED else ""
    return f"; {len(errors)} more cannot be read: {', '.join(names)}{more}"


def _check_apart(files, headers, sizes):
    """Refuse files of different splits that are equal to the byte; few files are read whole."""
    which = np.repeat(np.arange(len(SPLITS)), sizes)
    beginnings = {}
    for record, header in enumerate(headers):
        beginnings.setdefault(header[-2:], []).append(record)
    alike = [group for group in beginnings.values() if len(set(which[group])) > 1]
    keys = [None] * len(files)
    for record in (record for group in alike for record in group):
        with reading(record, sizes, files):
            keys[record] = hashlib.sha256(_read(files[record], -1)).digest()
    pair, count = splits.repeated(keys, sizes)
    if pair:
        a, b = (f"{files[record]} ({splits.name_of(record, sizes)})" for record in pair)
        more = f", as {count - 1} more files are in two splits" if count > 1 else ""
        raise ValueError(
            f"{a} and {b} are the same image{more}: networks would be tested on what they were "
            "trained on; remove one of them"
        )


def _common_size(files, headers, image_size):
    """Return the height and width of all images, resized if `image_size` is given."""
    for file, header in zip(files, headers):
        if image_size:
            with splits.naming(str(file)):
                imaging.check_size(header.width, header.height, image_size)
        elif header[:2] != headers[0][:2]:
            raise ValueError(
                f"data.image_size=0 keeps images as they are, but {files[0]} has "
                f"{headers[0].width} x {headers[0].height} pixels and {file} {header.width} x "
                f"{header.height}: give data.image_size"
            )
    return (image_size,) * 2 if image_size else (headers[0].height, headers[0].width)


def _decode_all(source, shape, image_size):
    """Decode, crop and resize all images, uint8 [N, H, W, C]."""
    images = np.empty((len(source), *shape), np.uint8)
    each = functools.partial(_decode_into, images, source, image_size)
    _each(each, range(len(source)))
    return images


def _decode_into(images, source, image_size, record):
    channels = images.shape[-1]
    with reading(record, (), source.files):
        image, _ = decode(source[record], channels, num_classes=2**31)
        image = imaging.square(image) if image_size else image
        images[record] = imaging.resize(image, channels, image_size)
