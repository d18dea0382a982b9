"""A folder that cannot be right is refused in one line, which names the file and the way out."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas_jax.data import loading
from tests.data import pictures
from tests.data.test_folders import load
from tests.images import noise, png
from tests.test_bad_input import damaged, examples, refused


def gone(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def unreadable(path):
    """A link to itself: even an administrator cannot open it."""
    path.unlink()
    path.symlink_to(path.name)


PLAIN = [  # (what is done to a folder of three classes, what the message has)
    (gone, ["there is no folder ", "{root}"]),
    (lambda r: [gone(r / c) for c in pictures.CLASSES], ["{root} has no class folders", "put the"]),
    (lambda r: [gone(r / c) for c in ("cross", "square")], ["only one class, 'circle'"]),
    (lambda r: (r / "star").mkdir(), ["class folder {root}/star is empty", "or remove it"]),
    (lambda r: (r / "cross/more").mkdir(), ["{root}/cross/more is a folder in a class folder"]),
    (lambda r: (r / "cross/a.txt").touch(), ["{root}/cross/a.txt is no image", ".png", "take it"]),
    (lambda r: (r / "a.png").touch(), ["{root}/a.png is in no class folder", "<class>/"]),
    (lambda r: (r / "cross/05.png").write_bytes(b""), ["{root}/cross/05.png: it is no image"]),
    (lambda r: (r / "cross/05.png").write_bytes(b"no"), ["{root}/cross/05.png: ", "or remove it"]),
    (lambda r: cut(r / "cross/05.png"), ["{root}/cross/05.png: ", "truncated", "mend the file"]),
    (
        lambda r: [cut(r / f"cross/0{i}.png") for i in (2, 5, 7)],
        [
            "{root}/cross/02.png: ",
            "remove it; 2 more cannot be read: {root}/cross/05.png, {root}/cross/07.png",
        ],
    ),
    (lambda r: unreadable(r / "cross/05.png"), ["{root}/cross/05.png: ", "mend the file"]),
    (
        lambda r: pictures.save(r / "cross/05.png", noise(1, 8, 1)[0]),
        ["{root}/cross/05.png: 1 x 8 pixels are too few for data.image_size=8", "lower"],
    ),
    (
        lambda r: [gone(r / f"cross/0{i}.png") for i in range(8)],
        ["the class 'cross' has 2 image(s) to be divided into train, valid, test", "add some"],
    ),
    (
        lambda r: pictures.folder(r / "train"),
        ["{root} has train/ with class folders", "circle/"],
    ),
    (lambda r: pictures.folder(r / "test"), ["{root} has test/ with class folders", "circle/"]),
]
DIVIDED = [  # of train/, valid/ and test/ with three classes in each
    (lambda r: gone(r / "train"), ["{root} has test/ but no train/"]),
    (lambda r: (r / "valid").rename(r / "val"), ["{root} has test/", "val/", "valid/"]),
    (lambda r: gone(r / "test/cross"), ["test has no image of the class 'cross'", "leave"]),
    (lambda r: gone(r / "train/cross"), ["train has no image of the class 'cross'", "add some"]),
    (lambda r: (r / "valid/0.png").touch(), ["{root}/valid/0.png is in no class folder"]),
    (lambda r: [gone(r / f"test/{c}") for c in pictures.CLASSES], ["{root} has train/", "test/"]),
    (
        lambda r: shutil.copy(r / "train/cross/01.png", r / "test/cross/x.png"),
        ["{root}/train/cross/01.png (train) and {root}/test/cross/x.png (test) are the same"],
    ),
    (
        lambda r: shutil.copytree(r / "valid", r / "test", dirs_exist_ok=True),
        ["circle/00.png (valid) and ", "(test) are the same image, as 11 more files are", "remove"],
    ),
]
CASES = [*((pictures.folder, *case) for case in PLAIN), *((pictures.divided, *c) for c in DIVIDED)]


def read_all(root, memory_gb):
    """Load and decode all images; a streamed one is decoded when it is read."""
    data = load(root, image_size=8, memory_gb=memory_gb)
    return [data.fixed(split, data.num_images(split)) for split in ("train", "valid", "test")]


@examples(100)
@given(drawn=st.data())
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_file_is_an_image_or_named(tmp_path_factory, suffix, drawn):
    root = pictures.folder(tmp_path_factory.mktemp("damaged"), count=3, suffix=suffix)
    file = root / "cross" / f"01.{suffix}"
    file.write_bytes(damaged(drawn, file.read_bytes()))
    refused(read_all, root, drawn.draw(st.sampled_from([0.0, 4.0])), naming=str(file))


@pytest.mark.parametrize("memory_gb", [4.0, 0.0], ids=["memory", "streamed"])
@pytest.mark.parametrize(("make", "spoil", "fragments"), CASES)
def test_a_folder_that_cannot_be_right_is_refused(tmp_path, make, spoil, fragments, memory_gb):
    root = make(tmp_path / "own")
    spoil(root)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        read_all(root, memory_gb)
    for fragment in fragments:
        assert fragment.format(root=root) in str(error.value)


def test_images_of_two_sizes_need_one_that_is_given(tmp_path):
    pictures.folder(tmp_path)
    pictures.save(tmp_path / "square" / "x.png", noise(1, 9, 8)[0])
    with pytest.raises(ValueError, match=r"data\.image_size=0 .* 8 x 8 .*square/x\.png 8 x 9"):
        load(tmp_path)
    pictures.folder(tmp_path / "other")
    with pytest.raises(ValueError, match=r"more than data\.memory_gb=0, so it is streamed: give"):
        load(tmp_path / "other", memory_gb=0)


@pytest.mark.parametrize(
    ("fractions", "said"),
    [
        ((0.5, 0.5), "three numbers"),
        ((0.5, 0.5, 0.5), "sum to 1"),
        ((1.0, 0.0, 0.0), "above 0"),
        ((0.6, 0.2, float("nan")), "sum to 1"),
    ],
)
def test_fractions_are_checked(tmp_path, fractions, said):
    with pytest.raises(ValueError, match=rf"^data\.fractions=.*{said}.*\(0\.6, 0\.2, 0\.2\)$"):
        load(pictures.folder(tmp_path), fractions=fractions)


def test_a_path_without_its_prefix_is_told_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures.folder(tmp_path / "own")
    np.savez("own.npz", images=noise(6, 4, 4), labels=np.arange(6) % 2)
    for name, whole in (("./own", "folder:./own"), ("./own.npz", "npz:./own.npz")):
        with pytest.raises(ValueError, match=rf"^data\.name='{name}': .*'{whole}'$"):
            loading.load(name)
    for name in ("folder:nowhere", "npz:nowhere.npz"):
        with pytest.raises(ValueError, match=rf"^data\.name='{name}': there is no "):
            loading.load(name)


def test_a_file_that_goes_away_is_named(tmp_path):
    data = load(pictures.folder(tmp_path), image_size=8, memory_gb=0.0)
    os.remove(tmp_path / data.origins[0])
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{data.origins[0]}: No such file"):
        data.fixed("train", 1)


def test_copies_within_a_split_are_taken(tmp_path):
    """And files that only begin alike are no copies."""
    pictures.divided(tmp_path, size=(64, 64))
    first = tmp_path / "train" / "cross" / "00.png"
    shutil.copy(first, tmp_path / "train" / "cross" / "x.png")
    encoded = first.read_bytes()
    assert len(encoded) > 4096
    changed = noise(1, 64, 64, seed=99)
    changed[0, :32] = np.asarray(noise(1, 64, 64)[0, :32])
    (tmp_path / "test" / "cross" / "x.png").write_bytes(png(changed[0]))
    assert load(tmp_path).sizes == (13, 12, 13)


def test_whole_numbers_of_32_bits_that_mean_eight_are_refused(tmp_path):
    """Their high bytes of 16 are zero: black images."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = generator.integers(0, 256, (8, 8)).astype(np.int32)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.tif")
    with pytest.raises(ValueError, match=r"every pixel is 0; .* store them as 8 bits"):
        load(tmp_path, image_size=8)
