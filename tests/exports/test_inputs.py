"""Images of predictions are read as those of the training."""

import io

import numpy as np
import pytest
from PIL import Image

import nas_jax
from nas_jax.data import from_arrays, loading
from nas_jax.data.dataset import Streamed
from nas_jax.exports import inputs
from nas_jax.storage import json_files
from tests.exports import finished

pytestmark = pytest.mark.system

# Of 20 images in each split.
TRAININGS = ("supernet", "retrain__short", "retrain__final")
FEW = {
    "sweep__num_images": 8,
    "sweep__batch_size": 8,
    "retrain__eval_batch_size": 8,
}
FEW |= {f"{name}__train__batch_size": 16 for name in TRAININGS}
FEW |= {f"{name}__train__ghost_batch_size": 2 for name in TRAININGS}


@pytest.fixture(scope="module")
def own_set(tmp_path_factory):
    """A folder of four classes, of such images."""
    root = tmp_path_factory.mktemp("set")
    for seed, name in enumerate(("ants", "cats", "dogs", "owls")):
        for number, part in enumerate(("train", "valid", "test")):
            (root / part / name).mkdir(parents=True)
            finished.pictures(root / part / name, np.random.default_rng((seed, number)))
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
        opened = Image.open(own_set / origin)
        np.testing.assert_array_equal(preparation.of_pillow(opened), image)


def test_arrays_are_read_as_in_training():
    random = np.random.default_rng(0)
    for given in (
        random.integers(0, 256, (30, 12, 20, 3)).astype(np.uint8),
        random.random((30, 20, 12, 3)),
        random.integers(0, 256, (30, 20, 12, 4)).astype(np.uint8),
        random.random((30, 20, 20)),
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
