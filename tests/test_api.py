"""Searches from Python: with objects, in threads, twice in a process, and what they return."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ml_collections import ConfigDict

import nas_jax
from nas_jax import api, spaces
from nas_jax.data.dataset import InMemory
from nas_jax.report import webpage
from nas_jax.report.architecture import Architecture
from nas_jax.spaces.cell import CellSpace
from tests import launching
from tests.configs import tiny

# Two blocks of two ops on one cell: a small program.
SMALL = {
    "space.num_cells": 1,
    "supernet.train.num_steps": 10,
    "sweep.num_candidates": 16,
    "retrain.short.groups.random": 0,
    "retrain.short.groups.stratified": 0,
}
TINY = "tests/configs/tiny.py"


@dataclasses.dataclass(frozen=True)
class MySpace(CellSpace):
    """A space that no registry has."""

    num_cells: int = 1
    num_blocks: int = 1
    ops: tuple = ("identity", "maxpool")


def my_data():
    """Eight by eight pixels of four classes; sizes fit the tiny config."""
    generator = np.random.default_rng(0)
    sizes = (512, 128, 128)
    labels = np.arange(sum(sizes), dtype=np.int32) % 4
    images = generator.integers(0, 60, (sum(sizes), 8, 8, 1)).astype(np.uint8)
    images[np.arange(len(images)), labels] += 150  # a bright row each
    mean, std = (0.2,), (0.25,)
    classes = ("a", "b", "c", "d")
    return InMemory("rows", classes, (8, 8, 1), mean, std, sizes, 0, images, labels)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of a search with objects, whose stages ran one after the other."""
    workdir, objects = tmp_path_factory.mktemp("api") / "run", (MySpace(), my_data())
    for stage in (api.train_supernet, api.sweep, api.retrain):
        stage(TINY, *objects, workdir, fields=SMALL_OF_MINE)
    return nas_jax.search(TINY, *objects, workdir, fields=SMALL_OF_MINE)


SMALL_OF_MINE = {name: value for name, value in SMALL.items() if not name.startswith("space.")}


def test_results_have_what_the_files_have(found):
    rows = [json.loads(line) for line in (found.workdir / "trials.jsonl").read_text().splitlines()]
    assert found.trials == rows
    assert len(rows) == 16
    most = max(row["value"] for row in rows)
    assert str(found.best) in [row["arch"] for row in rows if row["value"] == most]
    values = {row["arch"]: row["value"] for row in rows}
    ranked = [values[str(arch)] for arch in found.ranked]
    assert ranked == sorted(ranked, reverse=True)
    (network,) = found.networks
    assert network["protocol"] == "final"
    assert (network["path"] / "result.json").is_file()
    assert {"report", "log", "config", "trials", "checkpoints"} <= {*found.paths}
    assert ("page" in found.paths) == (not webpage.missing())
    assert all(path.exists() for path in found.paths.values())


def test_the_run_is_of_its_objects(found):
    """config.json names class and fields; the same call goes on, another space or data does not."""
    config = json.loads((found.workdir / "config.json").read_text())
    assert config["space"]["name"] == f"{MySpace.__module__}:MySpace"
    assert config["space"]["ops"] == ["identity", "maxpool"]
    assert (config["data"]["name"], config["data"]["train"]) == ("rows", "512 images")
    before = (found.workdir / "trials.jsonl").read_bytes()
    nas_jax.sweep(TINY, MySpace(), my_data(), found.workdir, fields=SMALL_OF_MINE)
    assert (found.workdir / "trials.jsonl").read_bytes() == before
    for objects, message in (
        ((MySpace(ops=("identity", "avgpool")), my_data()), "space.ops is "),
        ((MySpace(), None), "data.name is 'rows' there and 'digits' here"),
    ):
        with pytest.raises(ValueError, match=message):
            nas_jax.sweep(TINY, *objects, found.workdir, fields=SMALL_OF_MINE)
    changed = my_data()
    changed.images[0] = 0
    with pytest.raises(ValueError, match="on other images"):
        nas_jax.sweep(TINY, MySpace(), changed, found.workdir, fields=SMALL_OF_MINE)


def test_the_command_does_not_go_on_with_a_run_of_objects(found):
    code, errors = launching.main(f"--config={TINY}", f"--workdir={found.workdir}")
    assert code == 2
    assert "holds a run of another config" in errors


def test_a_report_of_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"^--workdir={tmp_path}/typo holds no run: there is no"):
        nas_jax.write_report(TINY, workdir=tmp_path / "typo")
    assert not list(tmp_path.iterdir())


def test_a_space_of_the_package_is_named_as_the_command_names_it(tmp_path, monkeypatch):
    """So a run with such an object goes on by the command."""
    space = spaces.make("cell", num_cells=1, num_blocks=2, ops=("identity", "sep3x3", "maxpool"))
    fields = {**SMALL, "sweep.num_candidates": 8}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    given.append("--config.space.cells_per_stage=2")
    monkeypatch.setitem(nas_jax.pipeline.STAGES, "supernet", lambda _: None)
    nas_jax.train_supernet(TINY, space, workdir=tmp_path, fields=SMALL_OF_MINE | {"seed": 3})
    (tmp_path / "trials.jsonl").write_text("{}\n" * 16)
    code, errors = launching.main(
        *(f"--config={TINY}", "--mode=report", f"--workdir={tmp_path}", "--config.seed=3", *given)
    )
    assert code == 2  # for the number of candidates alone
    assert "sweep.num_candidates is 16 there and 8 here. Keep" in errors
    assert nas_jax.read(tmp_path).space == space


def test_two_threads_and_a_second_call_in_one_process(tmp_path):
    """Equal to the bit, and each log has its own run alone."""

    def run(name):
        found = nas_jax.train_supernet(tiny.get_config(), None, None, tmp_path / name, fields=SMALL)
        return (found.workdir / "metrics.jsonl").read_text().splitlines()

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(run, ("a", "b"))
    third = run("c")

    def losses(lines):
        return [json.loads(line)["loss"] for line in lines]

    assert losses(first) == losses(second) == losses(third)
    for name in ("a", "b", "c"):
        log = (tmp_path / name / "log.txt").read_text()
        assert log.count("step 10/10") == 1
        assert f"workdir {tmp_path / name}\n" in log


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        ("digitz", {}, "--config='digitz' is none of .*; nearest: 'digits'"),
        ("digits", {"sed": 1}, "config.sed is no field; nearest: config.seed"),
        ("digits", {"seed": "one"}, "config.seed cannot be 'one'"),
        ({"data": {"nam": "digits"}}, {}, "config.data.nam is no field; nearest: config.data.name"),
        ("digits", {"seed": -1}, "config.seed=-1 must be 0 or more"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, config, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        nas_jax.search(config, workdir=tmp_path / "run", fields=fields)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {}}, "workdir is missing"),
        ({"config": "digits", "space": "cell", "workdir": "x"}, "space='cell' must be a .*Space"),
        (
            {"config": "studies/final", "space": MySpace(), "workdir": "x"},
            "a study makes the space",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nas_jax.search(**arguments)


def test_configs_are_given_in_four_ways():
    """A name, a file, a ConfigDict (which stays as it was), and fields that differ."""
    named = api.as_config("digits", {"seed": 4})
    assert named.seed == 4
    given = tiny.get_config()
    assert api.as_config(given, {"supernet.filters": 8}).supernet.filters == 8
    assert given.supernet.filters == 4
    assert api.as_config(TINY).to_dict() == given.to_dict()
    assert api.as_config({"data": {"name": "digits"}, "sweep.seed": 2}).data.name == "digits"
    assert isinstance(named, ConfigDict)


def test_a_check_returns_its_text(tmp_path):
    shown = nas_jax.check(TINY, workdir=tmp_path / "run", fields=SMALL)
    for name in ("report.md", *([] if webpage.missing() else [webpage.NAME])):
        assert str(tmp_path / "run" / "report" / name) in shown
    assert "  sweep          16 candidates of random_search" in shown
    assert not (tmp_path / "run").exists()
    shown = nas_jax.check("tests/configs/tiny_study.py", workdir=tmp_path / "run")
    assert "  study          supernets, ranking, divergence, final, removal, store" in shown
    (tmp_path / "config.json").write_text('{"seed": 5}')
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="holds a run of another config"):
        nas_jax.check(TINY, workdir=tmp_path, fields=SMALL)


# -- an architecture ------------------------------------------------------------------------------


def test_an_architecture_draws_itself():
    space = spaces.make("cell", num_blocks=2, ops=("identity", "sep3x3"))
    arch = Architecture(space, "0,1>sep3x3|2>identity,sep3x3")
    assert repr(arch) == (
        "0,1>sep3x3|2>identity,sep3x3\n"
        "  block 0: sep3x3 of previous cell + cell before\n"
        "  block 1: identity + sep3x3 of block 0"
    ).replace("previous cell + cell before", " + ".join(space.graph(arch.text)["inputs"]))
    shown = arch._repr_html_()
    assert shown.startswith("<div><code>0,1&gt;sep3x3|2&gt;identity,sep3x3</code>")
    assert 'src="data:image/png;base64,iVBOR' in shown
    assert len(arch.id) == 12
    assert space.to_str(arch.masks) == str(arch)


def test_one_of_a_space_without_a_drawing_lists_its_choices():
    space = spaces.make("nasbench_macro", stages=(1, 2))
    text = space.to_str(space.from_decisions(np.zeros(3, np.int32)))
    arch = Architecture(space, text)
    names = [space.option_names(choice)[0] for choice in space.choices]
    assert [line.partition(": ")[2] for line in repr(arch).splitlines()[1:]] == names
    assert names[0] in arch._repr_html_()
    with pytest.raises(ValueError, match="architecture '9'"):
        Architecture(space, "9")


def test_trials_as_a_frame(found):
    """Where pandas is; else a line says so."""
    try:
        import pandas
    except ImportError:
        with pytest.raises(ValueError, match="pip install pandas, or use Results"):
            found.frame()
    else:
        assert isinstance(found.frame(), pandas.DataFrame)
    assert repr(found).startswith(f"{found.workdir}: 16 trials, 1 networks alone\nbest: ")
    assert "<img" in found._repr_html_()


def test_the_first_use_of_a_function_sets_jax_up():
    code = """
import inspect, sys, nas_jax
assert "jax" not in sys.modules
assert "config" in inspect.signature(nas_jax.search).parameters
assert nas_jax.sweep.__name__ == "sweep"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
