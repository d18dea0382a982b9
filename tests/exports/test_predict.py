"""Predictions of exported networks: images as in training, batches, and what cannot be read."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import launch
import nas_jax
from nas_jax.exports import forms, model
from nas_jax.storage import json_files
from tests import launching
from tests.exports import finished

pytestmark = pytest.mark.system


def test_predictions_are_those_of_the_network(run, exported):
    """Of 130 images, which fill two batches and a bit; in the order given."""
    images, wanted = finished.logits_of(run, exported.name, 128)
    images, wanted = np.concatenate([images, images[:2]]), np.concatenate([wanted, wanted[:2]])
    found = nas_jax.load(exported).predict(images)
    exponentials = np.exp(wanted - wanted.max(-1, keepdims=True))
    expected = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.classes == [str(label) for label in wanted.argmax(-1)]
    listed = nas_jax.load(exported).predict([images[0], images[1, ..., 0], images[2:5] / 255])
    np.testing.assert_array_equal(listed.probabilities, found.probabilities[:5])


def test_a_line_for_each_image(exported, tmp_path):
    """Files and folders, in order; of a class whose probability is the softmax's."""
    (tmp_path / "below").mkdir()
    finished.pictures(tmp_path / "below", np.random.default_rng(0))
    Image.new("L", (8, 8), 200).save(tmp_path / "first.png")
    (tmp_path / "below" / "notes.txt").write_text("no image")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        given = tmp_path / "first.png", tmp_path / "below"
        ended = launching.main("--mode=predict", f"--model={exported}", *given)
    assert ended == (0, "")
    lines = [json.loads(line) for line in printed.getvalue().splitlines()]
    names = ["alpha.png", "deep.png", "grey.png", "rgb.png", "turned.jpg"]
    paths = [tmp_path / "first.png", *(tmp_path / "below" / name for name in names)]
    assert [line["image"] for line in lines] == [str(path) for path in paths]
    found = model.load(exported).predict(paths)
    for line, name, probabilities in zip(lines, *found):
        assert line["class"] == next(iter(line["top"])) == name
        assert line["probability"] == pytest.approx(probabilities.max(), abs=1e-6)
        assert len(line["top"]) == 5
        assert sum(line["top"].values()) <= 1


@pytest.mark.parametrize(
    "mode", ["P", "L", "RGB", "RGBA", "1", "CMYK", "YCbCr", "I;16", "PA", "HSV"]
)
def test_a_pillow_image_is_what_its_file_is(mode, exported, tmp_path):
    """Colours of a palette are looked up; the size is brought to the network's."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(256 * pixels[..., 0].astype(np.uint16) + 7)
    else:
        image = Image.fromarray(pixels).convert("P" if mode == "PA" else mode).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    in_file = {"PA": "RGBA", "HSV": "RGB"}.get(mode)  # of which there is no such file
    (image.convert(in_file) if in_file else image).save(tmp_path / f"a.{suffix}")
    loaded = nas_jax.load(exported)
    of_file = loaded.predict(tmp_path / f"a.{suffix}").probabilities
    np.testing.assert_array_equal(loaded.predict(image).probabilities, of_file)
    both = [image, Image.open(tmp_path / f"a.{suffix}")]
    np.testing.assert_array_equal(loaded.predict(both).probabilities, of_file[[0, 0]])


def test_a_pillow_image_that_cannot_be_converted_is_refused(exported, tmp_path):
    loaded = nas_jax.load(exported)
    for image, reason in (
        (Image.new("LAB", (8, 8)), "mode LAB: "),
        (Image.fromarray(np.full((8, 8), 0.5, np.float32)), "mode F: its pixels are from 0.5 to"),
        (Image.new("L", (1, 9)), "mode L: it is 9 x 1 pixels, too few for the network's 8 x 8"),
    ):
        with pytest.raises(ValueError, match=f"^images: the Pillow image of {reason}"):
            loaded.predict(image)


def test_an_image_that_becomes_black_is_warned_of(exported, tmp_path, caplog):
    """8 bits that are stored as 16 leave nothing in the high byte; a black image is one."""
    shape = (8, 8)
    for name, value in (("dark", 255), ("black", 0), ("grey", 256)):
        Image.fromarray(np.full(shape, value, np.uint16)).save(tmp_path / f"{name}.png")
    loaded = nas_jax.load(exported)
    loaded.predict([tmp_path / f"{name}.png" for name in ("dark", "black", "grey")])
    loaded.predict(Image.open(tmp_path / "dark.png"))
    of_file, of_image = [record.message for record in caplog.records]
    assert of_file.startswith(f"{tmp_path}/dark.png: the network sees black: no pixel is above 255")
    assert of_image.startswith("images: the Pillow image of mode I;16: the network sees black")


def test_only_images_that_can_be_seen_are_taken_from_a_folder(exported, tmp_path, caplog):
    """No folder that is called like one, nor what lies in a hidden folder."""
    caplog.set_level("INFO", "nas_jax")
    for name in ("a.png", ".b.png", ".trash/c.png", "x.png/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 200).save(tmp_path / name)
    loaded = nas_jax.load(exported)
    (tmp_path / "e.gif").touch()
    wanted = [tmp_path / "a.png", tmp_path / "x.png/d.png"]
    for given in ([tmp_path], tmp_path, str(tmp_path)):
        assert [path for path, _ in loaded.predict_files(given)] == wanted
        assert caplog.records[-1].message.startswith(f"{tmp_path}: 1 of 3 files are no .png .jpg ")
    with pytest.raises(ValueError, match=r" is a folder: predict_files\(\['.*'\]\) yields each"):
        loaded.predict(tmp_path)


def test_a_reader_of_lines_may_stop(exported, tmp_path):
    """As `head -1` does, after more lines than a pipe holds."""
    Image.new("L", (8, 8), 200).save(tmp_path / "a.png")
    root = Path(launch.__file__).parent
    command = [sys.executable, root / "launch.py", "--mode=predict", f"--model={exported}"]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": root}
    with subprocess.Popen([*command, *[tmp_path / "a.png"] * 2000], **given) as process:
        assert json.loads(process.stdout.readline())["image"] == str(tmp_path / "a.png")
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


# -- bad input ------------------------------------------------------------------------------------


def text(path):
    path.write_text("no image")


def cut(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def tiny(path):
    Image.new("L", (1, 9)).save(path)


def floats(path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(path.with_suffix(".tif"))
    path.with_suffix(".tif").rename(path)


def folder_without_images(path):
    path.mkdir()


def nothing(path):
    """Make no file."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "8 bytes are no image that Pillow knows"),
        (cut, ""),
        (tiny, "it is 9 x 1 pixels, too few for the network's 8 x 8, as an image may grow by 4"),
        (floats, "its pixels are from 0.5 to 0.5; they must be whole numbers"),
        (folder_without_images, "the folder has no image (.png"),
        (nothing, "there is no such file or folder"),
    ],
)
def test_a_bad_image_is_named_in_a_line(make, message, exported, tmp_path):
    path = tmp_path / "bad.png"
    make(path)
    code, errors = launching.main("--mode=predict", f"--model={exported}", path)
    (line,) = [line for line in errors.splitlines() if "error: " in line]
    assert code == 2
    assert f"{path}: " in line
    assert message in line


def changed_tensor(folder):
    """Change the last byte of the arrays: the file is as long, and still sound."""
    path = folder / forms.PARAMS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def changed_program(folder):
    path = folder / forms.STABLEHLO
    path.write_bytes(path.read_bytes() + b" ")


def without_program(folder):
    (folder / forms.STABLEHLO).unlink()


def without_json(folder):
    (folder / "model.json").unlink()


def json_cut(folder):
    path = folder / "model.json"
    path.write_text(path.read_text()[:100])


def json_without_classes(folder):
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"class_names"', '"names"'))


def classes_turned(folder):
    path = folder / "model.json"
    names = json.loads(path.read_text())["class_names"]
    json_files.write_json(path, {**json.loads(path.read_text()), "class_names": names[::-1]})


def a_class_less(folder):
    path = folder / "model.json"
    names = json.loads(path.read_text())["class_names"]
    json_files.write_json(path, {**json.loads(path.read_text()), "class_names": names[1:]})


def without_files(folder):
    path = folder / "model.json"
    json_files.write_json(path, {**json.loads(path.read_text()), "files": {}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (change, "model.json was changed since the export: export the network anew")
            for change in (classes_turned, a_class_less, without_files)
        ),
        (
            changed_tensor,
            "params.safetensors was changed since the export: export the network anew",
        ),
        (changed_program, "model.stablehlo was changed since the export"),
        (without_program, "model.stablehlo is missing: export the network anew"),
        (without_json, "is no exported network: there is no "),
        (json_cut, "model.json is not JSON"),
        (json_without_classes, "model.json is damaged: class_names is absent"),
    ],
)
def test_an_edited_folder_is_refused(change, message, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(ValueError, match=f"^.*{re.escape(message)}.*$"):  # in one line
        nas_jax.load(tmp_path / "copy")


@pytest.mark.parametrize("images", [None, 3])
def test_files_to_predict_are_paths(images, exported):
    with pytest.raises(ValueError, match=f"^images={images} must be a path, or a list of paths$"):
        list(nas_jax.load(exported).predict_files(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty: give at least one"),
        (np.zeros((2, 8, 8, 3), np.uint8), "the network takes [N, H, W, 1]"),
        (None, "images=None is neither the path of an image, nor an array, nor a list of these"),
        ((image for image in ()), "is neither the path of an image, nor an array, nor a list"),
        ([None], "images=None is neither"),
        ([[[1, 2], [3]]], "images=[[1, 2], [3]] is no array: its items have different sizes"),
        (np.zeros((8, 8, 3), np.uint8), "The network takes grey images: give [H, W], or several"),
        (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4): an image of 4 channels, or grey images of"),
        (np.zeros((8, 8), np.int64), "images is int64; it must be uint8, or floats in [0, 1]"),
        (np.zeros((8, 8), np.int32), "images is int32; it must be uint8, or floats in [0, 1]"),
        (np.full((8, 8), 200.0), "floats must be in [0, 1]: divide 0..255 by 255"),
        (np.zeros((8, 8, 2), np.uint8), "(8, 8, 2): an image of 2 channels, or grey images of"),
        (np.zeros((9, 9, 9), np.uint8), "The network takes grey images: give [H, W], or several"),
        (np.zeros((16, 12, 16), np.uint8), "an image of 16 channels, or grey images of that wid"),
        (np.zeros((1, 1, 9, 1), np.uint8), "it is 1 x 9 pixels, too few for the network's 8 x 8"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, message, exported):
    with pytest.raises(ValueError, match=re.escape(message)):
        nas_jax.load(exported).predict(images)


def test_without_flatbuffers_there_is_no_program_and_a_line_says_why(
    run, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr(forms, "has_stablehlo", lambda: False)
    folder = nas_jax.export(run, folder=tmp_path / "plain")
    assert not (folder / forms.STABLEHLO).exists()
    about = json.loads((folder / "model.json").read_text())
    assert "nas_jax[export]" in about["not_written"][forms.STABLEHLO]
    assert about["verification"]["verified"]
    images = np.zeros((3, 8, 8, 1), np.uint8)
    for path in (folder, exported):  # model.py beside it is not run: it may be anybody's
        with pytest.raises(ValueError, match=r"pip install 'nas_jax\[export\]'"):
            nas_jax.load(path).predict(images)
