"""Whole runs of launch.py as a user starts them: a search, killed in every mode, and resumed."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_jax import pipeline, spaces
from nas_jax.config import variants
from nas_jax.costs import params_flops
from tests import compilation_cache, launching
from tests.configs import tiny_macro
from tests.stress import kills

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
CONFIG = "--config=tests/configs/tiny.py"
# A controller that learns while the supernet trains: of all searches it has the most to remember.
FIELDS = {
    "sweep.strategy": "enas",
    "supernet.sampler": "strategy",
    "supernet.strategy_every": 2,
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "space.ops": ("identity", "sep3x3"),
}
ENAS = [CONFIG, *(f"--config.{name}={value}" for name, value in FIELDS.items())]
# One device: eight fake ones on two cores only cost time here.
ENVIRONMENT = {**os.environ, "XLA_FLAGS": compilation_cache.flags(num_devices=1)}


def _start(workdir, *arguments):
    command = [sys.executable, "launch.py", *ENAS, f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def _run(workdir, *arguments):
    process = _start(workdir, *arguments)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    code, errors = _run(workdir)
    assert code == 0, errors
    return workdir


def _rows(path, *, without):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != without} for row in rows]


def _results(workdir):
    paths = sorted(workdir.glob("retrain/*/F*/*/seed*/result.json"))
    results = {str(p.relative_to(workdir)): json.loads(p.read_text()) for p in paths}
    return {k: {f: v for f, v in r.items() if f != "seconds"} for k, r in results.items()}


def test_search_leaves_a_report_and_all_that_the_modes_promise(whole):
    assert json.loads((whole / "status.json").read_text()) == {"status": "done", "stage": "search"}
    trials = _rows(whole / "trials.jsonl", without=None)
    assert len(trials) == 40
    assert all(0 <= row["one_shot_accuracy"] <= 1 and row["params"] > 0 for row in trials)
    metrics = _rows(whole / "metrics.jsonl", without=None)
    assert len(metrics) == 40 / 5
    assert all(0 <= row["asked_accuracy"] <= 1 for row in metrics)
    results = _results(whole)
    short = [r for path, r in results.items() if "/short/" in path]
    final = [r for path, r in results.items() if "/final/" in path]
    assert 1 <= len(short) <= 2  # one random, one stratified, which may be the same
    assert len(final) == 1
    assert all(r["test_accuracy"] is None and r["valid_accuracy"] is not None for r in short)
    assert all(r["valid_accuracy"] is None and r["test_accuracy"] is not None for r in final)
    report = whole / "report"
    assert "# " in (report / "report.md").read_text()
    assert list(report.glob("*.png"))
    assert list(whole.glob("tensorboard/events*"))


def test_a_second_run_repeats_nothing(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.glob("retrain/*/F*/*/seed*/*.json")}
    trials = (whole / "trials.jsonl").stat().st_mtime_ns
    assert launching.main(*ENAS, f"--workdir={whole}")[0] == 0
    assert (whole / "trials.jsonl").stat().st_mtime_ns == trials
    assert {p: p.stat().st_mtime_ns for p in before} == before
    log = (whole / "log.txt").read_text().rpartition("supernet  begins")[2]
    assert "all 40 steps are done already" in log
    assert "sweep  all 40 architectures are evaluated already" in log
    assert "retrain final  all 1 networks are trained already" in log
    assert "images/s" not in log


def test_the_log_ends_with_what_was_found(whole):
    log = (whole / "log.txt").read_text()
    (final,) = (r for path, r in _results(whole).items() if "/final/" in path)
    reached = f"top {100 * final['test_accuracy']:.2f} % (1, F = 4)"
    assert f"retrain final  mean accuracy on test images: {reached}" in log
    assert "report  The best of " in log
    assert log.splitlines()[-1].endswith(f"next    nas-jax --mode=export --workdir={whole}")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(workdir, config) of a search that a table of 25 architectures judges."""
    folder = tmp_path_factory.mktemp("judged")
    space = spaces.make("nasbench_macro", stages=(1, 2))
    texts = ["".join(digits) for digits in itertools.product("012", repeat=3)][2:]
    params = [int(params_flops.of(space, space.from_str(text)).params) for text in texts]
    lines = [f"{text},{round(p / max(params) * 100, 4)}" for text, p in zip(texts, params)]
    (folder / "table.csv").write_text("\n".join(["arch,digits_test_accuracy", *lines]) + "\n")
    config = tiny_macro.get_config()
    config.table = str(folder / "table.csv")
    averaged = variants.changed(config, "", [("sweep.num_checkpoints", 2)])
    pipeline.run(averaged, "search", folder / "run")
    return folder / "run", config


def _sweep(judged, name, *modes, **fields):
    """The trials of another sweep of the same supernet, in a folder of its own."""
    workdir, config = judged
    other = workdir.with_name(name)
    shutil.copytree(workdir / "checkpoints", other / "checkpoints")
    config = variants.changed(config, "", [(f"sweep.{k}", v) for k, v in fields.items()])
    for mode in modes:
        pipeline.run(config, mode, other)
    return other, _rows(other / "trials.jsonl", without=None)


def test_a_table_judges_a_search(judged):
    """All that the table has is scored once; the report has its judgement."""
    workdir, _ = judged
    trials = _rows(workdir / "trials.jsonl", without=None)
    assert len({row["arch"] for row in trials}) == len(trials) == 25
    assert json.loads((workdir / "config.json").read_text())["sweep"]["num_candidates"] == 25
    text = (workdir / "report" / "report.md").read_text()
    assert "On the table sample (published, n = 25) the score ranks" in text
    assert (workdir / "report" / "bias_published_table.png").exists()


def test_a_supernet_is_scored_by_its_divergence(judged):
    """Without labels; the report ranks by it, and judges it by the table."""
    kl = {"score": "kl", "kl.num_images": 32, "kl.num_references": 2}
    other, rows = _sweep(judged, "kl", "sweep", "report", **kl)
    assert all(row["one_shot_accuracy"] is None and row["value"] <= 0 for row in rows)
    assert len({row["value"] for row in rows}) > 20
    best = max(rows, key=lambda row: row["value"])
    text = (other / "report" / "report.md").read_text()
    assert f"**`{best['arch']}`**: minus the KL divergence {best['value']:.2f} nats" in text
    assert "| published | table | all | minus the KL divergence | 25 |" in text


@pytest.mark.parametrize("bn", ["recalibrate", "running"])
def test_a_supernet_is_scored_with_other_statistics(judged, bn):
    """Its checkpoints are copied to a folder of their own."""
    _, rows = _sweep(judged, bn, "sweep", bn=bn)
    assert {row["bn"] for row in rows} == {bn}
    batch = _rows(judged[0] / "trials.jsonl", without=None)
    assert [row["arch"] for row in rows] == [row["arch"] for row in batch]
    scores = [[row["one_shot_accuracy"] for row in found] for found in (rows, batch)]
    assert scores[0] != scores[1]


def test_a_search_in_a_table_needs_no_supernet(judged):
    workdir, config = judged
    config = variants.changed(config, "", [("sweep.score", "table")])
    other = workdir.with_name("table_only")
    pipeline.run(config, "search", other)
    assert not (other / "checkpoints").exists()
    rows = _rows(other / "trials.jsonl", without=None)
    params = [row["params"] for row in rows]
    best = max(rows, key=lambda row: row["one_shot_accuracy"])
    assert best["one_shot_accuracy"] == 1  # the table is of parameters
    assert best["params"] == max(params)
    # Random search stays in the table, too.
    random = variants.changed(config, "", [("sweep.strategy", "random_search")])
    pipeline.run(random, "search", other.with_name("random"))
    known = {row["arch"] for row in rows}
    found = _rows(other.with_name("random") / "trials.jsonl", without=None)
    assert {row["arch"] for row in found} <= known


def test_killed_thirty_times_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    """SIGKILL at random moments of training, sweep, retraining and report."""
    command = [sys.executable, "-m", "tests.stress.kills", "--kills=30", f"--whole={whole}"]
    command += [f"--directory={tmp_path}", *ENAS]
    found = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert found.stdout.startswith("30 kills of search"), found.stdout + found.stderr
    assert found.stdout.strip().endswith("0 files differ")


def test_sigterm_ends_with_a_checkpoint_and_a_code_of_its_own(whole, tmp_path):
    process = _start(tmp_path / "run", "--mode=supernet")
    while not (tmp_path / "run/metrics.jsonl").exists():
        time.sleep(0.01)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["status"] == "interrupted"
    assert _run(tmp_path / "run", "--mode=supernet")[0] == 0
    assert not kills.differences(tmp_path / "run/checkpoints", whole / "checkpoints")


def test_another_config_is_refused_with_the_field_and_another_folder(whole):
    code, errors = launching.main(*ENAS, f"--workdir={whole}", "--config.seed=7")
    assert code == 2
    assert errors.count("\n") == 1
    assert "seed is 0 there and 7 here" in errors
    assert f"--workdir={whole}-2" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=sweep"], "run --mode=supernet first"),
        (["--mode=retrain"], "run --mode=sweep first"),
        (["--config.supernet.train.ghost_batch_size=5"], "is not a multiple of ghost_batch_size=5"),
        (["--config.data.name=digit"], "nearest: 'digits'"),
        (["--config.space.num_cells=5"], "must be multiples of 16"),
        (["--config.supernet.filters=10000000"], "ran out of memory; lower supernet.train.batch"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    code, errors = launching.main(*ENAS, f"--workdir={tmp_path / 'run'}", *arguments)
    assert code == 2
    line = [line for line in errors.splitlines() if "WARNING" not in line]
    assert len(line) == 1
    assert line[0].startswith("launch.py: error: ")
    assert message in line[0]
