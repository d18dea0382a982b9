"""Predictions of exported networks: images as in training, batches, and what cannot be read."""

import contextlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import nas_jax
from nas_jax.data import from_arrays, loading
from nas_jax.data.dataset import Streamed
from nas_jax.exports import forms, inputs, model
from nas_jax.storage import json_files
from tests import launching
from tests.exports import finished

# Of 20 images in each split.
TRAININGS = ("supernet", "retrain__short", "retrain__final")
FEW = {
    "sweep__num_images": 8,
    "sweep__batch_size": 8,
    "retrain__eval_batch_size": 8,
}
FEW |= {f"{name}__train__batch_size": 16 for name in TRAININGS}
FEW |= {f"{name}__train__ghost_batch_size": 2 for name in TRAININGS}


def pictures(folder, random):
    """Images of several sizes and modes: RGB, grey, alpha, 16 bit, turned by EXIF."""
    shape = (24, 32)
    rgb = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
    grey = random.integers(0, 256, (40, 24)).astype(np.uint8)
    alpha = random.integers(0, 256, (16, 16, 4)).astype(np.uint8)
    deep = random.integers(0, 2**16, shape).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(folder / "rgb.png")
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(rgb).save(folder / "turned.jpg", exif=exif)


@pytest.fixture(scope="module")
def own_set(tmp_path_factory):
    """A folder of four classes, of such images."""
    root = tmp_path_factory.mktemp("set")
    for seed, name in enumerate(("ants", "cats", "dogs", "owls")):
        for number, part in enumerate(("train", "valid", "test")):
            (root / part / name).mkdir(parents=True)
            pictures(root / part / name, np.random.default_rng((seed, number)))
    return root


@pytest.mark.parametrize("streamed", [False, True])
def test_files_are_read_as_in_training(streamed, own_set):
    """Pixel by pixel as the data set reads them, in memory and streamed."""
    name = f"folder:{own_set}"
    memory = 1e-9 if streamed else 4.0
    data = loading.load(name, image_size=8, shuffle_seed=-1, memory_gb=memory)
    assert isinstance(data, Streamed) == streamed
    section = {"name": name, "memory_gb": memory, "train": "train[:90%]"}
    assert inputs.of_former(section, data.image_shape, sum(data.sizes)) == data.read_as
    preparation = inputs.Preparation(data.image_shape, data.read_as)
    images, _ = data.fixed("test", data.num_images("test"))
    origins = data.origins_by_split()["test"]
    assert len(origins) == 20
    for origin, image in zip(origins, images):
        np.testing.assert_array_equal(preparation.read(own_set / origin), image)


def test_arrays_are_read_as_in_training():
    random = np.random.default_rng(0)
    for given in (
        random.integers(0, 256, (30, 12, 20, 3)).astype(np.uint8),
        random.random((30, 20, 12, 3)),
        random.integers(0, 256, (30, 20, 12, 4)).astype(np.uint8),
        random.random((30, 12, 12)),
    ):
        data = from_arrays(given, np.arange(30) % 2, image_size=8, shuffle_seed=-1)
        section = {"name": "arrays", "memory_gb": 4.0, "train": "18 images"}
        assert inputs.of_former(section, data.image_shape, 30) == data.read_as
        preparation = inputs.Preparation(data.image_shape, data.read_as)
        np.testing.assert_array_equal(preparation.of_arrays(given)[data.origins], data.images)
        if given.dtype == np.uint8:  # the same as files
            encoded = io.BytesIO()
            Image.fromarray(given[data.origins[0]]).save(encoded, "PNG")
            np.testing.assert_array_equal(preparation.decoded(encoded.getvalue()), data.images[0])


@pytest.mark.parametrize("memory_gb", [0, 4.0])
@pytest.mark.parametrize("new", [True, False])
def test_a_set_given_as_an_object_says_how_it_reads(memory_gb, new, own_set, tmp_path):
    """Files are predicted as those of the training, though the config's section names no set."""
    data = loading.load(f"folder:{own_set}", image_size=8, memory_gb=memory_gb)
    finished.make(tmp_path / "run", {"final": [finished.CELL]}, data=data, **FEW)
    if not new:  # an earlier version's
        there = json_files.read_json(tmp_path / "run/data.json")
        del there["read_as"]
        json_files.write_json(tmp_path / "run/data.json", there)
    path = nas_jax.export(tmp_path / "run", data=data)
    about = json_files.read_json(path / "model.json")
    assert about["preprocessing"]["crop"] == ("centre" if memory_gb == 0 else "square")
    assert about["verification"]["preprocessing"]["num_files"] == 16
    images, _ = data.fixed("test", 10)
    origins = [data.origins[record] for record in data.fixed_records("test", 10)]
    loaded = nas_jax.load(path)
    of_files = loaded.predict([own_set / origin for origin in origins]).probabilities
    np.testing.assert_array_equal(of_files, loaded.predict(images).probabilities)


def test_files_that_would_be_read_otherwise_are_named(own_set, tmp_path):
    data = loading.load(f"folder:{own_set}", image_size=8, memory_gb=0)
    finished.make(tmp_path / "run", {"final": [finished.CELL]}, data=data, **FEW)
    there = json_files.read_json(tmp_path / "run/data.json")
    there["read_as"]["crop"] = "square"
    json_files.write_json(tmp_path / "run/data.json", there)
    message = rf"^.*: predictions would read {own_set}/test/.*\.(png|jpg) otherwise than .*$"
    with pytest.raises(ValueError, match=message):
        nas_jax.export(tmp_path / "run", data=data)


@pytest.mark.parametrize(
    ("data", "read_as"),
    [
        ({"name": "cifar10", "memory_gb": 4.0, "train": "train[:90%]"}, ("none", False, False)),
        *(
            ({"name": name, "memory_gb": 4.0, "train": "train[:90%]"}, ("centre", False, False))
            for name in ("imagenet2012", "imagenet2012:5.1.0")
        ),
        ({"name": "folder:a", "memory_gb": 4.0, "train": "train"}, ("square", True, False)),
        ({"name": "folder:a", "memory_gb": 0, "train": "train"}, ("centre", True, False)),
        ({"name": "digits", "memory_gb": 4.0, "train": "train"}, ("square", True, True)),
        ({"name": "npz:there.npz", "memory_gb": 4.0, "train": "train"}, ("square", True, True)),
    ],
)
def test_each_kind_of_set_has_its_way(data, read_as):
    """Where neither data.json nor the set tells."""
    assert inputs.of_former(data, (8, 8, 3), 100) == read_as


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
    pictures(tmp_path / "below", np.random.default_rng(0))
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed_tensor,
            "params.safetensors was changed since the export (model.json has its digest)",
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


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty: give at least one"),
        (np.zeros((2, 8, 8, 3), np.uint8), "the network takes [N, H, W, 1]"),
        (np.zeros((8, 8), np.int32), "images is int32; it must be uint8, or floats in [0, 1]"),
        (np.full((8, 8), 200.0), "floats must be in [0, 1]: divide 0..255 by 255"),
        (np.zeros((1, 1, 9), np.uint8), "it is 1 x 9 pixels, too few for the network's 8 x 8"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, message, exported):
    with pytest.raises(ValueError, match=re.escape(message)):
        nas_jax.load(exported).predict(images)


def test_without_flatbuffers_the_plain_form_predicts(run, exported, tmp_path, monkeypatch):
    """It is what the StableHLO is made of; an export then has no such file, and says why."""
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    expected = nas_jax.load(exported).predict(images).probabilities
    monkeypatch.setattr(forms, "has_stablehlo", lambda: False)
    folder = nas_jax.export(run, folder=tmp_path / "plain")
    assert not (folder / forms.STABLEHLO).exists()
    about = json.loads((folder / "model.json").read_text())
    assert "nas_jax[export]" in about["not_written"][forms.STABLEHLO]
    assert about["verification"]["verified"]
    for path in (folder, exported):
        got = nas_jax.load(path).predict(images).probabilities
        np.testing.assert_allclose(got, expected, atol=1e-6)
