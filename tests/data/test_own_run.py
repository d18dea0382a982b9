"""Whole searches on images of one's own, and what their workdirs say of them."""

import shutil

import numpy as np
import pytest

from nas_jax import config as config_lib
from nas_jax import pipeline
from nas_jax.data import loading
from nas_jax.storage import json_files
from tests import launching, trainings
from tests.configs import tiny
from tests.data import pictures
from tests.images import noise

pytestmark = pytest.mark.system


def short(name, **fields):
    """The tiny config on a set of that name, with a supernet of two steps and one network."""
    config = tiny.get_config()
    config_lib.retrain_nothing(config)
    with config.unlocked():
        config.update_from_flattened_dict(trainings.SMALL)
        config.data.name = name
        config.supernet.train.num_steps = config.retrain.final.train.num_steps = 2
        for train in (
            config.supernet.train,
            config.retrain.short.train,
            config.retrain.final.train,
        ):
            train.update(batch_size=16, ghost_batch_size=2)
        config.sweep.num_candidates = 8
        config.retrain.final.groups.top = 1
        config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize("memory_gb", [4.0, 0.0], ids=["memory", "streamed"])
def test_a_search_on_a_folder_of_three_classes(tmp_path, monkeypatch, memory_gb):
    """To its report; it goes on from another place, but not on other images."""
    monkeypatch.chdir(tmp_path)
    pictures.folder(tmp_path / "own", count=20, size=(10, 12))
    config, run = short("folder:own", **{"data.memory_gb": memory_gb}), tmp_path / "run"
    pipeline.run(config, "search", run)
    assert "circle" in (run / "splits.json").read_text()
    assert (run / "report" / "report.md").exists()

    listed = json_files.read_json(run / "splits.json")
    assert {split: len(files) for split, files in listed.items()} == {
        "train": 36,
        "valid": 12,
        "test": 12,
    }
    assert len({file for files in listed.values() for file in files}) == 60
    written = json_files.read_json(run / "data.json")
    data = loading.load("folder:own", image_size=8, memory_gb=memory_gb)
    assert written["fingerprint"] == data.fingerprint
    assert written["class_names"] == list(pictures.CLASSES)
    assert written["sizes"] == {"train": 36, "valid": 12, "test": 12}
    assert (written["mean"], written["std"]) == (list(data.mean), list(data.std))
    assert written["image_shape"] == [8, 8, 3]
    kept = json_files.read_json(run / "config.json")["sweep"]
    assert (kept["num_images"], kept["batch_size"]) == (12, 12)  # there are no more

    trials = (run / "trials.jsonl").read_bytes()
    shutil.move("own", "moved")
    pipeline.run(short("folder:moved", **{"data.memory_gb": memory_gb}), "search", run)
    assert (run / "trials.jsonl").read_bytes() == trials
    first = tmp_path / "moved" / listed["train"][0]
    pictures.save(first, noise(1, 12, 10, seed=77)[0])
    with pytest.raises(ValueError, match="on other images: the data set has changed since"):
        pipeline.run(short("folder:moved", **{"data.memory_gb": memory_gb}), "search", run)


def test_a_workdir_that_says_less_of_its_images_goes_on(tmp_path):
    """As those of earlier versions: data.json stays as it is, and splits.json is not missed."""
    pictures.folder(tmp_path / "own", count=20)
    config, run = short(f"folder:{tmp_path}/own"), tmp_path / "run"
    pipeline.run(config, "supernet", run)
    whole = json_files.read_json(run / "data.json")
    less = {name: whole[name] for name in ("fingerprint", "order", "table")}
    json_files.write_json(run / "data.json", less)
    pipeline.run(config, "supernet", run)
    assert json_files.read_json(run / "data.json") == less


@pytest.mark.parametrize(("size", "channels"), [(24, 1), (28, 1)])
def test_seven_classes_of_odd_sizes_in_a_file(tmp_path, size, channels):
    labels = np.arange(140) % 7
    images = noise(140, size, size, channels)
    images[..., 0] //= 2
    np.savez(tmp_path / "own.npz", images=images, labels=labels, class_names=list("abcdefg"))
    config = short(f"npz:{tmp_path}/own.npz", **{"data.image_size": 0})
    pipeline.run(config, "search", tmp_path / "run")
    written = json_files.read_json(tmp_path / "run" / "data.json")
    assert written["image_shape"] == [size, size, channels]
    listed = json_files.read_json(tmp_path / "run" / "splits.json")
    assert sorted(number for part in listed.values() for number in part) == list(range(140))


def test_the_command_names_a_bad_file_and_ends_with_2(tmp_path):
    pictures.folder(tmp_path / "own")
    (tmp_path / "own" / "cross" / "03.png").write_bytes(b"no image")
    code, errors = launching.main(
        "--config=configs/digits.py",
        f"--config.data.name=folder:{tmp_path}/own",
        f"--workdir={tmp_path}/run",
    )
    assert code == 2
    assert f"error: {tmp_path}/own/cross/03.png: it is no image" in errors
    assert not (tmp_path / "run").exists()
