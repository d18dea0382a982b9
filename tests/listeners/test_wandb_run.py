"""Weights & Biases, offline: what its own files hold. Skipped where wandb is not installed."""

import hashlib
import json
import time

import pytest

from nas_jax.listeners import wandb_run
from nas_jax.runtime import events
from tests.listeners import runs

wandb = pytest.importorskip("wandb", reason="needs wandb: pip install -e '.[wandb]'")

pytestmark = pytest.mark.system


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
