"""The embedded data set: small digits at random places on a cluttered canvas, no download.

Scikit-learn's 1797 digits of 8 x 8 grey pixels are nearly separable. Here a network must find the
digit among fragments of other digits, so it has to see the whole digit at once, and architectures
differ in accuracy. Letters: N images, S side of the canvas, s side of a patch.
"""

import numpy as np

CLASS_NAMES = tuple("0123456789")
NUM_ORIGINALS = {"train": 1197, "valid": 300, "test": 300}
# Ten images of each held-out original: then chance in a measured accuracy is small beside the
# differences between architectures.
NUM_IMAGES = {"train": 6000, "valid": 3000, "test": 3000}
OPTIONS = ("clutter", "noise", "seed")
DIGIT_SIZE = 8  # pixels
FRAGMENT_SIZE = 4  # pixels: strokes are visible, but no digit


def originals_by_split() -> dict[str, np.ndarray]:
    """Return the numbers of the originals that each split is made from, int [n] by split.

    They are disjoint, and the same for all seeds.
    """
    order = np.random.default_rng(0).permutation(sum(NUM_ORIGINALS.values()))
    ends = np.cumsum(list(NUM_ORIGINALS.values()))
    return dict(zip(NUM_ORIGINALS, np.split(order, ends[:-1])))


def make(
    *, image_size: int = 16, seed: int = 0, clutter: int = 3, noise: float = 0.1
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make all images of the three splits; the result depends on the arguments alone.

    Args:
      image_size: side of the canvas in pixels, 8 or more.
      seed: of places, brightness, clutter and noise.
      clutter: fragments of other digits (of the same split) on an image.
      noise: standard deviation of a pixel, where 1 is white.

    Returns:
      {"train", "valid", "test": (images uint8 [N, S, S, 1], labels int32 [N])}. The originals of a
      split take turns, so any consecutive images have about as many of each class.

    Raises:
      ValueError: an argument is too small.
    """
    for name, value, least in (
        ("image_size", image_size, DIGIT_SIZE),
        ("digits.clutter", clutter, 0),
        ("digits.noise", noise, 0),
    ):
        if value < least:
            raise ValueError(f"data.{name}={value} must be {least} or more")

    from sklearn.datasets import load_digits

    originals = load_digits()
    splits = {}
    for stream, (split, numbers) in enumerate(originals_by_split().items()):
        rng = np.random.default_rng((seed, stream))
        which = np.resize(numbers, NUM_IMAGES[split])
        pixels = (originals.images / 16).astype(np.float32)
        canvas = np.zeros((len(which), image_size, image_size), np.float32)
        for _ in range(clutter):
            _paste(canvas, _fragments(pixels[numbers], len(which), rng), rng)
        _paste(canvas, pixels[which], rng)
        canvas += noise * rng.standard_normal(canvas.shape, np.float32)
        images = np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)
        splits[split] = images[..., None], originals.target[which].astype(np.int32)
    return splits


def _fragments(pixels, num_images, rng):
    """Cut a part of a random digit for each image, float [N, s, s]."""
    digits = pixels[rng.integers(len(pixels), size=num_images)]
    return digits[_windows(num_images, DIGIT_SIZE, FRAGMENT_SIZE, rng)]


def _paste(canvas, patches, rng):
    """Draw patches [N, s, s] into canvas [N, S, S], each at a random place and brightness."""
    window = _windows(*canvas.shape[:2], patches.shape[1], rng)
    brightness = rng.uniform(0.5, 1, (len(canvas), 1, 1)).astype(np.float32)
    canvas[window] = np.maximum(canvas[window], brightness * patches)


def _windows(num_images, size, side, rng):
    """Return the index of a random window [side, side] of each image [size, size]."""
    top, left = rng.integers(size - side + 1, size=(2, num_images, 1, 1))
    span = np.arange(side)
    return np.arange(num_images)[:, None, None], top + span[:, None], left + span
