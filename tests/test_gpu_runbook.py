"""The runbook for a GPU, tiny and on a CPU: what pieces leave, how they go on, what travels.

Of the four searches in benchmark spaces, which differ in their flags, one runs here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import carry
from nas_jax.exports import about

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
SCRIPT = "benchmarks/gpu_runbook.sh"
PIECES = (
    *("device", "train_step", "scoring", "fused", "remat", "supernet", "sweep"),
    *("nasbench201_per_use", "standalone", "export", "tests"),
)
SETTINGS = ("XLA_FLAGS", "TFDS_DATA_DIR", "NAS_BENCH_DIR", "LIMIT", "TOTAL", "CARRY", "EXECUTIONS")


def start(*arguments, **settings):
    """The script as a process; of what the environment sets, nothing decides what it does."""
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    env |= {"PYTHON": sys.executable, "NAS_JAX_COMMIT": "abc1234", **settings}
    command = [f"./{SCRIPT}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=env, **pipes)


def call(*arguments, **settings):
    """(exit code, what it printed)."""
    process = start(*arguments, **settings)
    printed = process.communicate()[0]
    return process.returncode, printed


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """OUT of a dry run of `PIECES`."""
    out = tmp_path_factory.mktemp("runbook") / "out"
    code, printed = call("--dry-run", out, *PIECES)
    assert code == 0, printed
    return out


def test_every_piece_is_done_and_says_what_on_what(done):
    found = summary(done)
    assert {name: row["state"] for name, row in found.items()} == dict.fromkeys(PIECES, "done")
    for name, row in found.items():
        assert row["commit"] == "abc1234"
        assert row["calls"] == 1
        assert row["command"]
        assert row["device"]
        lines = [line for file in row["results"] for line in rows(done / file)]
        assert lines
        for line in lines:
            assert line["device"] == row["device"], name
            assert {"benchmark", "case", "arguments", "commit", "versions", "time"} < set(line)


def test_results_are_those_that_were_asked_for(done):
    (step,) = rows(done / "train_step" / "masked-all_on.jsonl")
    assert step["case"].startswith("all paths on, groups of 4")
    ramp = rows(done / "train_step" / "masked-ramp.jsonl")
    assert [row["case"].partition(" of")[0] for row in ramp[:3]] == [
        "r=0.1 at 0",
        "r=0.1 at 0.5",
        "r=0.1 at 1",
    ]
    shares = rows(done / "scoring" / "bandwidth.jsonl")  # PyTorch's, too, where it is installed
    (share,) = (row for row in shares if row["case"].startswith("masked"))
    assert share["share"]["xla"] > share["share"]["least"] > 0
    (training,) = rows(done / "supernet" / "training.jsonl")
    assert training["step"] == 20
    (scores,) = rows(done / "sweep" / "scores.jsonl")
    assert (scores["n"], scores["without_score"]) == (8, 0)
    tau = rows(done / "nasbench201_per_use" / "tau.jsonl")
    assert (tau[0]["case"], tau[0]["n"]) == ("tau, all", 18)
    groups = [rows(file) for file in sorted((done / "standalone").glob("*.jsonl"))]
    assert [group["case"] for (group,) in groups] == [
        f"{name}, F = 2" for name in ("all_on", "top")
    ]
    (exported,) = rows(done / "export" / "exported.jsonl")
    assert exported["accuracy"] == exported["accuracy_of_result_json"]
    assert (exported["platform"], exported["logits_off_by"]) == ("cpu", 0)
    assert (exported["num_images"], exported["page"]) == (32, True)
    assert json.loads((done / "export" / "network" / "model.json").read_text())["verification"]
    (tests,) = rows(done / "tests" / "tests.jsonl")
    assert tests["tests"] > 0
    assert tests["failed"] == []


@pytest.mark.parametrize("damage", ["accuracy", "arrays", "unverified"])
def test_an_export_that_is_not_the_network_fails_its_piece(done, tmp_path, damage):
    """Its piece says so, though a line says what was measured."""
    out, folder = tmp_path / "out", tmp_path / "out" / "export" / "network"
    shutil.copytree(done / "export", out / "export")
    shutil.copy(done / "environment.json", out)
    said = json.loads((folder / "model.json").read_text())
    if damage == "accuracy":
        said["verification"]["accuracy"]["accuracy_of_result_json"] += 0.25
    elif damage == "unverified":
        said["verification"] |= {"verified": False, "why_not": "none of mine"}
    else:
        (folder / "model.stablehlo").write_bytes(b"")
    del said["digest"]
    about.write(folder, said)
    (workdir,) = done.glob("runs/standalone-*")
    command = ["benchmarks.gpu_runbook", "exported", out, "export", workdir, folder]
    ended = subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 1
    message = {
        "accuracy": "error: on cpu it is another network: ",
        "arrays": "model.stablehlo was changed since the export",
        "unverified": "is not verified: none of mine",
    }
    assert message[damage] in ended.stderr


def test_a_second_call_repeats_nothing(done):
    before = {path: path.stat().st_mtime_ns for path in done.glob("[lrs]*/**/*") if path.is_file()}
    code, printed = call("--dry-run", done, *PIECES)
    assert code == 0
    assert printed.count("done before") == len(PIECES)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_piece_that_is_stopped_goes_on_elsewhere(tmp_path):
    """On another machine: of the first, only what it packed is left."""
    out, carried = tmp_path / "out", tmp_path / "carried"
    settings = {"STEPS": "600", "CARRY": str(carried)}
    process = start("--dry-run", out, "supernet", **settings)
    metrics = out / "runs" / "cifar" / "metrics.jsonl"
    while process.poll() is None and not metrics.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[0]
    assert process.returncode == 143, printed
    assert summary(out)["supernet"]["state"] == "unfinished"
    (stopped,) = rows(out / "supernet" / "training.jsonl")
    assert 0 < stopped["step"] < 600

    other = tmp_path / "other"
    shutil.move(carried, other / "carry")
    shutil.rmtree(out)
    assert call("--dry-run", other, "supernet", **settings)[0] == 0
    assert summary(other)["supernet"]["calls"] == 2
    assert f"goes on after step {stopped['step']}" in (other / "logs" / "supernet.log").read_text()
    steps = [row["step"] for row in rows(other / "runs" / "cifar" / "metrics.jsonl")]
    assert steps == list(range(1, 601))


def test_a_failure_does_not_end_the_others_and_a_data_set_is_joined(tmp_path):
    for part, shard in (("a", "00000"), ("b", "00001")):
        folder = tmp_path / part / "cifar10" / "3.0.2"
        folder.mkdir(parents=True)
        (folder / f"cifar10-train.array_record-{shard}-of-00002").write_text(part)
    out, parts = tmp_path / "out", f"{tmp_path}/a {tmp_path}/b"
    code, _ = call("--dry-run", out, "scoring", "sweep", DATA_PARTS=parts, EXECUTIONS="none")
    assert code == 1
    found = summary(out)
    assert found["scoring"]["state"] == "failed"
    assert "none" in found["scoring"]["reason"]
    assert found["sweep"]["state"] == "skipped"
    assert found["sweep"]["reason"] == "the piece supernet is not done"
    joined = sorted((out / "data" / "cifar10" / "3.0.2").iterdir())
    assert [path.read_text() for path in joined] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((), {}, "OUT is missing"),
        (("OUT", "nonsense"), {}, "nonsense is no piece; see --list"),
        (("OUT", "device"), {"DATA_PARTS": "/nowhere"}, "DATA_PARTS: /nowhere is no folder"),
        (("OUT", "device"), {"JAX_PLATFORMS": "cpu"}, "JAX sees no GPU here"),
    ],
)
def test_wrong_input_is_refused(tmp_path, arguments, settings, message):
    arguments = [tmp_path / "out" if text == "OUT" else text for text in arguments]
    code, printed = call(*arguments, **settings)
    assert (code, message in printed) == (2, True), printed


def test_the_list_names_every_piece():
    code, printed = call("--list")
    names = [line.split()[0] for line in printed.splitlines()]
    assert code == 0
    assert set(PIECES) < set(names)
    pieces = (ROOT / "benchmarks" / "gpu_pieces.sh").read_text()
    assert [name for name in names if f"\npiece_{name}() " not in pieces] == []


# -- what travels ---------------------------------------------------------------------------------


def test_what_is_packed_is_what_is_needed_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "PART", 200)
    out, other = tmp_path / "out", tmp_path / "other"
    kept = [
        *("summary.json", "sweep/scores.jsonl", "cache/program"),
        *("runs/a/trials.jsonl", "runs/a/interrupted/30/x", "runs/b/checkpoints/20/d/y"),
    ]
    left = ["runs/a/checkpoints/20/x", "runs/b/checkpoints/10/d/y", "runs/a/tensorboard/z"]
    for name in [*kept, *left, "data/cifar10/shard", "site/package.py"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    carry.pack(out, other / "carry")
    parts = sorted((other / "carry").iterdir())
    assert len(parts) > 1
    assert max(part.stat().st_size for part in parts) <= 200
    carry.unpack(other / "carry", other)
    found = [path for path in other.rglob("*") if path.is_file() and path not in parts]
    assert sorted(path.relative_to(other).as_posix() for path in found) == sorted(kept)
    assert all(path.read_text() == path.relative_to(other).as_posix() for path in found)

    parts[0].unlink()
    with pytest.raises(ValueError, match="a part is missing or damaged"):
        carry.unpack(other / "carry", other)


def test_programs_are_packed_while_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "MOST", 3000)
    cache = tmp_path / "out" / "cache"
    cache.mkdir(parents=True)
    for number in range(3):
        (cache / f"program{number}").write_bytes(os.urandom(2000))
        os.utime(cache / f"program{number}", (number, number))
    carry.pack(tmp_path / "out", tmp_path / "carry")
    carry.unpack(tmp_path / "carry", tmp_path / "other")
    assert [path.name for path in (tmp_path / "other" / "cache").iterdir()] == ["program2"]


def test_the_tests_that_run_on_a_device_are_there():
    text = (ROOT / "benchmarks" / "gpu_pieces.sh").read_text(encoding="utf-8")
    named = re.search(r"readonly TESTS=\(([^)]*)\)", text)[1].split()
    assert named
    for folder, name in (path.split("/") for path in named):
        assert (ROOT / "tests" / folder / f"test_{name}.py").exists(), name
