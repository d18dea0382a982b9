"""Search on arrays of your own: python own_arrays.py"""

import numpy as np

import nas_jax
from nas_jax import data

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "supernet.train.num_steps": 50,
    "sweep.num_candidates": 32,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


def stripes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make grey images, float [count, 28, 28] in [0, 1], and labels 0..6: the width of stripes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 7
    places = np.arange(28) + rng.integers(0, 28, (count, 1))
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * places / (2 + labels[:, None]))
    noise = rng.random((count, 28, 28))
    return 0.3 * waves[:, None] + 0.7 * noise, labels


if __name__ == "__main__":
    images, labels = stripes(2100)
    own = data.from_arrays(images, labels, name="stripes")
    found = nas_jax.search("digits", data=own, workdir="runs/own_arrays", fields=QUICK)
    print(repr(found.best), found.paths["report"], sep="\n")
