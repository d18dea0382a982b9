"""What an earlier version wrote is found and goes on: `old/` holds what 95b600f left.

search.tar.gz is a search with tests/configs/tiny.py; study.tar.gz and pool.tar.gz are a study of
one supernet and four networks; ids.json has the names of a pool's folders for some configs;
defaults.json has all fields of a config.
"""

import contextlib
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import config as config_lib
from nas_jax import pipeline
from nas_jax.config import variants
from nas_jax.storage import compatibility, identity, json_files, workdir
from nas_jax.studies import store
from tests import trainings
from tests.configs import tiny, tiny_macro, tiny_study

pytestmark = pytest.mark.system

OLD = Path(__file__).parents[1] / "old"
IDS = json.loads((OLD / "ids.json").read_text())
ARCH = "0,1>sep3x3|0,1,2>sep3x3"


def _unpacked(name, folder):
    with tarfile.open(OLD / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def as_then(config):
    """The config with the former value of every field that an earlier version did not have."""
    config.update_from_flattened_dict(compatibility.ABSENT | _former_defaults())
    return config


def _former_defaults():
    return {name: value for name, (value, _) in compatibility.FORMER_DEFAULTS.items()}


# -- the tables -----------------------------------------------------------------------------------


def test_every_field_that_is_new_or_has_another_default_has_its_former_value():
    then = ConfigDict(json.loads((OLD / "defaults.json").read_text()))
    then = dict(variants.flatten(then))
    now = json.loads(json.dumps(dict(variants.flatten(config_lib.default()))))
    assert not then.keys() - now.keys()
    assert now.keys() - then.keys() == compatibility.ABSENT.keys()
    changed = {name: value for name, value in then.items() if now[name] != value}
    assert changed == _former_defaults()


@pytest.mark.parametrize(
    ("there", "given", "expected"),
    [
        # begun before: what is absent has its former value, a former default stays
        ({"new": None, "old": 100}, {"new": 0, "old": 0}, {"new": -1, "old": 100}),
        # what was given on purpose is not changed, and is then refused
        ({"new": None, "old": 100}, {"new": 3, "old": 5}, {}),
        ({"new": None, "old": 10}, {"new": 0, "old": 10}, {"new": -1}),
        # begun since: what it holds was meant
        ({"new": 0, "old": 100}, {"new": 0, "old": 0}, {}),
        ({"new": -1, "old": 100}, {"new": 0, "old": 0}, {}),
    ],
)
def test_a_run_goes_on_with_the_values_with_which_it_was_begun(monkeypatch, there, given, expected):
    monkeypatch.setattr(compatibility, "ABSENT", {"a.new": -1})
    monkeypatch.setattr(compatibility, "FORMER_DEFAULTS", {"a.old": (100, "a.new")})
    there = {"a": {name: value for name, value in there.items() if value is not None}}
    found = compatibility.former_values({"a": given}, {"a": {"new": 0, "old": 0}}, there)
    assert dict(found) == {f"a.{name}": value for name, value in expected.items()}


# -- what counts as the same run ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({"data": {"data_dir": "/a"}}, {"data": {"data_dir": "/b"}}, None),
        ({"data": {"name": "folder:/a"}}, {"data": {"name": "folder:b"}}, None),
        ({"data": {"name": "npz:/a.npz"}}, {"data": {"name": "npz:b.npz"}}, None),
        ({"data": {"name": "folder:a"}}, {"data": {"name": "npz:a"}}, "data.name is 'folder:' the"),
        ({"data": {"name": "a"}}, {"data": {"name": "b"}}, "data.name is 'a' there and 'b' here"),
        ({"study": {"pool": "a"}}, {"study": {"pool": "b"}}, None),
        ({"table": "/a/t.csv"}, {"table": "t.csv"}, None),
        # what is checked does not matter either
        ({"supernet": {"other_data": False}}, {"supernet": {"other_data": True}}, None),
        ({"table": "t.csv"}, {"table": "other.csv"}, "table is 't.csv' there and 'other.csv' here"),
    ],
)
def test_where_inputs_lie_does_not_matter(tmp_path, there, here, said):
    workdir.open_workdir(tmp_path, there, {"fingerprint": "f0", "table": "d0"})
    how = contextlib.nullcontext() if said is None else pytest.raises(ValueError, match=said)
    with how:
        workdir.open_workdir(tmp_path, here, {"fingerprint": "f0", "table": "d0"})


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({}, {"order": "stored"}, None),  # an earlier version did not say, and there was no other
        ({}, {"order": "shuffled, seed 0"}, "whose images are taken in another order"),
        ({}, {"table": "d0"}, None),
        ({"table": "d0"}, {"table": "d1"}, "that another table judges"),
        ({"table": None}, {"table": None}, None),
    ],
)
def test_other_inputs_are_refused(tmp_path, there, here, said):
    workdir.open_workdir(tmp_path, {}, {"fingerprint": "f0", **there})
    how = contextlib.nullcontext() if said is None else pytest.raises(ValueError, match=said)
    with how:
        workdir.open_workdir(tmp_path, {}, {"fingerprint": "f0", **here})


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ("d0-4x9x1", "d0-4x9x1", None),
        ("d0", "d0-4x9x1", None),  # an earlier version did not say the shape
        ("d0-6x6x1", "d0-4x9x1", "other images"),
        ("d1", "d0-4x9x1", "other images"),
    ],
)
def test_the_fingerprint_of_a_run_that_was_begun_before_has_no_shape(tmp_path, there, here, said):
    workdir.open_workdir(tmp_path, {}, {"fingerprint": there})
    for check in (
        lambda: workdir.open_workdir(tmp_path, {}, {"fingerprint": here}),
        lambda: identity.Identity({}, here).check(tmp_path, {"images": there}),
    ):
        how = contextlib.nullcontext() if said is None else pytest.raises(ValueError, match=said)
        with how:
            check()


MENDED = [
    (("nasbench_macro", "path_dropout", "accuracy"), {"path_dropout"}),
    (("nasbench201", "path_dropout", "accuracy"), {"path_dropout"}),
    (("nasbench201", "fair", "kl"), {"path_dropout"}),
    (("cell", "path_dropout", "trained"), {"trained"}),
    # as before: other samplers, spaces, and searches that train no supernet
    (("nasbench_macro", "fair", "accuracy"), set()),
    (("cell", "path_dropout", "kl"), set()),
    (("nasbench201", "path_dropout", "table"), set()),
    (("nasbench_macro", "path_dropout", "trained"), set()),
]


@pytest.mark.parametrize(("used", "expected"), MENDED)
def test_what_an_earlier_version_did_otherwise_does_not_go_on(tmp_path, used, expected):
    found = compatibility.mended(*used)
    assert found.keys() == expected
    workdir.open_workdir(tmp_path, {}, {"fingerprint": "f0"})  # as an earlier version did
    said = pytest.raises(ValueError, match=r"of an earlier version, which .* use another folder")
    with said if expected else contextlib.nullcontext():
        workdir.open_workdir(tmp_path, {}, {"fingerprint": "f0", **found})
    new = tmp_path / "new"
    for _ in range(2):
        workdir.open_workdir(new, {}, {"fingerprint": "f0", **found})


def test_a_pool_does_not_take_supernets_of_mended_methods_for_todays(tmp_path):
    config = tiny_macro.get_config()
    config.supernet.sampler = "path_dropout"
    found = store.Store(tmp_path, Images())
    parts = json_files.read_json(found.supernet(config) / "config.json")
    assert parts.pop("path_dropout") == "second"
    config.supernet.sampler = "fair"
    assert "path_dropout" not in json_files.read_json(found.supernet(config) / "config.json")


# -- a search -------------------------------------------------------------------------------------


def test_a_search_of_an_earlier_version_goes_on(tmp_path):
    """Its supernet from step 30, its trials from the 17th on, one of its networks from nothing."""
    directory = _unpacked("search", tmp_path)
    kept = {name: (directory / name).read_bytes() for name in ("config.json", "data.json")}
    whole = json_files.read_trials(directory / "trials.jsonl")
    metrics = json_files.read_jsonl(directory / "metrics.jsonl")
    written = directory.glob("retrain/*/F*/*/*/*.json")
    results = {path: json_files.read_json(path) for path in written}
    os.rename(directory / "checkpoints" / "40", tmp_path / "40")
    lines = (directory / "trials.jsonl").read_text().splitlines(keepends=True)
    (directory / "trials.jsonl").write_text("".join(lines[:16]))
    lost = min(results)
    lost.unlink()

    pipeline.run(tiny.get_config(), "search", directory)

    assert {name: (directory / name).read_bytes() for name in kept} == kept
    again = json_files.read_trials(directory / "trials.jsonl")
    assert [row["arch"] for row in again] == [row["arch"] for row in whole]
    assert again[:16] == whole[:16]
    # As good as equal: the rest was scored by another processor, perhaps, and by eight devices.
    values = [[row["value"] for row in rows] for rows in (whole, again)]
    np.testing.assert_allclose(*values, atol=0.05)
    losses = [
        [row["loss"] for row in rows]
        for rows in (metrics, json_files.read_jsonl(directory / "metrics.jsonl"))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert {path: json_files.read_json(path)["arch"] for path in results} == {
        path: row["arch"] for path, row in results.items()
    }
    untouched = [path for path in results if path != lost]
    assert [json_files.read_json(path) for path in untouched] == [results[p] for p in untouched]


def test_another_value_of_a_new_field_is_refused(tmp_path):
    directory = _unpacked("search", tmp_path)
    config = tiny.get_config()
    config.data.shuffle_seed = 3
    with pytest.raises(ValueError, match=r"data\.shuffle_seed is -1 there and 3 here"):
        pipeline.run(config, "report", directory)


# -- a pool ---------------------------------------------------------------------------------------


class Images:
    """Stands for data: of it a pool's names need no more."""

    fingerprint, order = "x", "stored"


def _ids(config, directory):
    """The names of a pool's folders and files."""
    found = store.Store(directory, Images())
    kl = variants.changed(config, "", [("sweep.score", "kl")])
    networks = {
        protocol: next(iter(found.networks(config, protocol, {"top": [ARCH]}, "each")))
        .parents[2]
        .name
        for protocol in ("short", "final")
    }
    return {
        "supernet": found.supernet(config).name,
        "scores": found.evaluations_file(config).stem,
        "scores at 20": found.evaluations_file(config, 20).stem,
        "kl": found.evaluations_file(kl).stem,
        "search": found.search_folder(config).name,
        "widths": found._widths_folder(config, ARCH, 4, 0).parents[2].name,
        "networks": networks,
    }


def _case(name):
    fields = [(field, value) for field, value in IDS[name]["fields"]]
    return variants.changed(tiny.get_config(), name, fields)


@pytest.mark.parametrize("name", sorted(IDS.keys() - {"pbt"}))  # a training variant now
def test_folders_of_a_pool_keep_their_names(tmp_path, name):
    config = as_then(_case(name))
    assert _ids(config, tmp_path) == IDS[name]["ids"]


@pytest.mark.parametrize("name", ["tiny", "enas"])
def test_the_order_of_images_is_part_of_the_id_of_scores_and_of_what_they_decide(tmp_path, name):
    config = as_then(_case(name))
    config.data.shuffle_seed = 0
    then, now = IDS[name]["ids"], _ids(config, tmp_path)
    differing = {field for field in then if now[field] != then[field]}
    scores = {"scores", "scores at 20", "kl", "search"}
    assert differing == scores | ({"supernet"} if name == "enas" else set())


def test_folders_are_found_wherever_the_data_set_lies_now(tmp_path):
    """Also those whose id has the place in it."""
    config = as_then(_case("tiny"))
    found = store.Store(tmp_path, Images())
    before = found.supernet(config)
    parts = json_files.read_json(before / "config.json")
    parts["data"]["data_dir"] = "/somewhere"
    json_files.write_json(before / "config.json", parts)
    before.rename(before.with_name("a-former-id"))
    config.data.data_dir = "/elsewhere"
    assert found.supernet(config).name == "a-former-id"
    config.data.image_size = 16
    (tmp_path / "supernets" / "damaged").mkdir()
    (tmp_path / "supernets" / "damaged" / "config.json").write_text("{bad")
    assert found.supernet(config).name != "a-former-id"


def test_a_study_finds_what_an_earlier_version_trained(tmp_path, monkeypatch):
    """Nothing is trained or scored again; in today's order of images only scores are new."""
    study, folder = _unpacked("study", tmp_path), _unpacked("pool", tmp_path)
    before = _contents(folder)
    report = (study / "report" / "report.md").read_text()
    monkeypatch.chdir(tmp_path)
    config = tiny_study.get_config()
    config.study.pool = "pool"
    config.study.parts, config.study.variants = ("supernets",), (("ramp",),)
    config.retrain.short.groups.random = config.retrain.short.groups.stratified = 2
    config.supernet.train.keep_checkpoints = config.retrain.short.train.keep_checkpoints = 1

    pipeline.run(config, "study", study)
    assert _contents(folder) == before
    assert _rows((study / "report" / "report.md").read_text()) == _rows(report)

    found = store.Store(folder, trainings.build(config)[2])
    found.train_supernets({"ramp": config})
    selection = json_files.read_json(study / "selection_short.json")
    networks = found.train_networks(config, "short", selection, "each")
    assert len(networks) == 4
    assert _contents(folder) == before
    found.evaluate(config, selection["random"])
    now = _contents(folder)
    assert {path: now[path] for path in before} == before
    (scores,) = now.keys() - before.keys()
    assert scores.parent.name == "scores"


def _contents(folder):
    """What each file of a pool holds, but for those of a process."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in (".claim", "versions.json")]
    return {path: path.read_bytes() for path in files}


def _rows(report):
    """The rows of its table of supernets."""
    return [line for line in report.splitlines() if line.startswith("| ramp |")]
