"""Runs on hosts that go at any time: another one restores the mirror, and all is as if none had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nas_jax
from nas_jax.runtime import preemption
from nas_jax.storage import mirror as mirror_lib
from nas_jax.storage.object_store import ObjectStore
from tests import compilation_cache, launching, trainings
from tests.configs import tiny
from tests.stress import kills

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
CONFIG = "--config=tests/configs/tiny.py"
FIELDS = (CONFIG, *(f"--config.{name}={value}" for name, value in trainings.SMALL.items()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of a search that nothing happened to."""
    workdir = tmp_path_factory.mktemp("mirrored") / "run"
    assert search(workdir).best
    return workdir


def search(workdir, **options):
    return nas_jax.search(tiny.get_config(), workdir=workdir, fields=trainings.SMALL, **options)


def assert_same(workdir, whole):
    """All numbers, and the arrays of all checkpoints; trials to the byte."""
    found = set(kills.differences(workdir, whole)) - {mirror_lib.FILE, "config.json"}
    assert found == set()
    assert (workdir / "trials.jsonl").read_bytes() == (whole / "trials.jsonl").read_bytes()
    assert (workdir / "checkpoints/40").is_dir()


def test_a_search_that_is_preempted_goes_on_elsewhere(whole, tmp_path):
    """SIGTERM while the supernet trains, with a folder as the mirror; then the workdir is gone."""
    workdir, mirror = tmp_path / "run", tmp_path / "mirror"
    command = [*FIELDS, f"--workdir={workdir}", f"--mirror={mirror}"]
    process = subprocess.Popen(
        [sys.executable, "launch.py", *command, "--config.supernet.train.log_every=1"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": compilation_cache.flags(num_devices=8)},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 200
    while not (workdir / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 143, errors
    there = json.loads((mirror / "mirror.json").read_text())["files"]
    assert any(name.startswith(("interrupted/", "checkpoints/")) for name in there)
    assert "trials.jsonl" not in there
    shutil.rmtree(workdir)
    # It logs every step, as the one before: what is in metrics.jsonl is decided by that.
    code, errors = launching.main(*command, "--config.supernet.train.log_every=1")
    assert code == 0, errors
    assert (workdir / "trials.jsonl").read_bytes() == (whole / "trials.jsonl").read_bytes()
    arrays = [kills._arrays(run / "checkpoints/40/default") for run in (workdir, whole)]
    assert arrays[0] == arrays[1]
    steps = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]
    assert steps == [*range(1, 41)]
    log = (workdir / "log.txt").read_text()
    assert "SIGTERM" in log


@pytest.mark.parametrize("kind", ["metrics", "candidates", "network"])
def test_a_search_that_is_killed_goes_on_from_the_last_copy(whole, tmp_path, monkeypatch, kind):
    """A stop like a kill: after a copy amid a stage, nothing more reaches the mirror."""
    url, workdir = f"memory://{kind}/run", tmp_path / "run"
    monkeypatch.setattr(mirror_lib, "EVERY", 0.02)
    seen, write = [], ObjectStore.write

    def dead(*_):
        raise OSError("no route")

    def stop(event):
        if event.kind == kind and len(seen) < 2:
            seen.append(event)
            if len(seen) == 2:  # that of the moment comes, and no other
                before = _generation(url)
                until = time.monotonic() + 20
                while _generation(url) == before and time.monotonic() < until:
                    (workdir / "log.txt").open("a").write("\n")
                    time.sleep(0.01)
                monkeypatch.setattr(ObjectStore, "write", dead)
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(preemption.Interrupted):
        search(workdir, mirror=url, on_event=stop)
    shutil.rmtree(workdir)
    monkeypatch.setattr(ObjectStore, "write", write)
    found = search(workdir, mirror=url)
    assert found.best
    assert_same(workdir, whole)


def _generation(url):
    return json.loads(ObjectStore("x", url).read(mirror_lib.FILE))["generation"]


def test_a_mirror_of_another_config_is_refused_after_the_restoring(whole, tmp_path):
    workdir, mirror = tmp_path / "run", tmp_path / "mirror"
    shutil.copytree(whole, workdir)
    code, errors = launching.main(*FIELDS, f"--workdir={workdir}", f"--mirror={mirror}")
    assert code == 0, errors
    code, errors = launching.main(
        *FIELDS, f"--workdir={workdir}-b", f"--mirror={mirror}", "--config.seed=5"
    )
    assert code == 2
    line = errors.splitlines()[-1]
    assert "holds a run of another config: seed is 0 there and 5 here" in line
    assert line.endswith(f"restored from --mirror={mirror}: give another --mirror, too")
    # The report of a run that is gone, on a host that never saw it.
    code, errors = launching.main(
        *(*FIELDS, "--mode=report", f"--workdir={workdir}-c", f"--mirror={mirror}")
    )
    assert code == 0, errors
    assert Path(f"{workdir}-c/report/report.md").exists()


def test_a_run_whose_copies_fail_ends_as_it_should(whole, tmp_path, monkeypatch):
    def dead(*_):
        raise OSError("no route")

    workdir, mirror = tmp_path / "run", tmp_path / "mirror"
    monkeypatch.setattr(mirror_lib, "EVERY", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", dead)
        code, errors = launching.main(*FIELDS, f"--workdir={workdir}", f"--mirror={mirror}")
    assert code == 2
    assert "the run is done, but its last copy failed (no route); the same command" in errors
    assert json.loads((workdir / "status.json").read_text())["status"] == "done"
    assert (workdir / "log.txt").read_text().count("a copy failed (no route)") == 1
    assert_same(workdir, whole)
    code, errors = launching.main(*FIELDS, f"--workdir={workdir}", f"--mirror={mirror}")
    assert code == 0, errors
    assert "trials.jsonl" in json.loads((mirror / "mirror.json").read_text())["files"]


def test_a_mirror_that_cannot_be_written_leaves_the_workdir_to_the_right_one(
    whole, tmp_path, monkeypatch
):
    def dead(*_):
        raise OSError("no route")

    shutil.copytree(whole, tmp_path / "run")
    good, wrong = (f"--mirror={tmp_path / name}" for name in ("good", "wrong"))
    assert launching.main(*FIELDS, f"--workdir={tmp_path / 'run'}", good)[0] == 0
    command = *FIELDS, f"--workdir={tmp_path / 'b'}"
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "write", dead)
        code, errors = launching.main(*command, wrong)
    assert code == 2
    assert errors.splitlines()[-1].endswith(f"{wrong}: no route")
    code, errors = launching.main(*command, good)
    assert code == 0, errors
    assert_same(tmp_path / "b", whole)


def test_a_refused_config_leaves_workdir_and_mirror_as_they_are(whole, tmp_path):
    workdir, mirror = tmp_path / "run", tmp_path / "mirror"
    shutil.copytree(whole, workdir)
    command = *FIELDS, f"--workdir={workdir}", f"--mirror={mirror}"
    code, errors = launching.main(*command, "--config.seed=5")
    assert (code, mirror.exists(), (workdir / mirror_lib.FILE).exists()) == (2, False, False)
    assert "holds a run of another config" in errors


@pytest.mark.parametrize("mode", ["check", "export", "predict"])
def test_modes_that_write_no_run_have_no_mirror(tmp_path, mode):
    code, errors = launching.main(f"--mode={mode}", f"--mirror={tmp_path / 'mirror'}")
    assert code == 2
    assert f"--mirror is no flag of --mode={mode}, which has " in errors


def test_a_study_whose_pool_lies_elsewhere_is_refused(tmp_path):
    given = "--config=tests/configs/tiny_study.py", f"--workdir={tmp_path / 'run'}"
    code, errors = launching.main(*given, f"--mirror={tmp_path / 'mirror'}")
    assert code == 2
    assert errors.endswith(f"set --config.study.pool={tmp_path / 'run' / 'pool'}\n")
    assert not (tmp_path / "run").exists()
