"""Pixels on the device: standardisation and augmentation, inside the compiled step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import plugins
from nas_jax.runtime import rng

FIELD = "train.augment.fn"
_NONE = "none"  # of `train.augment.fn`


def standardise(images: jax.Array, mean: tuple, std: tuple) -> jax.Array:
    """Standardise pixels uint8 [..., C] to float32, (x / 255 - mean) / std per channel."""
    scale, offset = 1 / (255 * np.asarray(std)), np.asarray(mean) / np.asarray(std)
    return images.astype(jnp.float32) * scale.astype("f4") - offset.astype("f4")


def standardiser(data: Any) -> Callable[[jax.Array], jax.Array]:
    """Bind `standardise` to the mean and standard deviation of a `dataset.Data`."""
    return _standardiser(tuple(data.mean), tuple(data.std))


@functools.cache  # so that equal trainings have equal functions, and share programs
def _standardiser(mean, std):
    return functools.partial(standardise, mean=mean, std=std)


def preparation(
    data: Any, *, fn: Any = _NONE, **options: Any
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return (keys, images uint8) -> standardised, augmented images.

    Args:
      data: a `dataset.Data`.
      fn: "none", or what `plugins.resolve` finds: a function (keys [B], images float32 [B, H, W, C]
        in [0, 1]) -> images of the same form, which comes first.
      **options: of `augment`.

    Raises: ValueError if there is no such function.
    """
    return _preparation(standardiser(data), fn, function(fn), **options)


def function(name: Any) -> Callable | None:
    """Return the function that `train.augment.fn` names; None for "none".

    Raises: ValueError if there is none.
    """
    return None if name == _NONE else plugins.maker(FIELD, name, {_NONE: None}, "augmentations")


def check(name: Any, image_shape: tuple[int, int, int]) -> None:
    """Trace the function that `train.augment.fn` names on images (H, W, C); nothing is computed.

    Raises: ValueError if there is none, if it raises, or if it changes the shape.
    """
    made = function(name)
    if made is not None:
        keys = jax.random.split(rng.key(0), 2)
        images = jax.ShapeDtypeStruct((len(keys), *image_shape), jnp.uint8)
        jax.eval_shape(functools.partial(_transformed, name=name, function=made), keys, images)


@functools.cache
def _preparation(standardised, name, function, **options):
    def prepare(keys, images):
        if function is not None:
            images = _transformed(keys, images, name, function)
        return augment(keys, standardised(images), **options)

    return prepare


def _transformed(keys, images, name, function):
    """Apply a user's or a plug-in's function; pixels stay in [0, 255]."""
    keys = jax.vmap(lambda key: rng.named(key, FIELD))(keys)  # none of those that `augment` splits
    made = plugins.call(FIELD, name, function, keys, images.astype(jnp.float32) / 255)
    if jnp.shape(made) != images.shape:
        raise ValueError(
            f"{FIELD}={name!r} made images {list(jnp.shape(made))} of images "
            f"{list(images.shape)}; their shape must stay"
        )
    return 255 * made


def mixup_shares(keys: jax.Array, alpha: float) -> jax.Array:
    """Draw the share of each image in its mixture (Zhang et al., ICLR 2018).

    Args:
      keys: [B], consumed.
      alpha: of Beta(alpha, alpha). The larger share is the image's own.

    Returns: float32 [B] in [1/2, 1].
    """
    shares = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    return jnp.maximum(shares, 1 - shares)


def mixed(values: jax.Array, shares: jax.Array) -> jax.Array:
    """Mix values [G, n, ...] with those of the image before, in the same ghost batch.

    Args:
      values: images, or their classes.
      shares: float32 [G, n], of an image's own value.
    """
    shares = shares.reshape(*shares.shape, *[1] * (values.ndim - shares.ndim))
    return shares * values + (1 - shares) * jnp.roll(values, 1, 1)


def augment(
    keys: jax.Array, images: jax.Array, *, flip: bool, crop_padding: int, cutout: int
) -> jax.Array:
    """Flip, crop and cut out at random.

    Each image has a key, so the result does not depend on how batches are split.

    Args:
      keys: [B], consumed.
      images: float32 [B, H, W, C], standardised, so that zero is the mean.
      flip: whether images are mirrored left and right, with probability 1/2.
      crop_padding: pixels of zeros around an image before an H x W window is cut; 0 for none.
      cutout: side in pixels of a square set to zero, its centre anywhere; 0 for none.

    Returns: float32 [B, H, W, C].
    """

    def one(key, image):
        flip_key, crop_key, cut_key = jax.random.split(key, 3)
        if flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        if crop_padding:
            image = _crop(crop_key, image, crop_padding)
        return _cutout(cut_key, image, cutout) if cutout else image

    return jax.vmap(one)(keys, images) if flip or crop_padding or cutout else images


def _crop(key, image, padding):
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _cutout(key, image, side):
    height, width, _ = image.shape
    row, column = jax.random.randint(key, (2,), 0, jnp.asarray([height, width]))
    top, left = row - side // 2, column - side // 2
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return jnp.where(inside[..., None], 0, image)
