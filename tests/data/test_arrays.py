"""Arrays, of Python or of a file, as a data set: what is read of them, and what is refused."""

import io
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas_jax import data as data_lib
from nas_jax.data import dataset, loading
from tests.images import noise
from tests.test_bad_input import damaged, examples, refused

IMAGES, LABELS = noise(30, 8, 8), np.arange(30) % 3
SPLIT = np.repeat(["train", "valid", "test"], [18, 6, 6])
GOOD = {"images": IMAGES, "labels": LABELS, "split": SPLIT}


def whole(data):
    """(images, labels) of all records, in the order of splits."""
    parts = [data.fixed(split, data.num_images(split)) for split in ("train", "valid", "test")]
    return [np.concatenate(arrays) for arrays in zip(*parts)]


def test_arrays_are_kept_to_the_bit():
    data = data_lib.from_arrays(**GOOD, class_names=["a", "b", "c"], shuffle_seed=-1)
    assert isinstance(data, dataset.InMemory)
    images, labels = whole(data)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert (data.class_names, data.sizes) == (("a", "b", "c"), (18, 6, 6))
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_allclose(data.mean, (IMAGES[:18] / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, (IMAGES[:18] / 255).std((0, 1, 2)))


def test_a_list_without_splits_is_drawn():
    data = data_lib.from_arrays(list(IMAGES), LABELS.tolist(), shuffle_seed=-1)
    assert data.sizes == (18, 6, 6)
    images, labels = whole(data)
    numbers = [n for part in data.origins_by_split().values() for n in part]
    assert sorted(numbers) == list(range(30))
    np.testing.assert_array_equal(images, IMAGES[numbers])
    np.testing.assert_array_equal(labels, LABELS[numbers])
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_grey_levels(dtype):
    """Each level n / 255 is n again, in whatever precision; between two it is the nearer one."""
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    images = np.resize(levels / 255, (30, 8, 8)).astype(dtype)
    data = data_lib.from_arrays(images, LABELS, split=SPLIT, shuffle_seed=-1)
    assert data.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(whole(data)[0][:4, ..., 0], levels)


@pytest.mark.parametrize(("shape", "channels"), [((8, 8), 1), ((8, 8, 1), 1), ((8, 8, 4), 4)])
def test_shapes(shape, channels):
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    data = data_lib.from_arrays(images, LABELS, image_size=4)
    assert data.image_shape == (4, 4, channels)
    assert data_lib.from_arrays(images[:, :6], LABELS).image_shape == (6, 8, channels)


def test_equal_bytes_of_another_shape_are_other_images():
    images = noise(30, 6, 6, 1)
    low = data_lib.from_arrays(images.reshape(30, 4, 9, 1), LABELS).fingerprint
    square = data_lib.from_arrays(images, LABELS).fingerprint
    assert low.endswith("-4x9x1")
    assert square == low.replace("-4x9x1", "-6x6x1")


def test_resizing_takes_the_square_in_the_centre():
    wide = noise(30, 8, 12)
    data = data_lib.from_arrays(wide, LABELS, split=SPLIT, image_size=4, shuffle_seed=-1)
    expected = wide[:, :, 2:10].reshape(30, 4, 2, 4, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(whole(data)[0], np.rint(expected))


def test_a_file_is_its_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez_compressed("own.npz", **GOOD, class_names=["x", "y", "z"])
    data = loading.load("npz:own.npz", train="train[:45000]")  # of another set: not for this one
    same = data_lib.from_arrays(**GOOD, class_names=["x", "y", "z"])
    assert data.fingerprint == same.fingerprint
    assert (data.class_names, data.name) == (("x", "y", "z"), "npz:own.npz")
    assert data.origins_by_split()["valid"] == list(range(18, 24))
    np.savez("drawn.npz", images=IMAGES, labels=LABELS)
    drawn = loading.load("npz:drawn.npz", fractions=(0.8, 0.1, 0.1), split_seed=3, image_size=4)
    assert drawn.sizes == (24, 3, 3)
    assert drawn.image_shape == (4, 4, 3)


def changed(array, value, *place):
    array = np.array(array)
    array[place] = value
    return array


FLOATS = IMAGES / 255.0
BAD = [  # (arrays that differ, what the message has)
    ({"images": IMAGES.astype(np.int64)}, ["images is int64", "uint8, or floats in [0, 1]"]),
    ({"images": IMAGES * 1.0}, ["images[0] has ", "divide 0..255 by 255"]),
    ({"images": changed(FLOATS, np.nan, 7, 2, 3, 1)}, ["images[7] has nan", "in [0, 1]"]),
    ({"images": changed(FLOATS, np.inf, 29, 0, 0, 0)}, ["images[29] has inf"]),
    ({"images": changed(FLOATS, -0.25, 3, 0, 0, 0)}, ["images[3] has -0.25"]),
    ({"images": IMAGES[..., :2]}, ["(30, 8, 8, 2): 2 channels", "one of 1, 3, 4"]),
    ({"images": IMAGES.transpose(0, 3, 1, 2)}, ["8 channels", "on the last axis"]),
    ({"images": IMAGES[0, 0]}, ["images has the shape (8, 3), not [N, H, W]"]),
    ({"images": IMAGES[:0], "labels": LABELS[:0], "split": None}, ["the shape (0, 8, 8, 3)"]),
    ({"labels": LABELS[:29]}, ["labels is int64 [29]", "N = 30"]),
    ({"labels": LABELS * 1.0}, ["labels is float64 [30]", "whole numbers [N]"]),
    ({"labels": LABELS.astype(str)}, ["labels is <U21 [30]", "np.unique(labels"]),
    ({"labels": LABELS * 2}, ["labels has no 1, though classes are 0..4", "np.unique"]),
    ({"labels": LABELS + 1}, ["labels has no 0, though classes are 0..3"]),
    ({"labels": changed(LABELS, -1, 4)}, ["labels[4] is -1, not in 0..2"]),
    ({"labels": LABELS * 0}, ["only one class, '0'"]),
    ({"class_names": ["a", "b"]}, ["labels[2] is 2, not in 0..1"]),
    ({"class_names": ["a", "b", "c", "d"]}, ["labels has no 3, though classes are 0..3"]),
    ({"class_names": ["a", "b", "a"]}, ["('a', 'b', 'a') has one twice"]),
    ({"split": SPLIT[1:]}, ["split is <U5 [29]", "N = 30"]),
    ({"split": changed(SPLIT, "val", 6)}, ["split[6]='val'", "train, valid, test", "'valid'"]),
    ({"split": np.zeros(30, int)}, ["split is int64 [30]", "texts [N]"]),
    ({"split": changed(SPLIT, "test", slice(18))}, ["train has no image of the class '0'"]),
    ({"labels": changed(LABELS, 0, slice(24, 30))}, ["test has no image of the class '1'"]),
]
PARTS = [(0.5, 0.5), (0.5,), "abc", ("a", "b", "c"), 0.5, None, (1, 0, 0), (np.nan, 0.5, 0.5)]
NAMES = [np.array("abc"), 3, "abc", [], [None, "a", "b"], [["a"], ["b"], ["c"]]]
BAD_OPTIONS = [
    ({"image_size": 33}, ["8 x 8 pixels are too few for data.image_size=33"]),
    *[({"image_size": size}, [f"data.image_size={size!r}", "or None"]) for size in (4.0, -4, True)],
    *[
        ({"fractions": given}, [f"data.fractions={given!r} must", "three numbers"])
        for given in PARTS
    ],
    *[({"split_seed": seed}, [f"data.split_seed={seed!r} must"]) for seed in (-1, "x", None)],
    *[({"shuffle_seed": seed}, [f"={seed!r} must", "or -1: as stored"]) for seed in (-5, "x", 0.5)],
    *[({"class_names": given}, [f"class_names={given!r} must be texts"]) for given in NAMES],
    ({"images": [Image.new("P", (8, 8))] * 30}, ["Pillow images", "convert('RGB')"]),
    ({"images": [[1, 2], [3]]}, ["images=[[1, 2], [3]] is no array", "different sizes"]),
    ({"split": [["train"], "test"]}, ["split=[['train'], 'test'] is no array"]),
]


@pytest.mark.parametrize(("changes", "fragments"), [*BAD, *BAD_OPTIONS])
def test_bad_arrays_are_refused(changes, fragments):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        data_lib.from_arrays(**{**GOOD, **changes})
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(("changes", "fragments"), BAD)
def test_a_bad_file_is_named(tmp_path, changes, fragments):
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"^data\.name='npz:{path}': [^\n]+$") as error:
        loading.load(f"npz:{path}")
    for fragment in fragments:
        assert fragment in str(error.value)


def encoded(write, *arrays, **named):
    """The bytes of the file that a function of NumPy writes."""
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


@examples(150)
@given(drawn=st.data())
def test_damaged_files_are_arrays_or_refused(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("damaged") / "own.npz"
    path.write_bytes(damaged(drawn, encoded(np.savez_compressed, images=IMAGES, labels=LABELS)))
    refused(loading.load, f"npz:{path}", naming="own.npz")


@pytest.mark.parametrize("name", ["folder:", "npz:", "folder"])
def test_a_name_without_a_path_is_refused(name):
    kind = name.partition(":")[0]
    with pytest.raises(
        ValueError, match=rf"^data\.name='{name}' names no path: write {kind}:PATH$"
    ):
        loading.load(name)


@pytest.mark.parametrize("memory_gb", [-1, "x", np.nan, True])
def test_bad_memory_is_refused(memory_gb):
    with pytest.raises(ValueError, match=rf"^data\.memory_gb={memory_gb!r} must be a number, 0 or"):
        loading.load("folder:own", memory_gb=memory_gb)


FILES = [
    (
        lambda p: np.savez(p, x_train=IMAGES, y_train=LABELS),
        ["an array='x_train'", "images,"],
    ),
    (lambda p: np.savez(p, images=IMAGES), ["it has no array 'labels'"]),
    (lambda p: np.savez(p, images=IMAGES, labels=LABELS.astype(object)), ["'labels'", "objects"]),
    (lambda p: p.write_bytes(b"no array"), ["no file of numpy.savez"]),
    (lambda p: p.write_bytes(b""), ["no file of numpy.savez"]),
    (lambda p: p.write_bytes(b"PK\x03\x04 no more"), ["no file of numpy.savez"]),
    (lambda p: p.write_bytes(encoded(np.save, IMAGES)), ["no file of numpy.savez", "by name"]),
    (lambda p: p.write_bytes(b"PK\x05\x06" + bytes(18)), ["it has no array 'images'"]),
]


@pytest.mark.parametrize(("write", "fragments"), FILES)
def test_a_file_without_the_arrays_is_refused(tmp_path, write, fragments):
    path = tmp_path / "own.npz"
    write(path)
    with pytest.raises(ValueError, match=rf"^data\.name='npz:{path}': [^\n]+$") as error:
        loading.load(f"npz:{path}")
    for fragment in fragments:
        assert fragment in str(error.value)


def test_equal_images_of_two_splits_are_said(caplog):
    """Not refused: well-known sets have some."""
    images = IMAGES.copy()
    images[[20, 25]] = images[3]
    with caplog.at_level(logging.WARNING):
        data_lib.from_arrays(images, LABELS, split=SPLIT)
    assert "images[3] (train) and images[20] (valid) are equal, and so are 1 more" in caplog.text
