"""Data: contents, order, errors; TFDS sets are small ones, written here in TFDS's own format."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_jax.data import dataset, imaging, loading
from tests.images import noise, write_tfds


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory):
    """Holds `small`: 20 + 4 images of 8 x 4; `odd`: two sizes; and sets that cannot be read."""
    root = tmp_path_factory.mktemp("tfds")
    labels = np.arange(20) % 10
    small = {"train": (noise(20, 8, 4), labels), "test": (noise(4, 8, 4, seed=1), labels[:4])}
    odd = [*noise(2, 4, 4), *noise(2, 6, 4)]
    write_tfds(root, "small", "1.0.0", small)
    write_tfds(root, "odd", "1.0.0", {"train": (odd, [1, 1, 1, 1])})
    write_tfds(root, "unlabelled", "1.0.0", {"train": (odd, [1, 2, 3, -1])})
    write_tfds(root, "pairs", "1.0.0", {"train": (noise(4, 4, 4, 2), [1, 1, 1, 1])})
    write_tfds(root, "classless", "1.0.0", {"train": (odd, [1, 2, 3, 4])}, num_classes=None)
    write_tfds(root, "records", "1.0.0", small, suffix="tfrecord")
    write_tfds(root, "regression", "1.0.0", {"train": (odd, [1, 2, 3, 4])}, label=np.int64)
    return root


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """24 training, 4 validation and 3 test images, of different sizes, read at 16 x 16."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("imagenet")
    sizes = itertools.cycle([(40, 30), (25, 50), (36, 36)])
    images = [noise(1, *next(sizes), seed=i)[0] for i in range(31)]
    splits = {"train": (images[:28], np.arange(28) % 10), "validation": (images[28:], [7, 8, 9])}
    version = str(tfds.builder_cls("imagenet2012").VERSION)
    write_tfds(root, "imagenet2012", version, splits)
    specs = {"train": "train[:-4]", "valid": "train[-4:]", "test": "validation"}
    specs["shuffle_seed"] = -1
    return loading.load("imagenet2012", data_dir=str(root), image_size=16, **specs), images


@pytest.fixture(scope="module")
def small(small_dir):
    return loading.load("small", data_dir=str(small_dir), shuffle_seed=-1)


@pytest.fixture(scope="module")
def digit_data():
    return loading.load("digits", train="train", valid="valid", test="test")


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(batch["image"], other["image"])
        np.testing.assert_array_equal(batch["label"], other["label"])


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid", "train+valid", "test"])
def test_an_epoch_has_every_image_at_most_once(digit_data, split):
    n = digit_data.num_images(split)
    numbered = dataset.InMemory(
        "", ("0",), (1, 1, 1), (0,), (1,), digit_data.sizes, 0, np.arange(12000), np.arange(12000)
    )
    batches = take(numbered.batches(split, 300, seed=0), 2 * (n // 300))
    epochs = np.array_split(np.concatenate([b["label"] for b in batches]), 2)
    first = {"valid": 6000, "test": 9000}.get(split, 0)
    for epoch in epochs:
        assert len(set(epoch)) == n // 300 * 300
        assert epoch.min() >= first
        assert epoch.max() < first + n
    assert np.any(epochs[0] != epochs[1])


def test_order_is_a_function_of_seed_and_epoch(small):
    second_epoch = take(small.batches("train", 5, seed=3), 6)[3:]
    order = np.random.default_rng((3, 1)).permutation(18)[:15]
    np.testing.assert_array_equal(
        np.concatenate([b["label"] for b in second_epoch]), np.arange(18)[order] % 10
    )


@pytest.mark.parametrize("start", [1, 3, 4, 11])
def test_a_resumed_stream_goes_on(small, start):
    whole = take(small.batches("train", 5, seed=0), start + 4)
    assert_same(whole[start:], take(small.batches("train", 5, seed=0, start=start), 4))


def test_shards_make_up_the_global_batch(small):
    whole = take(small.batches("train", 6, seed=0), 5)
    shards = [take(small.batches("train", 6, seed=0, shard=(i, 3)), 5) for i in range(3)]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in ("image", "label")}
        for parts in zip(*shards)
    ]
    assert_same(whole, joined)


def test_fixed_images_are_the_stored_ones_without_a_seed(small):
    stored = noise(20, 8, 4)
    images, labels = small.fixed("train", 3, start=2)
    np.testing.assert_array_equal(images, stored[2:5])
    assert labels.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(small.fixed("valid", 2)[0], stored[18:])
    np.testing.assert_array_equal(small.fixed("train+valid", 20)[0], stored)
    np.testing.assert_array_equal(small.fixed("test", 4)[0], noise(4, 8, 4, seed=1))


def test_a_split_in_order_is_cut_into_batches(small):
    parts = list(small.in_order("train", 7))
    assert [len(labels) for _, labels in parts] == [7, 7, 4]
    for whole, cut in zip(small.fixed("train", 18), zip(*parts)):
        np.testing.assert_array_equal(np.concatenate(cut), whole)


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda d: d.batches("train", 19, seed=0), ["batch_size=19", "18"]),
        (lambda d: d.batches("train", 0, seed=0), ["batch_size=0", "18"]),
        (lambda d: d.batches("train", 8, seed=0, shard=(0, 3)), ["batch_size=8", "3 processes"]),
        (lambda d: d.batches("vaild", 8, seed=0), ["'vaild'", "none of train, valid"]),
        (lambda d: d.fixed("valid", 3), ["num_images=3", "valid has 2"]),
        (lambda d: d.fixed("valid", 2, start=1), ["from number 1", "valid has 2"]),
        (lambda d: d.fixed("valid", 0), ["num_images=0"]),
        (lambda d: d.num_images("validation"), ["'validation'", "none of train, valid"]),
    ],
)
def test_wrong_requests_are_named(small, call, fragments):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        call(small)
    for fragment in fragments:
        assert fragment in str(error.value)


# -- TFDS sets ------------------------------------------------------------------------------------


def test_mean_and_std_are_those_of_the_training_split(small):
    train = noise(20, 8, 4)[:18] / 255
    np.testing.assert_allclose(small.mean, train.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(small.std, train.std((0, 1, 2)), rtol=1e-12)
    assert (small.name, small.num_classes, small.image_shape) == ("small", 10, (8, 4, 3))


def test_std_of_equal_images_can_be_divided_by(tmp_path):
    grey = np.full((20, 2, 2, 1), 100, np.uint8)
    write_tfds(tmp_path, "grey", "1.0.0", {"train": (grey, [0] * 20), "test": (grey, [0] * 20)})
    flat = loading.load("grey", data_dir=str(tmp_path))
    assert flat.image_shape == (2, 2, 1)
    assert flat.std == (1 / 255,)


def test_images_are_averaged_down_exactly(small_dir):
    resized = loading.load("small", data_dir=str(small_dir), image_size=2, shuffle_seed=-1)
    blocks = noise(20, 8, 4)[:18].reshape(18, 2, 4, 2, 2, 3)
    np.testing.assert_array_equal(resized.fixed("train", 18)[0], np.rint(blocks.mean((2, 4))))


def test_images_of_other_sizes_are_resized(small_dir):
    specs = {"train": "train[:1]", "valid": "train[1:3]", "test": "train[3:]"}
    odd = loading.load("odd", data_dir=str(small_dir), image_size=5, **specs)
    assert odd.fixed("train+valid", 3)[0].shape == (3, 5, 5, 3)
    grey = Image.fromarray(np.full((7, 9), 90, np.uint8))
    np.testing.assert_array_equal(imaging.resize(grey, 1, 4), np.full((4, 4, 1), 90))


SPLIT_ERRORS = [
    ({"train": "trian"}, ["data.train='trian'", "train, test"]),
    ({"valid": "train["}, ["data.valid='train['", "train, test"]),
    ({"train": "all[:90%]"}, ["data.train='all[:90%]'", "train, test"]),
    ({"test": "test[:5]"}, ["data.test='test[:5]'", "4 examples"]),
    ({"train": "train[5:5]"}, ["data.train='train[5:5]'", "no images"]),
    ({"valid": "train[9:5]"}, ["data.valid='train[9:5]'", "no images"]),
    ({"train": "train"}, ["data.train='train'", "data.valid='train[90%:]'", "overlap"]),
    ({"test": "test+train[17:]"}, ["data.test='test+train[17:]'", "data.train=", "overlap"]),
    ({"valid": "test[:1]"}, ["data.valid='test[:1]'", "data.test='test'", "overlap"]),
]


@pytest.mark.parametrize(
    ("name", "arguments", "fragments"),
    [
        *[("small", *case) for case in SPLIT_ERRORS],
        ("small", {"image_size": 0}, ["data.image_size=0", "from 1 on, or None"]),
        ("small", {"image_size": -4}, ["data.image_size=-4"]),
        ("small", {"shuffle_seed": -2}, ["data.shuffle_seed=-2", "-1: as stored"]),
        ("small", {"data_dir": "/nowhere"}, ["data.data_dir='/nowhere'"]),
        ("small", {"clutter": 3}, ["data.small.clutter", "small has none"]),
        ("cifar1O", {}, ["data.name='cifar1O'", "nearest: 'cifar10'"]),
        ("CIFAR10", {}, ["data.name='CIFAR10'", "nearest: 'cifar10'"]),
        ("CIFAR-100:3.0.2", {}, ["data.name='CIFAR-100:3.0.2'", "nearest: 'cifar100'"]),
        ("Smalls", {}, ["data.name='Smalls'", "nearest: 'small'"]),
        ("mnist:9.9.9", {}, ["nearest: 'mnist'"]),
        ("digit", {}, ["data.name='digit'", "nearest: 'digits'"]),
        ("mnist:9.9.9", {}, ["data.name='mnist:9.9.9'", "version 9.9.9"]),
        ("mnist", {}, ["data.name='mnist'", "mnist/3.0.1", "download_and_prepare", "data_dir"]),
        ("records", {}, ["data.name='records'", "tfrecord", "file_format='array_record'"]),
        ("regression", {}, ["data.name='regression'", "image, label", "class 'label'"]),
        ("pairs", {}, ["data.name='pairs'", "(None, None, 2)", "one of 1, 3, 4"]),
        ("classless", {}, ["data.name='classless'", "no number of classes"]),
        ("odd", {"test": "train[:1]", "train": "train[1:2]"}, ["data.image_size=None", "size"]),
        ("unlabelled", {"train": "train[:1]", "test": "train[3:]"}, ["data.test=", "no labels"]),
        ("digits", {"Clutter": 3}, ["data.digits.Clutter", "nearest: 'clutter'"]),
        ("digits", {"cluter": 3}, ["data.digits.cluter", "nearest: 'clutter'"]),
        ("digits", {"clutter": -1}, ["data.digits.clutter=-1", "0 or more"]),
        ("digits", {"image_size": 7}, ["data.image_size=7", "8 or more"]),
        ("digits", {"valid": "val"}, ["data.valid='val'", "train, valid, test"]),
        ("digits", {"test": "test[3000:]"}, ["data.test='test[3000:]'", "no images"]),
        ("digits", {"valid": "train[5399:]"}, ["data.train=", "data.valid=", "overlap"]),
    ],
)
def test_bad_arguments_are_named(small_dir, name, arguments, fragments):
    odd_valid = {"valid": "train[2:3]"} if name in ("odd", "unlabelled") else {}
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        loading.load(name, **{"data_dir": str(small_dir), **odd_valid, **arguments})
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (Path.unlink, ["data.train='train[:90%]'", "small-train", "is missing"]),
        (lambda file: file.write_bytes(file.read_bytes()[:-20_000]), ["data.name='small'"]),
        (lambda file: file.write_bytes(b""), ["data.name='small'", "is damaged"]),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(small_dir, tmp_path, damage, fragments):
    shutil.copytree(small_dir, tmp_path, dirs_exist_ok=True)
    [file] = tmp_path.glob("small/*/small-train.array_record*")
    damage(file)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        loading.load("small", data_dir=str(tmp_path))
    for fragment in [*fragments, "download_and_prepare"]:
        assert fragment in str(error.value)


def test_tensorflow_is_never_imported(small_dir, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = f"""
import sys
from nas_jax.data import loading as datasets
datasets.load("digits", train="train", valid="valid")
small = datasets.load("small", data_dir={str(small_dir)!r})
next(small.batches("train", 4, seed=0))
assert "tensorflow" not in sys.modules
"""
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(dataset.__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cifar10_has_its_sizes():
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not (folder and (Path(folder) / "cifar10").is_dir()):
        pytest.skip("needs TFDS_DATA_DIR with cifar10 in it")
    cifar = loading.load("cifar10", data_dir=folder)
    assert cifar.sizes == (45000, 5000, 10000)
    assert (cifar.image_shape, cifar.num_classes) == ((32, 32, 3), 10)
    np.testing.assert_allclose(cifar.mean, (0.491, 0.482, 0.447), atol=0.002)
    np.testing.assert_allclose(cifar.std, (0.247, 0.243, 0.262), atol=0.002)


# -- ImageNet -------------------------------------------------------------------------------------


def test_imagenet_is_streamed_and_resumed(imagenet):
    stream, _ = imagenet
    assert [stream.num_images(s) for s in ("train", "valid", "test")] == [24, 4, 3]
    whole = take(stream.batches("train", 5, seed=0), 9)
    assert (whole[0]["image"].shape, whole[0]["image"].dtype) == ((5, 16, 16, 3), np.uint8)
    assert whole[0]["label"].dtype == np.int32
    order = np.concatenate([np.random.default_rng((0, e)).permutation(24)[:20] for e in range(3)])
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in whole]), order[:45] % 10)
    for start in (1, 4, 6):
        assert_same(whole[start:], take(stream.batches("train", 5, seed=0, start=start), 9 - start))


def test_imagenet_reads_nothing_that_it_skips(imagenet):
    stream, _ = imagenet
    read = []

    class Source:
        def __getitem__(self, record):
            read.append(record)
            return stream.source[record]

    watched = dataset.Streamed(
        "", tuple("0123456789"), (4, 4, 3), stream.mean, stream.std, stream.sizes, 0, Source()
    ).batches("train", 24, seed=0, start=2**20)
    assert read == []
    next(watched)
    # The reader looks some records ahead, into the next epochs, but never back.
    assert {*read} == {*range(24)}
    assert len(read) <= 24 + dataset.NUM_PREFETCHED + dataset.NUM_THREADS


def test_the_classes_of_a_streamed_set_are_counted(imagenet):
    stream, _ = imagenet
    for split in ("train", "train+valid", "test"):
        _, labels = stream.fixed(split, stream.num_images(split))
        expected = np.bincount(labels, minlength=1000)
        np.testing.assert_array_equal(stream.class_counts(split), expected)


def test_imagenet_shards_make_up_the_global_batch(imagenet):
    stream, _ = imagenet
    whole = next(stream.batches("train", 6, seed=0, start=3))
    parts = [next(stream.batches("train", 6, seed=0, start=3, shard=(i, 2))) for i in range(2)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in whole}
    assert_same([whole], [joined])


def test_imagenet_crops_vary_by_epoch_in_training_only(imagenet):
    stream, _ = imagenet

    def by_record(split, size, epoch):
        batch = next(stream.batches(split, size, seed=0, start=epoch))
        return batch["image"][np.argsort(np.random.default_rng((0, epoch)).permutation(size))]

    assert np.all(np.any(by_record("train", 24, 0) != by_record("train", 24, 1), (1, 2, 3)))
    fixed = stream.fixed("valid", 4)[0]
    for epoch in range(2):
        np.testing.assert_array_equal(by_record("valid", 4, epoch), fixed)


def test_imagenet_centre_is_resized(imagenet):
    stream, images = imagenet
    image = Image.fromarray(images[28])  # 28 = 24 + 4: the first of the test split
    side = min(image.size) * 16 / 18  # 16 * 256 // 224 = 18 pixels, of which 16 are kept
    left, top = (np.asarray(image.size) - side) / 2
    box = (left, top, left + side, top + side)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR, box))
    np.testing.assert_array_equal(stream.fixed("test", 1)[0][0], expected)
