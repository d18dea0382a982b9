"""Images for tests."""

import numpy as np


def noise(num_images, height, width, channels=3, seed=0):
    """Uint8 [num_images, height, width, channels]."""
    shape = (num_images, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
