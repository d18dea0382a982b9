"""Image files and folders of them, drawn with Pillow."""

import numpy as np
from PIL import Image

from tests.images import noise

CLASSES = ("circle", "cross", "square")


def folder(root, *, count=10, size=(8, 8), classes=CLASSES, seed=0, suffix="png"):
    """Write PATH/<class>/<number>.<suffix>, RGB noise of (width, height); return the root."""
    images = noise(len(classes) * count, size[1], size[0], seed=seed)
    for number, image in enumerate(images):
        place = root / classes[number // count]
        place.mkdir(parents=True, exist_ok=True)
        save(place / f"{number % count:02d}.{suffix}", image)
    return root


def divided(root, *, splits=("train", "valid", "test"), count=4, **options):
    """Write PATH/<split>/<class>/<number>.png; return the root."""
    for seed, split in enumerate(splits):
        folder(root / split, count=count, seed=seed, **options)
    return root


def save(path, pixels, **options):
    """Write an image file of uint8 [H, W, C], or of what Pillow takes besides."""
    image = pixels
    if isinstance(pixels, np.ndarray):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def turned(orientation):
    """Return EXIF data with an orientation, 1..8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
