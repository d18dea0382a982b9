"""Augmentation on the device: by hand, and a function of an image's key alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.data import augment
from tests.images import noise


@functools.partial(jax.jit, static_argnames=("flip", "crop_padding", "cutout"))
def augmented(keys, images, flip=False, crop_padding=0, cutout=0):
    return augment.augment(keys, images, flip=flip, crop_padding=crop_padding, cutout=cutout)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_augment_is_the_identity_when_off():
    images = jnp.asarray(noise(2, 4, 4))
    same = augment.augment(keys_of(2), images, flip=False, crop_padding=0, cutout=0)
    assert same is images


def test_augment_of_an_image_depends_on_its_key_only():
    images, keys = noise(16, 6, 6), keys_of(16)
    on = {"flip": True, "crop_padding": 2, "cutout": 3}
    whole = augmented(keys, images, **on)
    assert whole.dtype == np.uint8
    other_keys, other_images = keys_of(16, seed=1).at[5:8].set(keys[5:8]), noise(16, 6, 6, seed=1)
    other_images[5:8] = images[5:8]
    others = augmented(other_keys, other_images, **on)
    np.testing.assert_array_equal(whole[5:8], others[5:8])
    assert np.any(augmented(other_keys, images, **on)[:5] != whole[:5])


def test_flip_mirrors_half_of_the_images():
    images = noise(200, 2, 3)
    flipped = np.asarray(augmented(keys_of(200), images, flip=True))
    mirrored = np.all(flipped == images[:, :, ::-1], (1, 2, 3))
    same = np.all(flipped == images, (1, 2, 3))
    assert np.all(mirrored ^ same)
    assert 70 < mirrored.sum() < 130


def test_crop_moves_the_image_and_fills_with_zeros():
    image = np.asarray([[1, 2], [3, 4]], np.uint8)[None, :, :, None]
    cropped = augmented(keys_of(200), np.repeat(image, 200, 0), crop_padding=1)
    # All 9 windows of 2 x 2 in   0 0 0 0 / 0 1 2 0 / 0 3 4 0 / 0 0 0 0
    rows = ["0001", "0012", "0020", "0103", "1234", "2040", "0300", "3400", "4000"]
    seen = {"".join(map(str, window.ravel())) for window in np.asarray(cropped)}
    assert seen == set(rows)


def test_cutout_is_a_square_clipped_at_the_border():
    cut = np.asarray(augmented(keys_of(300), np.ones((300, 4, 4, 1)), cutout=2))[..., 0] == 0
    # A square of 2 around pixel p covers p - 1 and p: 1 pixel where p = 0, else 2.
    heights, widths = cut.any(2).sum(1), cut.any(1).sum(1)
    assert set(zip(heights.tolist(), widths.tolist())) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    np.testing.assert_array_equal(cut.sum((1, 2)), heights * widths)
    assert np.all(cut.any(0))


def test_switching_one_off_leaves_the_draws_of_others():
    images, keys = noise(8, 6, 6).astype(np.float32) + 1, keys_of(8)
    alone = augmented(keys, images, cutout=3) == 0
    np.testing.assert_array_equal(alone, augmented(keys, images, cutout=3, flip=True) == 0)


def test_standardise_by_hand():
    images = jnp.asarray([[[[0, 255], [51, 102]]]], jnp.uint8)
    # (0 - .5) / .25, (1 - .2) / .5; (.2 - .5) / .25, (.4 - .2) / .5
    expected = [[[[-2.0, 1.6], [-1.2, 0.4]]]]
    made = augment.standardise(images, (0.5, 0.2), (0.25, 0.5))
    np.testing.assert_allclose(made, expected, rtol=1e-5)
