"""A folder of image files: what is read of it, and how it is resized, divided and streamed."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from nas_jax.data import dataset, folders, imaging, loading
from tests.data import pictures
from tests.images import noise, png


def load(root, **options):
    return loading.load(f"folder:{root}", **{"shuffle_seed": -1, **options})


def by_file(data):
    """{file: (image, label)} of all three splits, in stored order."""
    found = {}
    for split, files in data.origins_by_split().items():
        images, labels = data.fixed(split, len(files))
        found |= {file: pair for file, *pair in zip(files, images, labels.tolist())}
    return found


def test_a_folder_per_class_is_read_to_the_pixel(tmp_path):
    data = load(pictures.folder(tmp_path / "own"))
    assert data.class_names == pictures.CLASSES
    assert data.image_shape == (8, 8, 3)
    assert data.sizes == (18, 6, 6)  # of ten of each class: 6, 2, 2
    read, expected = by_file(data), noise(30, 8, 8)
    assert len(read) == 30
    for number, image in enumerate(expected):
        name = pictures.CLASSES[number // 10]
        pixels, label = read[f"{name}/{number % 10:02d}.png"]
        np.testing.assert_array_equal(pixels, image)
        assert label == number // 10
    train = np.stack([image for image, _ in list(read.values())[:18]]) / 255
    np.testing.assert_allclose(data.mean, train.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, train.std((0, 1, 2)))


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        (("train", "valid", "test"), (12, 12, 12)),
        # what is missing is drawn of each class's four: 0.6 to 0.2 is 3 to 1
        (("train", "test"), (9, 3, 12)),
        (("train", "valid"), (9, 12, 3)),
        # 2.4, 0.8, 0.8: the largest remainders are rounded up
        (("train",), (6, 3, 3)),
    ],
)
def test_splits_that_are_there_are_used_and_the_others_drawn(tmp_path, splits, sizes):
    data = load(pictures.divided(tmp_path, splits=splits))
    assert data.sizes == sizes
    for split, files in data.origins_by_split().items():
        assert {file.split("/")[0] for file in files} == {split if split in splits else "train"}
        assert sorted({file.split("/")[1] for file in files}) == list(pictures.CLASSES)


def test_a_class_may_be_called_train(tmp_path):
    """Vehicles: a folder of that name without folders is a class."""
    data = load(pictures.folder(tmp_path, classes=("plane", "train")))
    assert data.class_names == ("plane", "train")


def test_what_systems_leave_is_passed_over(tmp_path):
    pictures.folder(tmp_path)
    before = load(tmp_path).fingerprint
    for name in (".DS_Store", "cross/.hidden.png", "cross/Thumbs.db", "square/desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.txt").write_text("beside the classes any text may lie")
    assert load(tmp_path).fingerprint == before


def test_the_content_is_the_identity_not_the_place(tmp_path, monkeypatch):
    first = load(pictures.folder(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    again = load("b")  # from the working directory
    assert again.fingerprint == first.fingerprint
    assert again.origins == first.origins
    os.remove("b/cross/00.png")
    assert load("b").fingerprint != first.fingerprint


# -- kinds of files -------------------------------------------------------------------------------


def one_of(tmp_path, name, write, channels=3):
    """The pixels read of the file that `write(path)` makes, among others of so many channels."""
    others = noise(20, 8, 8, channels)
    for number, image in enumerate(others):
        pictures.save(tmp_path / "ab"[number % 2] / f"{number:02d}.png", image)
    write(tmp_path / "a" / name)
    data = load(tmp_path)
    assert data.image_shape == (8, 8, channels)
    return by_file(data)[f"a/{name}"][0]


RGB, GREY = noise(1, 8, 8, seed=9)[0], noise(1, 8, 8, 1, seed=9)[0]
DEEP = np.random.default_rng(0).integers(0, 2**16, (8, 8, 3)).astype(np.uint16)
KINDS = {
    "RGB": ("x.png", png(RGB), RGB),
    "other case": ("X.PNG", png(RGB), RGB),
    "grey among colours": ("x.png", png(GREY), np.repeat(GREY, 3, -1)),
    "alpha": ("x.png", png(np.dstack([RGB, GREY])), RGB),
    "grey with alpha": ("x.png", png(np.dstack([GREY, GREY])), np.repeat(GREY, 3, -1)),
    "16 bits": ("x.png", png(DEEP), DEEP // 256),
    "16 bits, grey": ("x.png", png(DEEP[..., :1]), np.repeat(DEEP[..., :1] // 256, 3, -1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_png(tmp_path, kind):
    name, encoded, expected = KINDS[kind]
    found = one_of(tmp_path, name, lambda path: path.write_bytes(encoded))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.bmp", "x.tif", "x.tiff", "x.webp"])
def test_other_formats(tmp_path, name):
    smooth = np.linspace(0, 200, 8 * 8 * 3).reshape(8, 8, 3).astype(np.uint8)
    found = one_of(tmp_path, name, lambda path: pictures.save(path, smooth))
    lossy = name.lower()[2:] in ("jpg", "jpeg", "webp")
    assert np.abs(found.astype(int) - smooth).max() <= (40 if lossy else 0)


@pytest.mark.parametrize(
    "grey", [png(GREY), png(DEEP[..., :1]), png(np.dstack([GREY, GREY]))], ids=["8", "16", "alpha"]
)
def test_grey_alone_has_one_channel(tmp_path, grey):
    one_of(tmp_path, "x.png", lambda path: path.write_bytes(grey), channels=1)


TURNED = {  # what the image must be turned into, for each orientation of the EXIF standard
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize(
    ("suffix", "atol", "options"),
    [("png", 0, {}), ("tif", 0, {}), ("jpg", 4, {"quality": 100, "subsampling": 0})],
)
@pytest.mark.parametrize("orientation", TURNED)
def test_photographs_are_turned_as_they_say(tmp_path, orientation, suffix, atol, options):
    """Also the size of a header is that of the image turned: all must be 6 wide and 8 high."""
    upright = noise(1, 8, 6, seed=3)[0]
    stored = next(
        shape
        for shape in (upright, np.rot90(upright), upright.transpose(1, 0, 2))
        if TURNED[orientation](shape).shape == upright.shape
    )
    pictures.folder(tmp_path, size=(6, 8))
    file, options = f"cross/x.{suffix}", {**options, "exif": pictures.turned(orientation)}
    pictures.save(tmp_path / file, np.ascontiguousarray(stored), **options)
    found = by_file(load(tmp_path))[file][0]
    np.testing.assert_allclose(found.astype(int), TURNED[orientation](stored), atol=atol)
    streamed = load(tmp_path, image_size=6, memory_gb=0)
    record = list(streamed.origins).index(file)
    row = streamed.source[record]
    assert imaging.open_image(row["image"], 3, row["upright"]).size == (6, 8)


# -- sizes ----------------------------------------------------------------------------------------


def test_the_square_in_the_centre_is_resized(tmp_path):
    """Of 12 x 8: columns 2..9; then by the mean of blocks of 2 x 2."""
    wide = noise(1, 8, 12, seed=5)[0]
    pictures.folder(tmp_path)
    pictures.save(tmp_path / "cross" / "x.png", wide)
    found = by_file(load(tmp_path, image_size=4))["cross/x.png"][0]
    blocks = wide[:, 2:10].reshape(4, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(found, np.rint(blocks))


@pytest.mark.parametrize("size", [24, 28])
def test_odd_sizes_of_seven_grey_classes(tmp_path, size):
    for label in range(7):
        for number, image in enumerate(noise(6, 20 + label, 30, 1, seed=label)):
            pictures.save(tmp_path / f"c{label}" / f"{number}.png", image)
    data = load(tmp_path, image_size=size)
    assert (data.image_shape, data.num_classes) == ((size, size, 1), 7)
    assert data.sizes == (25, 9, 8)  # 3.6, 1.2 and 1.2 of each class's six


def test_images_of_one_size_are_left_as_they_are(tmp_path):
    assert load(pictures.folder(tmp_path, size=(10, 6))).image_shape == (6, 10, 3)


# -- sets that are larger than memory -------------------------------------------------------------


def test_a_large_folder_is_streamed_with_its_own_mean(tmp_path, monkeypatch):
    pictures.folder(tmp_path, count=20, size=(16, 16))
    whole = load(tmp_path, image_size=8)
    limit = 60 * 8 * 8 * 3 / 1e9
    assert isinstance(load(tmp_path, image_size=8, memory_gb=limit), dataset.InMemory)
    data = load(tmp_path, image_size=8, memory_gb=0.99 * limit)
    assert isinstance(data, dataset.Streamed)
    assert (data.sizes, data.origins, data.class_names) == (
        whole.sizes,
        whole.origins,
        whole.class_names,
    )
    labels = [s.fixed("train", 36)[1] for s in (whole, data)]
    np.testing.assert_array_equal(*labels)
    assert data.class_counts("train").tolist() == np.bincount(labels[0]).tolist()
    train = data.fixed("train", 36)[0] / 255
    np.testing.assert_allclose(data.mean, train.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, train.std((0, 1, 2)))
    # The shorter side becomes 9 pixels (8 * 256 // 224) and the centre is kept.
    image = Image.open(tmp_path / data.origins[0])
    side = 16 * 8 / 9
    box = (8 - side / 2,) * 2 + (8 + side / 2,) * 2
    expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR, box))
    np.testing.assert_array_equal(data.fixed("train", 1)[0][0], expected)
    monkeypatch.setattr(folders, "NUM_MEASURED", 5)
    sampled = load(tmp_path, image_size=8, memory_gb=0)
    assert sampled.mean != data.mean
    np.testing.assert_allclose(sampled.mean, data.mean, atol=0.05)


def test_a_streamed_folder_knows_all_its_files(tmp_path, monkeypatch):
    """Its fingerprint reads a sample of the images, but the sizes of all files."""
    monkeypatch.setattr(dataset, "NUM_SAMPLED", 2)
    pictures.folder(tmp_path, size=(8, 8))
    before = load(tmp_path, image_size=8, memory_gb=0)
    file = tmp_path / before.origins[5]
    pictures.save(file, np.zeros((8, 8, 3), np.uint8))
    assert load(tmp_path, image_size=8, memory_gb=0).fingerprint != before.fingerprint
