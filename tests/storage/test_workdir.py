"""The folder of a run: nothing of another run is overwritten."""

import math

import jax
import pytest

from nas_jax.storage import json_files, workdir

CONFIG = {"seed": 0, "train": {"base_lr": 0.1, "filters": (16, 32)}, "l2": math.nan}


def test_a_workdir_is_opened_again_by_its_own_config(tmp_path):
    for _ in range(2):  # a tuple and NaN come back as a list and null, and are no difference
        workdir.open_workdir(tmp_path / "run", CONFIG, {"fingerprint": "f0"})
    expected = {"seed": 0, "train": {"base_lr": 0.1, "filters": [16, 32]}, "l2": None}
    assert json_files.read_json(tmp_path / "run" / "config.json") == expected
    versions = json_files.read_json(tmp_path / "run" / "versions.json")
    assert versions["jax"] == jax.__version__
    assert {"python", "nas_jax", "flax", "optax"} <= versions.keys()


def test_a_workdir_of_another_config_is_refused_and_kept(tmp_path):
    run = tmp_path / "run"
    workdir.open_workdir(run, CONFIG, {"fingerprint": "f0"})
    before = (run / "config.json").read_bytes()
    (tmp_path / "run-2").mkdir()
    other = {**CONFIG, "seed": 7, "train": {"base_lr": 0.2, "filters": (16, 32)}}
    message = (
        rf"--workdir={run} .*: seed is 0 there and 7 here; train\.base_lr is 0\.1 there and 0\.2 "
        rf"here\..* --workdir={tmp_path / 'run-3'}$"
    )
    with pytest.raises(ValueError, match=message):
        workdir.open_workdir(run, other, {"fingerprint": "f0"})
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c is 1 there and 2 here"]),
        ({"a": 1}, {"b": 1}, ["a is 1 there and 'absent' here", "b is 'absent' there and 1 here"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a is {'b': 1} there and 1 here"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a is [1, 2] there and [1, 3] here"]),
    ],
)
def test_differences_name_nested_fields(old, new, expected):
    assert list(workdir.differences(old, new)) == expected


def test_status_says_what_is_known(tmp_path):
    workdir.set_status(tmp_path, "running", stage="sweep")
    workdir.set_status(tmp_path, "diverged", stage="supernet", error="the loss is nan")
    expected = {"status": "diverged", "stage": "supernet", "error": "the loss is nan"}
    assert json_files.read_json(tmp_path / "status.json") == expected
