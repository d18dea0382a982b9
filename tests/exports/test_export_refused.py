"""What --mode=export refuses, and what it leaves as it is."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nas_jax
from nas_jax.exports import forms
from nas_jax.spaces import arch_id
from nas_jax.storage import json_files
from tests import launching
from tests.configs import tiny_study
from tests.exports import finished

pytestmark = pytest.mark.system

TEXTS = sorted((finished.CELL, finished.OTHER_CELL), key=arch_id)
THERE = ", ".join(f"{arch_id(text)} ({text})" for text in TEXTS)


def no_run(there):
    (there / "config.json").unlink()


def no_network(there):
    shutil.rmtree(there / "retrain")


def no_checkpoints(there):
    for path in there.glob("retrain/final/*/*/*/checkpoints"):
        shutil.rmtree(path)


def other_classes(there):
    names = [*"abcdefghij"]
    finished.changed(there / "data.json", class_names=names)


def no_selection(there):
    """As more candidates leave it: the groups are to be chosen anew."""
    (there / "retrain/final/selection.json").unlink()


def as_it_is(there):
    """Change nothing."""


@pytest.mark.parametrize(
    ("change", "network", "message"),
    [
        (no_run, "best", "holds no run: there is no "),
        (
            no_network,
            "best",
            "has no finished network (retrain/*/F*/*/seed*/result.json): run --mode",
        ),
        (no_checkpoints, "best", "checkpoints is missing: the network cannot be read"),
        (other_classes, "best", "is of another network: names of classes is ['0', '1'"),
        (as_it_is, "group:topp", "group of the network='topp' is none of random, stratified, top"),
        (as_it_is, "group:random", "has no network of that group"),
        (
            no_selection,
            "group:top",
            "retrain/final, but no selection.json that says their groups: --mode=retrain choo",
        ),
        (
            as_it_is,
            "0>sep3x3",
            "'0>sep3x3' is neither 'best', nor group:NAME, nor the id of a netw",
        ),
        (
            as_it_is,
            arch_id(finished.CELL)[:6],
            f" (which has {THERE}), nor an architecture of its ",
        ),
        (as_it_is, "0>conv7x7|0>maxpool", "'conv7x7' is none of its ops"),
        (as_it_is, "0>sep3x3|0>sep3x3", f"/run; there are {THERE}"),
        (as_it_is, "best", "has other files, such as mine.txt: give another folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(change, network, message, run, tmp_path):
    there = finished.copied(run, tmp_path)
    change(there)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    arguments = [f"--workdir={there}", f"--network={network}"]
    if "mine.txt" in message:
        arguments.append(f"--folder={tmp_path}/full")
    code, errors = launching.main("--mode=export", *arguments)
    (line,) = [line for line in errors.splitlines() if "error: " in line]
    assert code == 2
    assert message in line


@pytest.mark.parametrize("also", [None, {}, {"format": 2, "files": {}}, {"format": 1}])
def test_a_model_of_the_users_own_stays(also, run, tmp_path):
    """A folder is taken for an earlier export by its model.json alone."""
    (tmp_path / "model.py").write_text("# mine")
    if also is not None:
        json_files.write_json(tmp_path / "model.json", also)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"has other files, such as model.*: give another folder"):
        nas_jax.export(run, folder=tmp_path)
    assert (tmp_path / "model.py").read_text() == "# mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_earlier_export_stays_until_there_is_another(run, tmp_path, monkeypatch):
    """Checkpoints are gone, or a form cannot be written; then a new export takes its place."""
    there, (name,) = finished.copied(run, tmp_path), ("network",)
    (tmp_path / name).mkdir()  # an empty folder may be there
    path = nas_jax.export(there, finished.CELL, folder=tmp_path / name)
    files = nas_jax.load(path).about["files"]
    with monkeypatch.context() as patched:
        patched.setattr(forms, "save_params", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(ValueError, match="full; name a folder that can be written to"):
            nas_jax.export(there, finished.OTHER_CELL, folder=path)
    for checkpoints in there.glob("retrain/final/*/*/*/checkpoints"):
        checkpoints.rename(checkpoints.with_name("gone"))
    with pytest.raises(ValueError, match="checkpoints is missing"):
        nas_jax.export(there, finished.CELL, folder=path)
    assert nas_jax.load(path).about["files"] == files
    nas_jax.export(there, finished.OTHER_CELL, folder=path)
    assert nas_jax.load(path).about["architecture"] == finished.OTHER_CELL
    assert {path.name for path in tmp_path.iterdir()} == {"run", name}


KILLED = """
import os, signal, sys
from pathlib import Path
from nas_jax.exports import places
rename = Path.rename
def renamed(path, to):
    rename(path, to)
    if to.suffix == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = renamed
with places.replacing(Path(sys.argv[1])) as new:
    if sys.argv[2] == ".new":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", [".new", ".old"])
def test_what_a_killed_export_left_is_removed_by_the_next(when, run, exported, tmp_path):
    """Killed while it wrote, or when the earlier export had made room. What lives stays."""
    place = tmp_path / "net[@]work"
    shutil.copytree(exported, place)
    killed = subprocess.run([sys.executable, "-c", KILLED, place, when])
    assert killed.returncode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path != place]
    assert {path.suffix for path in left} == {".new", when}
    pids = {"1": "lives", "x": "is none", os.getpid(): "was an earlier one of the same number"}
    others = [tmp_path / f".{place.name}.{platform.node()}.{pid}.new" for pid in pids]
    others += [tmp_path / f".{place.name}.elsewhere.999999999.new", tmp_path / ".another.2.new"]
    others.append(others[2].with_suffix(".old"))
    for path in others:
        path.mkdir()
        (path / "model.py").touch()
    del others[-1], others[2]
    nas_jax.export(run, folder=place)
    assert set(tmp_path.iterdir()) == {place, *others}
    assert nas_jax.load(place).about["verification"]["verified"]


def test_the_workdir_of_a_study_is_refused_with_the_way_out(tmp_path):
    """As a model, too; a run's workdir is told from it."""
    of_study = tmp_path / "study"
    json_files.write_json(of_study / "config.json", tiny_study.get_config().to_dict())
    code, errors = launching.main("--mode=export", f"--workdir={of_study}")
    (line,) = [line for line in errors.splitlines() if "error: " in line]
    assert code == 2
    assert f"workdir={of_study}: it is a study's workdir, and networks of a study's store" in line
    assert "--mode=retrain --config.retrain.archs=.. and export that" in line
    with pytest.raises(ValueError, match=r"no .*/model.json; it is a study's workdir, .* export"):
        nas_jax.load(of_study)


@pytest.mark.parametrize(
    "given",
    [
        *({"network": value} for value in (None, 3, "", Path("best"), ["best"])),
        {"workdir": None},
        {"workdir": 3},
        {"space": "cell"},
        {"data": "digits"},
        {"folder": 3},
        {"folder": ""},
    ],
)
def test_an_argument_of_another_kind_is_named(given, run):
    (name,) = given
    with pytest.raises(ValueError, match=f"^{name}(=.* must be .*| is empty: give a path)$"):
        nas_jax.export(**{"workdir": run, **given})


@pytest.mark.parametrize("given", [None, 3, ["a"]])
def test_a_model_is_loaded_of_a_path(given):
    with pytest.raises(ValueError, match=r"^model=.* must be a path$"):
        nas_jax.load(given)


def test_a_workdir_is_no_model(run):
    with pytest.raises(ValueError, match=f"no .*/model.json; --mode=export --workdir={run} writes"):
        nas_jax.load(run)


@pytest.mark.parametrize("place", [".", "..", "link"])
def test_the_folder_that_one_works_in_is_not_replaced(place, run, tmp_path, monkeypatch):
    inner = tmp_path / "network" / "__pycache__"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(inner)
    monkeypatch.chdir(inner)
    with pytest.raises(ValueError, match=f"^folder={re.escape(place)} is the current folder, or a"):
        nas_jax.export(run, folder=place)
    assert Path.cwd().samefile(inner)
    assert nas_jax.export(run, folder="new") == Path("new")


def test_a_folder_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=f"^{tmp_path}/file: .*; name a folder that can be written"
    ):
        nas_jax.export(run, folder=tmp_path / "file")


def test_the_modes_name_what_is_missing(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["--mode=export"], "--workdir is missing"),
        (["--mode=export", "--workdir=runs/none", "image.png"], "'image.png' is no flag"),
        (["--mode=predict", "image.png"], "--model is missing"),
        (["--mode=predict", f"--model={exported}"], "no image is named"),
        (["--mode=export", "--workdir=a", "--model=b"], "--model is no flag of --mode=export, "),
        (["--mode=export", "--workdir=a", "--config.seed=1"], "--config.seed is no flag of --mode"),
        (["--mode=predict", "--model=a", "--network=best"], "which has --model"),
        (["--mode=predict", "--model=a", "--noconfig.x", "a.png"], "--config.x is no flag of"),
        (["--mode=predict", "--model=a", "--config=digits"], "--config is no flag of --mode=predi"),
        (["--config=digits", "--network=best"], "--network is no flag of --mode=search, which has"),
        (["--mode=report", "--workdir=runs/none"], "holds no run: there is no "),
        (["--mode=report", "--config=digits", "--workdir=runs/none"], "holds no run: there is no "),
        (["--mode=report", "--config=digits"], "--workdir=runs/digits holds no run: there is no "),
        (["--mode=export", "--config=zzz", "--workdir=a"], "--config=zzz is not looked at beside"),
        (["--mode=export", "--workdir=a", "--network="], "--network= is empty: give it a value"),
        (["--mode=export", "--workdir=a", "--folder="], "--folder= is empty: give it a value, or"),
        (["--config=digits", "--workdir="], "--workdir= is empty: give it a value, or leave it"),
    ):
        code, errors = launching.main(*arguments)
        assert code == 2
        assert message in errors
    assert not Path("runs").exists()
