"""Images for tests, and sets of them in TFDS's own format."""

import struct
import zlib
from pathlib import Path

import numpy as np


def noise(num_images, height, width, channels=3, seed=0):
    """Uint8 [num_images, height, width, channels]."""
    shape = (num_images, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(image):
    """The bytes of a PNG file of uint8 or uint16 [H, W, 1 (grey), 2 (with alpha), 3 or 4]."""
    height, width, channels = image.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    depth = 8 * image.dtype.itemsize
    rows = image.astype(image.dtype.newbyteorder(">")).reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)  # each begins with its filter: none
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(lines)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def write_tfds(
    root,
    name,
    version,
    splits,
    *,
    suffix="array_record",
    label=None,
    num_classes=10,
    channels=None,
    keys=("image", "label"),
):
    """Write {split: (images or their bytes, labels)} as a prepared TFDS set, without TensorFlow."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    channels = channels or splits["train"][0][0].shape[-1]
    features = {
        keys[0]: tfds.features.Image(shape=(None, None, channels)),
        keys[1]: label or tfds.features.ClassLabel(num_classes=num_classes),
    }
    stored = {**features, keys[1]: np.int64}  # any number, whatever the classes are
    serialize = tfds.features.FeaturesDict(stored).serialize_example
    folder = Path(root) / name / version
    folder.mkdir(parents=True)
    for split, (images, labels) in splits.items():
        path = folder / f"{name}-{split}.{suffix}-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for image, number in zip(images, labels):
            encoded = image if isinstance(image, bytes) else png(image)
            writer.write(serialize(dict(zip(keys, (encoded, number)))))
        writer.close()
    infos = [
        tfds.core.SplitInfo(name=split, shard_lengths=[len(labels)], num_bytes=0)
        for split, (_, labels) in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, check_data=False
    )
