"""Weights & Biases, offline: what its own files hold. Skipped where wandb is not installed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_jax.listeners import wandb_run
from nas_jax.runtime import events
from nas_jax.storage import json_files
from tests.listeners import runs

wandb = pytest.importorskip("wandb", reason="needs wandb: pip install -e '.[wandb]'")

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


def process():
    """The listener of a new process."""
    return events.listening({"wandb": wandb_run.WandbRun()})


BLOCK = 32_768  # of LevelDB's log format, in which a record may go on in the next block


def records(path):
    """The records of a file of W&B."""
    from wandb.proto import wandb_internal_pb2

    content, at, record = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # no room for a header: zeros
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def whole(path):
    """All records of a file, which W&B's own process ends soon after the run."""
    for _ in range(200):
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} does not end")


def key(item):
    return item.key or "/".join(item.nested_key)


def logged(workdir):
    """[(id, project, fields, rows of the history, summary)] of each process, in order."""
    found = []
    for path in sorted(
        workdir.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime
    ):
        run, config, rows, summary = None, {}, [], {}
        for record in whole(path):
            if record.HasField("run"):
                run = run or record.run
                config |= {key(u): json.loads(u.value_json) for u in record.run.config.update}
            for update in record.config.update:
                config[key(update)] = json.loads(update.value_json)
            if record.HasField("history"):
                rows.append({key(i): json.loads(i.value_json) for i in record.history.item})
            for update in record.summary.update:
                summary[key(update)] = json.loads(update.value_json)
        found.append((run, config, rows, summary))
    return found


def points(rows, step, name):
    return {row[step]: row[name] for row in rows if name in row}


def test_a_run_is_logged(tmp_path):
    workdir = tmp_path / "my run"
    with process():
        runs.whole(workdir)
    ((run, config, rows, summary),) = logged(workdir)
    assert (run.project, run.display_name) == ("nas_jax", "my run")
    assert config["sweep.num_candidates"] == 12
    assert points(rows, "train/step", "train/loss") == {1: 4.0, 2: 3.0, 3: 2.0}
    best = points(rows, "sweep/candidates", "sweep/best")
    assert best == runs.best_so_far(runs.rows()) == {4: 0.5, 8: 0.75, 12: 0.75}
    network = f"retrain/final/F4/{runs.arch_id(runs.ARCHS[runs.BEST])}/seed1"
    assert points(rows, f"{network}/train/step", f"{network}/train/loss") == {1: 2.0, 2: 1.0}
    assert summary[f"{network}/test/accuracy"] == 0.75
    assert summary["best/F4/test/accuracy"] == 0.625
    assert summary["best/arch"] == runs.ARCHS[runs.BEST]
    (drawing,) = tmp_path.glob("my run/wandb/offline-run-*/files/media/images/best/*.png")
    assert summary["best/drawing/sha256"] == hashlib.sha256(drawing.read_bytes()).hexdigest()


def test_a_resumed_run_is_the_same_one(tmp_path):
    """Its id is kept in the workdir; another workdir of that name has another."""
    for number in (8, 12):
        with process():
            runs.begin(tmp_path / "a" / "run", **{"sweep.num_candidates": number})
            runs.sweep(tmp_path / "a" / "run", runs.rows()[:number])
            runs.end(tmp_path / "a" / "run")
        time.sleep(1.1)  # W&B names its folders by seconds
    with process():
        (tmp_path / "b" / "run").mkdir(parents=True)
        runs.begin(tmp_path / "b" / "run")
        runs.end(tmp_path / "b" / "run", "failed")
    first, second = logged(tmp_path / "a" / "run")
    ((other, *_),) = logged(tmp_path / "b" / "run")
    assert first[0].run_id == second[0].run_id != other.run_id
    assert json.loads((tmp_path / "a/run/wandb.json").read_text()) == {"id": first[0].run_id}
    assert (first[1]["sweep.num_candidates"], second[1]["sweep.num_candidates"]) == (8, 12)
    best = [points(one[2], "sweep/candidates", "sweep/best") for one in (first, second)]
    assert best == [{4: 0.5, 8: 0.75}, {12: 0.75}]


def test_a_line_that_a_resumed_run_writes_again_is_logged_once(tmp_path, caplog):
    """Offline, where W&B knows nothing of the process before. A restart's lines are others."""
    with process():
        runs.begin(tmp_path)
        runs.train(tmp_path, [4.0, 3.0, 2.0])
        runs.train(tmp_path / "store", [2.0, 1.5])
        runs.end(tmp_path, "interrupted")
    time.sleep(1.1)
    path = tmp_path / "wandb.jsonl"
    path.write_bytes(path.read_bytes() + b'{"run": "half a li')
    with process():
        runs.begin(tmp_path)
        assert "wandb.jsonl: the last line was cut short" in caplog.text
        runs.train(tmp_path, [3.0, 2.0, 1.0], start=1)  # two lines of which it had before
        runs.train(tmp_path, [0.5, 0.25], start=3)  # as after a loss that is not finite
        runs.train(tmp_path / "store", [2.0, 1.5, 1.25])
        runs.end(tmp_path)
    rows = [row for one in logged(tmp_path) for row in one[2]]
    of_run = [(row["train/step"], row["train/loss"]) for row in rows if "train/step" in row]
    assert of_run == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0), (4, 0.5), (5, 0.25)]
    steps = [row["store/train/step"] for row in rows if "store/train/step" in row]
    assert steps == [1, 2, 3]


KILLED = """
import os, signal, sys
from nas_jax.listeners import wandb_run
from nas_jax.runtime import events
from tests.listeners import runs
with events.listening({"wandb": wandb_run.WandbRun()}):
    runs.begin(sys.argv[1])
    runs.train(sys.argv[1], [4.0, 3.0])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_lines_that_a_kill_took_from_wandb_are_logged_again(tmp_path):
    """It keeps them in memory for some seconds."""
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, env=env)
    assert killed.returncode == -signal.SIGKILL
    (lost,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert not any(record.HasField("history") for record in records(lost))
    shutil.rmtree(lost.parent)
    with process():
        runs.begin(tmp_path)
        runs.train(tmp_path, [4.0, 3.0, 2.0])
        runs.end(tmp_path)
    ((*_, rows, _),) = logged(tmp_path)
    assert points(rows, "train/step", "train/loss") == {1: 4.0, 2: 3.0, 3: 2.0}


def test_a_line_is_marked_when_wandb_has_it_on_the_disk(tmp_path, monkeypatch):
    with process():
        runs.begin(tmp_path)
        runs.train(tmp_path, [4.0, 3.0])
        assert not (tmp_path / "wandb.jsonl").exists()
        monkeypatch.setattr(wandb_run, "CERTAIN", 0)
        runs.train(tmp_path, [2.0], start=2)
        marks = json_files.read_jsonl(tmp_path / "wandb.jsonl")
        assert [mark["train/step"] for mark in marks] == [1, 2, 3]
        runs.end(tmp_path)
    assert json_files.read_jsonl(tmp_path / "wandb.jsonl") == marks


def test_lines_of_another_run_do_not_count(tmp_path):
    """As those of a study's store, which another study trained in part."""
    for number in range(2):
        with process():
            runs.begin(tmp_path)
            runs.train(tmp_path, [4.0, 3.0])
            runs.end(tmp_path)
        (tmp_path / "wandb.json").unlink()
        time.sleep(1.1 * (1 - number))
    assert [len(points(one[2], "train/step", "train/loss")) for one in logged(tmp_path)] == [2, 2]


def test_what_a_kill_left_untold_is_logged_by_the_next_process(tmp_path):
    """A round, and a network; and once."""
    for _ in range(2):
        with process():
            runs.begin(tmp_path)
            runs.sweep(tmp_path, runs.rows(), killed_after=8)
            runs.network(tmp_path, 0, 0.75, killed=True)
            runs.end(tmp_path)
        time.sleep(1.1)
    first, second = logged(tmp_path)
    best = [points(one[2], "sweep/candidates", "sweep/best") for one in (first, second)]
    assert best == [{4: 0.5, 8: 0.75}, {12: 0.75}]
    network = f"retrain/final/F4/{runs.arch_id(runs.ARCHS[runs.BEST])}/seed0/test/accuracy"
    assert network not in first[3]
    assert second[3][network] == 0.75
