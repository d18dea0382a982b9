"""Train on images that RandAugment changes, by functions of dm-pix: python own_augmentation.py

It needs pip install "nas_jax[augment]". The same by the command:
nas-jax --config=digits --config.supernet.train.augment.fn=own_augmentation.py:rand_augment
"""

import jax
import jax.numpy as jnp

import nas_jax

try:
    import dm_pix as pix
except ImportError as error:
    kind = SystemExit if __name__ == "__main__" else ImportError
    raise kind('own_augmentation.py needs dm-pix: pip install "nas_jax[augment]"') from error

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
NUM_OPS = 2  # N of RandAugment: drawn for each image, one after the other
MAGNITUDE = 0.3  # M, where 1 is the strongest; the paper counts to 30
GREY = {"mode": "constant", "cval": 0.5}  # around an image that was moved


def moved(image, matrix, shift=(0.0, 0.0)):
    """Move pixels [H, W, C] by a 2x2 matrix about the centre, and by parts of height and width."""
    height, width, _ = image.shape
    centre, sides = jnp.array([height - 1, width - 1, 0]) / 2, jnp.array([height, width, 0])
    whole = jnp.eye(3).at[:2, :2].set(jnp.asarray(matrix, float))
    offset = centre - whole @ centre + sides * jnp.array([*shift, 0])
    return pix.affine_transform(image, whole, offset=offset, **GREY)


OPS = (  # of an image [H, W, C] in [0, 1] and a strength in [-1, 1]
    lambda image, s: image,
    lambda image, s: pix.rotate(image, s * jnp.pi / 6, **GREY),
    lambda image, s: moved(image, [[1, 0.3 * s], [0, 1]]),
    lambda image, s: moved(image, [[1, 0], [0.3 * s, 1]]),
    lambda image, s: moved(image, [[1, 0], [0, 1]], (0.3 * s, 0.0)),
    lambda image, s: moved(image, [[1, 0], [0, 1]], (0.0, 0.3 * s)),
    lambda image, s: pix.adjust_brightness(image, 0.5 * s),
    lambda image, s: pix.adjust_contrast(image, 1 + 0.9 * s),
    lambda image, s: pix.adjust_gamma(image, 2.0**s),
    lambda image, s: pix.solarize(image, 1 - jnp.abs(s)),
)
COLOUR = (lambda image, s: pix.adjust_saturation(image, 1 + 0.9 * s),)


def rand_augment(keys, images):
    """Change images float32 [B, H, W, C] in [0, 1] by keys [B] (Cubuk et al., NeurIPS 2020)."""
    ops = OPS + COLOUR if images.shape[-1] == 3 else OPS

    def one(key, image):
        for now in jax.random.split(key, NUM_OPS):
            which, sign = jax.random.split(now)
            number = jax.random.randint(which, (), 0, len(ops))
            strength = MAGNITUDE * jax.random.rademacher(sign, (), jnp.float32)
            image = jnp.clip(jax.lax.switch(number, ops, image, strength), 0, 1)
        return image

    return jax.vmap(one)(keys, images)


if __name__ == "__main__":
    fields = QUICK | {"supernet.train.augment.fn": f"{__file__}:rand_augment"}
    found = nas_jax.search("digits", workdir="runs/own_augmentation", fields=fields)
    print(repr(found.best), found.paths["report"], sep="\n")
