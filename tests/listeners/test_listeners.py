"""Listeners of a config and of Python: names, what is refused, and whole runs that have them."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

import nas_jax
from nas_jax import listeners, pipeline
from nas_jax.runtime import events
from nas_jax.storage import json_files, workdir
from tests import launching
from tests.configs import tiny
from tests.listeners import test_optuna_study, test_tensorboard

ROOT = Path(__file__).parents[2]
TINY = "tests/configs/tiny.py"
SMALL = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "space.ops": ("identity", "sep3x3"),
    "supernet.train.num_steps": 10,
    "sweep.num_candidates": 12,
    "retrain.short.groups.random": 0,
    "retrain.short.groups.stratified": 0,
}
MINE = """
import json, pathlib
def kinds(event):
    with open(event.where.parent / "kinds.txt", "a") as file:
        print(event.kind, file=file)
class Counts:
    def __init__(self):
        self.number = 0
    def __call__(self, event):
        self.number += 1
        if event.kind == "end":
            (event.where / "count.txt").write_text(str(self.number))
class NoListener:
    pass
class Raises(Counts):
    def __init__(self):
        {}["x"]
number = 3
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def config_with(*names):
    config = tiny.get_config()
    config.listeners = names
    return config


# -- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "config.listeners='tensorbord' is none of .*; nearest: 'tensorboard'"),
        ("{mine}:kidns", "mine.py has no 'kidns'; nearest: 'kinds'"),
        ("{mine}:number", "config.listeners='.*' is a int, and cannot be called"),
        ("{mine}:NoListener", "makes a NoListener, which cannot be called with an event: it has"),
        ("{mine}:Raises", "KeyError in .*mine.py, line .*: 'x'"),
        ("gone.py:f", "there is no file .*gone.py"),
    ],
)
def test_what_is_no_listener_is_refused_before_the_run(mine, tmp_path, name, message):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=message) as caught:
        pipeline.run(config_with(name.format(mine=mine)), "report", run)
    assert "config.listeners=" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "report").exists()


def test_a_class_whose_objects_cannot_be_called_is_refused_before_anything_is_made(mine, tmp_path):
    with pytest.raises(ValueError, match="makes a NoListener, which cannot be called"):
        pipeline.run(config_with(f"{mine}:NoListener"), "supernet", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_field_holds_names():
    with pytest.raises(ValueError, match=r"config.listeners=\(3,\) must hold str alone"):
        pipeline.check_fields(config_with(3))


@pytest.mark.parametrize("name", listeners.EXTRAS)
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = rf"config.listeners='{name}' needs {name}: pip install -e '.\[{name}\]'"
    with pytest.raises(ValueError, match=said):
        pipeline.check_fields(config_with("tensorboard", name))


def test_classes_are_made_and_functions_are_not(mine):
    made = listeners.make(["tensorboard", f"{mine}:kinds", f"{mine}:Counts"])
    assert isinstance(made["tensorboard"], listeners.LISTENERS["tensorboard"])
    assert made[f"{mine}:kinds"].__name__ == "kinds"
    assert made[f"{mine}:Counts"].number == 0


def test_beside_the_lead_process_there_are_those_that_write_for_each_network(mine):
    made = listeners.make(["optuna", "tensorboard", f"{mine}:kinds"], leads=False)
    assert made.keys() == {"tensorboard"}


def test_a_listener_that_stands_for_nothing_hears_every_kind():
    for kind in events.KINDS:
        listeners.Listener()(events.Event(kind, None, None, {}))


# -- runs -----------------------------------------------------------------------------------------


def report(run, *names, **options):
    pipeline.run(config_with(*names), "report", run, **options)


def test_a_run_begins_and_ends_once(tmp_path):
    found = []
    report(tmp_path, on_event=found.append)
    begin, end = found
    assert (begin.kind, begin.where, begin.values["mode"]) == ("begin", tmp_path, "report")
    assert begin.values["config"]["sweep.num_candidates"] == 40
    assert begin.values["space"] == nas_jax.spaces.make(**tiny.get_config().space)
    assert (end.kind, end.where, end.values) == ("end", tmp_path, {"status": "done"})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (FloatingPointError(), "diverged"),
        (OSError(), "failed"),
    ],
)
def test_how_a_run_ended_is_told_as_status_json_has_it(tmp_path, monkeypatch, error, status):
    def stage(run):
        raise error

    monkeypatch.setitem(pipeline.STAGES, "report", stage)
    found = []
    with pytest.raises(type(error)):
        report(tmp_path, on_event=found.append)
    assert found[-1].values["status"] == status
    assert json_files.read_json(tmp_path / "status.json")["status"] == status


def test_listeners_may_change_and_so_may_their_file(tmp_path, mine):
    """They decide nothing: the same workdir goes on."""
    run = tmp_path / "run"
    report(run, f"{mine}:Counts")
    assert (run / "count.txt").read_text() == "2"
    mine.write_text(MINE.replace("+= 1", "+= 2"))
    report(run, f"{mine}:Counts")
    assert (run / "count.txt").read_text() == "4"
    report(run)
    assert "files" not in json_files.read_json(run / "data.json")


def test_a_report_beside_a_run_leaves_the_files_of_its_listeners_alone(tmp_path, mine):
    """`on_event` hears of it."""
    report(tmp_path, f"{mine}:Counts")
    (tmp_path / "count.txt").unlink()
    found = []
    with workdir.claim(tmp_path, wait=False) as claimed:
        assert claimed
        report(tmp_path, f"{mine}:Counts", on_event=found.append)
    assert not (tmp_path / "count.txt").exists()
    assert [event.kind for event in found] == ["begin", "end"]


def test_the_list_of_fields_explains_them(capsys):
    launching.main("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "listeners = ('tensorboard',) (some of tensorboard, optuna, wandb, mlflow)" in text
    assert "docs/howto/events.md" in text


def test_numbers_of_validation_images_are_named_so():
    row = {"step": 5, "loss": 1.0, "valid_loss": 2.0, "asked_accuracy": 0.5, "alpha_entropy": None}
    named = {"train/loss": 1.0, "valid/loss": 2.0, "valid/asked_accuracy": 0.5}
    assert listeners.base.tags(row) == named


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(workdir, what happened in it) of a search, stage by stage, of which the sweep grew."""
    folder, found = tmp_path_factory.mktemp("searched"), []
    fields = SMALL | {"listeners": ("tensorboard", "optuna")}
    options = {"workdir": folder / "run", "on_event": found.append}
    nas_jax.train_supernet(TINY, fields=fields, **options)
    nas_jax.sweep(TINY, fields=fields, **options)
    nas_jax.search(TINY, fields=fields | {"sweep.num_candidates": 20}, **options)
    return folder / "run", found


@pytest.mark.system
def test_what_happened_is_what_the_files_have(searched):
    run, found = searched
    lines = [event.values for event in found if event.kind == "metrics" and event.where == run]
    assert lines == json_files.read_jsonl(run / "metrics.jsonl")
    rounds = [event for event in found if event.kind == "candidates"]
    assert [event.step for event in rounds] == [0, 8, 12, 16]  # 12 were asked for at first
    trials = json_files.read_trials(run / "trials.jsonl")
    assert [row for event in rounds for row in event.values] == trials
    (network,) = [event for event in found if event.kind == "network"]
    assert network.values == json_files.read_json(network.where / "result.json")
    kinds = [event.kind for event in found if event.kind in ("begin", "end")]
    assert kinds == ["begin", "end"] * 3


@pytest.mark.system
def test_curves_and_study_are_those_of_the_files(searched):
    run, _ = searched
    losses = {row["step"]: row["loss"] for row in json_files.read_jsonl(run / "metrics.jsonl")}
    assert test_tensorboard.curves(run)["train/loss"] == pytest.approx(losses)
    (path,) = run.glob("retrain/final/F4/*/seed0/result.json")
    result, curves = json.loads(path.read_text()), test_tensorboard.curves(path.parent)
    assert curves["test/accuracy"] == {20: pytest.approx(result["test_accuracy"])}
    trials = json_files.read_trials(run / "trials.jsonl")
    study = test_optuna_study.check(run, trials)
    assert study.best_value == max(row["value"] for row in trials)
    assert sum(optuna.importance.get_param_importances(study).values()) == pytest.approx(1)
    best = test_tensorboard.shown(run / "tensorboard" / "sweep")["sweep/best"]
    assert best[20].simple_value == pytest.approx(study.best_value)
    summary = test_tensorboard.shown(run / "tensorboard" / "summary")
    assert summary["best/value"][20].simple_value == pytest.approx(study.best_value)
    assert summary["best"][20].image.encoded_image_string[1:4] == b"PNG"


@pytest.mark.system
def test_without_listeners_the_files_are_the_same(searched, tmp_path):
    """All but theirs; results do not depend on who is told."""
    run, _ = searched
    fields = SMALL | {"sweep.num_candidates": 20, "listeners": ()}
    nas_jax.sweep(TINY, fields=fields, workdir=_with_the_supernet(run, tmp_path / "run"))
    assert (tmp_path / "run" / "trials.jsonl").read_bytes() == (run / "trials.jsonl").read_bytes()
    assert not list(tmp_path.rglob("tensorboard"))


def _with_the_supernet(run, other):
    shutil.copytree(run / "checkpoints", other / "checkpoints")
    return other


@pytest.mark.system
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """In its order: the command, the study that this leaves, the search that it listens to."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "howto" / "events.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```bash\nnas-jax (.*?)\n```$", page, re.M | re.S)
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    config = nas_jax.api.as_config(str(ROOT / TINY), SMALL)
    small = {"digits": config.copy_and_resolve_references}
    for module in (nas_jax.config, nas_jax.config.files):
        monkeypatch.setattr(module, "load", lambda name: small[name]())
    assert launching.main(*shlex.split(command)) == (0, "")
    names = {}
    for block in blocks:
        exec(compile(block, "docs/howto/events.md", "exec"), names)
    assert "8 candidates, then 4 more; best of them 0." in capsys.readouterr().out
    assert len(names["study"].trials) == 12


@pytest.mark.system
def test_a_run_starts_without_the_libraries_of_its_listeners():
    """They are imported when the first event needs them."""
    libraries = ("matplotlib", "tensorboardX", *listeners.EXTRAS)
    code = f"import sys, nas_jax.pipeline; print([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
