"""The embedded digits: what is on an image, and which originals a split is made of."""

import numpy as np

from nas_jax.data import digits, loading


def test_digits_depend_on_the_seed_alone():
    first, again, other = digits.make(seed=1), digits.make(seed=1), digits.make(seed=2)
    for split in digits.NUM_IMAGES:
        np.testing.assert_array_equal(first[split][0], again[split][0])
        np.testing.assert_array_equal(first[split][1], other[split][1])  # the originals stay
        assert np.mean(first[split][0] != other[split][0]) > 0.5


def test_digits_have_their_shapes_and_a_balance_of_classes():
    digit_data = loading.load("digits", train="train", valid="valid", test="test")
    assert digit_data.image_shape == (16, 16, 1)
    assert [digit_data.num_images(s) for s in ("train", "valid", "train+valid", "test")] == [
        6000,
        3000,
        9000,
        3000,
    ]
    images, labels = digit_data.fixed("train", 6000)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert np.bincount(labels).min() > 500
    assert loading.load("digits", image_size=20).image_shape == (20, 20, 1)


def test_splits_of_digits_share_no_original():
    originals = digits.originals_by_split()
    together = np.concatenate(list(originals.values()))
    assert {split: len(numbers) for split, numbers in originals.items()} == digits.NUM_ORIGINALS
    assert sorted(together) == list(range(1797))


def test_a_digit_alone_is_the_original_made_darker():
    from sklearn.datasets import load_digits

    images, labels = digits.make(image_size=8, clutter=0, noise=0)["valid"]
    numbers = digits.originals_by_split()["valid"]
    np.testing.assert_array_equal(labels, load_digits().target[np.resize(numbers, 3000)])
    for image, original in zip(images[:20, ..., 0], load_digits().images[numbers[:20]]):
        brightness = image.max() / 255 / (original.max() / 16)
        assert 0.49 < brightness <= 1
        np.testing.assert_allclose(image / 255, brightness * original / 16, atol=2.1 / 255)


def test_clutter_and_noise_are_added():
    plain = digits.make(clutter=0, noise=0)["test"][0]
    cluttered = digits.make(clutter=8, noise=0)["test"][0]
    noisy = digits.make(clutter=0, noise=0.1)["test"][0]
    assert np.mean(cluttered > 0) > np.mean(plain > 0) + 0.1
    assert np.mean((noisy > 0) & (noisy < 30)) > 0.3
