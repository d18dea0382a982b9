"""What breaks: disks, files, losses, requests to stop. Nothing is lost, and it is said."""

import logging
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from nas_jax import pipeline
from nas_jax.candidates import evaluators, sweep
from nas_jax.oneshot.accuracy import OneShotAccuracy
from nas_jax.runtime import preemption
from nas_jax.storage import json_files, workdir
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import loop
from nas_jax.training.metrics import Diverged
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

# -- damaged checkpoints --------------------------------------------------------------------------


class State(NamedTuple):
    """A small train state."""

    step: Any
    params: Any


def _state(step):
    values = np.random.default_rng(step).normal(size=(40, 50)).astype(np.float32)
    return State(np.int32(step), {"kernel": values, "none": {}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints of the steps 20 and 30."""
    directory = tmp_path_factory.mktemp("run")
    with Checkpoints(directory / "checkpoints") as checkpoints:
        for step in (20, 30):
            checkpoints.save(step, _state(step))
    return directory


def _gone(path, rng):
    path.unlink()


def _empty(path, rng):
    path.write_bytes(b"")


def _cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _flipped(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _equal(state, other):
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("damage", [_gone, _empty, _cut, _flipped])
def test_of_a_damaged_checkpoint_the_one_before_serves(saved, tmp_path, damage):
    """Whatever file it is: the last state comes back bit for bit, or the one before."""
    files = [path for path in sorted((saved / "checkpoints/30").rglob("*")) if path.is_file()]
    rng, fell_back = random.Random(0), 0
    for number, file in enumerate(files * (4 if damage is _flipped else 1)):
        copy = tmp_path / str(number)
        shutil.copytree(saved, copy)
        damage(copy / file.relative_to(saved), rng)
        with Checkpoints(copy / "checkpoints") as checkpoints:
            found = checkpoints.resume(_state(0))
        assert _equal(found.state, _state(found.step))
        assert (copy / "damaged/30").exists() == (found.step == 20)
        fell_back += found.step == 20
    assert fell_back  # some files matter


def test_where_all_are_damaged_it_is_said(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "checkpoints").glob("*/default/_METADATA"):
        file.write_text("{}")
    with (
        Checkpoints(tmp_path / "checkpoints") as checkpoints,
        pytest.raises(ValueError, match=r"checkpoint .*/30 is damaged"),
    ):
        checkpoints.resume(_state(0))
    assert (tmp_path / "checkpoints/30").exists()  # nothing was thrown away


# -- trainings ------------------------------------------------------------------------------------


def _config():
    config = tiny.get_config()
    config.update_from_flattened_dict(trainings.SMALL)
    return config


@pytest.fixture(scope="module")
def built():
    return trainings.build(_config())


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, *trainings.fit(built, directory)


def _assert_same(found, whole):
    (state, rows), (_, expected, expected_rows) = found, whole
    assert _equal(state, expected)
    for ours, theirs in zip(rows, expected_rows, strict=True):
        assert ours | {"images_per_second": 0} == theirs | {"images_per_second": 0}


class Requesting(trainings.Stopping):
    """The same data; while batch 18 is made, SIGTERM comes."""

    def batches(self, *args, **kwargs):
        for number, batch in enumerate(self.data.batches(*args, **kwargs), 1):
            if number == 18:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def test_sigterm_saves_a_checkpoint_from_which_all_goes_on_bit_for_bit(built, whole, tmp_path):
    """Step 18 is neither a step of the log, every 5, nor of checkpoints, every 10."""
    with preemption.on_sigterm(), pytest.raises(preemption.Interrupted):
        trainings.fit(built, tmp_path, wrap=Requesting)
    assert [path.name for path in (tmp_path / "interrupted").iterdir()] == ["18"]
    assert json_files.read_jsonl(tmp_path / "metrics.jsonl")[-1]["step"] == 15
    with preemption.on_sigterm(), pytest.raises(preemption.Interrupted):  # 18 steps later
        trainings.fit(built, tmp_path, wrap=Requesting)
    assert [path.name for path in (tmp_path / "interrupted").iterdir()] == ["36"]
    _assert_same(trainings.fit(built, tmp_path), whole)
    assert not (tmp_path / "interrupted").exists()


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(built, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    files = [path for path in (tmp_path / "checkpoints/40").rglob("*") if path.is_file()]
    _flipped(max(files, key=lambda path: path.stat().st_size), random.Random(0))
    _assert_same(trainings.fit(built, tmp_path), whole)
    assert (tmp_path / "damaged/40").exists()
    assert (tmp_path / "checkpoints/40").exists()


def test_a_training_that_diverged_goes_on_more_slowly(built, tmp_path, monkeypatch):
    """Also if it is then stopped: rates of 1e12 and 1 times the usual one."""
    monkeypatch.setattr(loop, "SLOWER", 1e-12)
    config, space, data = built
    config = config.copy_and_resolve_references()
    config.supernet.train.base_lr *= 1e12
    with pytest.raises(Diverged):
        trainings.fit((config, space, data), tmp_path / "never")
    config.supernet.train.restarts = 1
    state, rows = trainings.fit((config, space, data), tmp_path / "once")
    assert len(json_files.read_jsonl(tmp_path / "once/restarts.jsonl")) == 1
    assert rows[0]["learning_rate"] < 1
    trainings.assert_resumes((config, space, data), tmp_path / "stopped", state, rows)


def test_candidates_that_score_nan_fail_and_the_others_do_not(built, whole, tmp_path, monkeypatch):
    """Those of one op; XLA on a CPU may take NaN for zero in a ReLU, so weights cannot do it."""
    config, space, data = built
    make = OneShotAccuracy

    def poisoned(*args, **options):
        scored = make(*args, **options)
        return lambda archs: np.where(archs[0]["ops"][:, 1] > 0, np.nan, scored(archs))

    monkeypatch.setattr(evaluators, "OneShotAccuracy", poisoned)
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    rows = trainings.swept(config, space, data, tmp_path)
    has_it = [bool(space.from_str(row["arch"])[0]["ops"][1]) for row in rows]
    assert [row["status"] for row in rows] == ["failed" if bad else "ok" for bad in has_it]
    assert [row["value"] is None for row in rows] == has_it
    assert 0 < sum(has_it) < len(rows)
    assert rows == json_files.read_jsonl(tmp_path / "trials.jsonl")


@pytest.mark.parametrize("damage", ['{"arch": "0', '{"arch": 1}x\n', "\0" * 30 + "\n"])
def test_a_damaged_last_trial_is_scored_again_and_one_before_it_named(
    built, whole, tmp_path, caplog, damage
):
    config, space, data = built
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    path = tmp_path / "trials.jsonl"
    sweep.search(trainings.run_of(config, space, data, tmp_path))
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    path.write_text("".join(lines[:20]) + damage)
    sweep.search(trainings.run_of(config, space, data, tmp_path))
    assert "the last line" in caplog.text
    assert path.read_text() == text
    path.write_text("".join(lines[:20]) + damage.rstrip() + "\n" + "".join(lines[21:]))
    with pytest.raises(ValueError, match=r"trials.jsonl, line 21 is damaged"):
        sweep.search(trainings.run_of(config, space, data, tmp_path))


class Request(logging.Handler):
    """SIGTERM comes while the third round's line is written."""

    def emit(self, record):
        if record.args[0] == 24:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_a_sweep_after_a_round_and_it_goes_on_from_there(
    built, whole, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, sweep.__name__)
    for name in ("run", "whole"):
        shutil.copytree(whole[0] / "checkpoints", tmp_path / name / "checkpoints")
    monkeypatch.setattr(sweep.logger, "handlers", [Request(logging.INFO)])
    with pytest.raises(preemption.Interrupted):
        pipeline.run(built[0], "sweep", tmp_path / "run")
    assert len(json_files.read_trials(tmp_path / "run/trials.jsonl")) == 24
    status = json_files.read_json(tmp_path / "run/status.json")
    assert (status["status"], status["stage"]) == ("interrupted", "sweep")
    for name in ("run", "whole"):
        monkeypatch.setattr(sweep.logger, "handlers", [])
        pipeline.run(built[0], "sweep", tmp_path / name)
    trials = [(tmp_path / name / "trials.jsonl").read_bytes() for name in ("run", "whole")]
    assert trials[0] == trials[1]


# -- how a run ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (preemption.Interrupted(), "interrupted"),
        (Diverged("the loss is nan"), "diverged"),
        (ValueError("a\nwrong field"), "failed"),
        (ZeroDivisionError("a bug"), "failed"),
    ],
)
def test_status_says_how_a_stage_ended(tmp_path, monkeypatch, error, status):
    def run(*_):
        raise error

    monkeypatch.setitem(pipeline.STAGES, "report", run)
    with pytest.raises(type(error)):
        pipeline.run(tiny.get_config(), "report", tmp_path)
    found = json_files.read_json(tmp_path / "status.json")
    assert found == {"status": status, "stage": "report", "error": " ".join(str(error).split())}


def test_a_second_process_is_refused_but_for_a_report(tmp_path, monkeypatch):
    monkeypatch.setitem(pipeline.STAGES, "report", lambda *_: None)
    with workdir.claim(tmp_path, wait=False):
        with pytest.raises(ValueError, match=f"in use by another process.*{tmp_path}-2"):
            pipeline.run(tiny.get_config(), "sweep", tmp_path)
        pipeline.run(tiny.get_config(), "report", tmp_path)
        assert not (tmp_path / "status.json").exists()  # the first one's


def test_other_images_are_refused(built, tmp_path):
    config, _, data = built
    same = trainings.build(_config())[2]
    assert data.fingerprint == same.fingerprint
    same.images[0, 0, 0, 0] ^= 1
    del vars(same)["fingerprint"]
    assert data.fingerprint != same.fingerprint
    workdir.open_workdir(tmp_path / "run", config.to_dict(), {"fingerprint": data.fingerprint})
    with pytest.raises(ValueError, match=r"the data set has changed since.*run-2"):
        workdir.open_workdir(tmp_path / "run", config.to_dict(), {"fingerprint": same.fingerprint})


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many bytes, or a read-only one."""
    mounted = []

    def mount(options):
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="module")
def on_all_devices(built, tmp_path_factory):
    """The metrics of a training on all devices that nothing happened to."""
    return trainings.fit(built, tmp_path_factory.mktemp("all"), jax.device_count())[1]


@pytest.mark.parametrize("kilobytes", [4, 60, 135])  # full at the start, step 10, step 20
def test_a_full_disk_is_said_and_with_more_space_all_goes_on(
    built, on_all_devices, small_disk, kilobytes
):
    disk = small_disk(f"size={kilobytes}k")
    config = built[0]
    with pytest.raises(ValueError, match="free some space"):
        pipeline.run(config, "supernet", disk)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    pipeline.run(config, "supernet", disk)
    rows = json_files.read_jsonl(disk / "metrics.jsonl")
    losses = [[row["loss"] for row in found] for found in (rows, on_all_devices)]
    assert losses[0] == losses[1]


def test_a_read_only_workdir_is_said(built, small_disk):
    disk: Path = small_disk("ro")
    with pytest.raises(ValueError, match=f"--workdir={disk}/run: .*Read-only file system"):
        pipeline.run(built[0], "supernet", disk / "run")
