"""Several processes, joined on this machine: the same numbers, and what is lost when one is."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nas_jax.candidates import sweep
from nas_jax.standalone import retrain
from nas_jax.storage import json_files
from nas_jax.training import lineage
from tests import compilation_cache, trainings
from tests.configs import tiny
from tests.training import test_population

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
FIELDS = {
    "supernet.train.base_lr": 0.32,  # at a tenth of the rate rounding grows more slowly
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "space.ops": ("identity", "sep3x3"),
}
CONFIG = [
    "--config=tests/configs/tiny.py",
    *(f"--config.{name}={value}" for name, value in FIELDS.items()),
]
LIMIT = 300  # seconds
# launch.py, but a lost process ends the others after 10 seconds rather than 30.
JOINED = """
import sys, launch
from nas_jax.runtime import distributed
distributed.initialize.__defaults__ = (10,)
sys.exit(launch.main())
"""


def _start(directory, *arguments, num_devices=2):
    """Two processes of so many devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {
        **os.environ,
        "XLA_FLAGS": compilation_cache.flags(num_devices=num_devices),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
    }
    command = [sys.executable, "-c", JOINED, "--distributed", *CONFIG, f"--workdir={directory}"]
    return [
        subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env={**env, "JAX_PROCESS_ID": str(number)},
            stderr=(directory.parent / f"{directory.name}{number}.log").open("a"),
        )
        for number in range(2)
    ]


def _codes(processes):
    return [process.wait(LIMIT) for process in processes]


def _after_lines(directory, count, processes):
    """Wait until metrics.jsonl has so many."""
    path = directory / "metrics.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert all(process.poll() is None for process in processes), "ended too early"
        time.sleep(0.01)


def _losses(directory):
    return [row["loss"] for row in json_files.read_jsonl(directory / "metrics.jsonl")]


@pytest.fixture(scope="module")
def built():
    return trainings.built_with(tiny.get_config(), FIELDS)


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A whole search by two processes."""
    directory = tmp_path_factory.mktemp("hosts") / "joined"
    assert _codes(_start(directory)) == [0, 0]
    return directory


@pytest.mark.parametrize("num_devices", [1, 8])
def test_losses_are_those_of_one_process(built, joined, tmp_path, num_devices):
    """Of the first 20 steps; later, rounding grows."""
    trainings.fit(built, tmp_path, num_devices)
    np.testing.assert_allclose(_losses(tmp_path)[:4], _losses(joined)[:4], rtol=1e-5)


def test_trials_are_those_of_one_process(built, joined, tmp_path):
    """With the supernet that both trained."""
    shutil.copytree(joined / "checkpoints", tmp_path / "checkpoints")
    sweep.search(trainings.run_of(*built, tmp_path))
    alone, both = (json_files.read_jsonl(path / "trials.jsonl") for path in (tmp_path, joined))
    assert alone == both


def test_networks_are_shared_and_the_report_has_them_all(joined):
    config = tiny.get_config()
    found = [json_files.read_json(path) for path in joined.glob("retrain/*/*/*/*/result.json")]
    assert len(found) >= 2
    assert json_files.read_json(joined / "status.json")["status"] == "done"
    assert (joined / "report/report.md").exists()
    lead, other = (Path(f"{joined}{number}.log").read_text() for number in range(2))
    assert lead.count("retrain short  accuracy") == 1  # of two, so the other has one
    assert len([*joined.glob("retrain/short/*/*/*/result.json")]) == 2
    assert "retrain short  network 1 of 1" in lead
    assert "retrain" not in other  # only the lead process logs
    assert config.retrain.short.groups.random == 1


def test_networks_are_those_of_one_process(built, joined, tmp_path):
    """Each process trained one of the two, which train side by side in one process."""
    for name in ("trials.jsonl", "retrain/short/selection.json", "retrain/short/compile.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(joined / name, tmp_path / name)
    retrain.retrain(trainings.run_of(*built, tmp_path))
    networks = list(tmp_path.glob("retrain/short/F*/*/*/metrics.jsonl"))
    assert len(networks) == 2
    for path in networks:
        there = json_files.read_jsonl(joined / path.relative_to(tmp_path))
        losses = ([row["loss"] for row in rows] for rows in (json_files.read_jsonl(path), there))
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_request_to_one_stops_all_and_a_lost_one_ends_the_others(built, joined, tmp_path):
    """Then one process goes on, with as many devices; nothing is lost."""
    directory = tmp_path / "run"
    processes = _start(directory, "--mode=supernet")
    _after_lines(directory, 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    assert _codes(processes) == [143, 143]
    [step] = [int(path.name) for path in (directory / "interrupted").iterdir()]
    assert 15 < step < 40
    processes = _start(directory, "--mode=supernet")
    _after_lines(directory, step // 5 + 1, processes)
    processes[1].kill()
    assert _codes(processes) == [-signal.SIGABRT, -signal.SIGKILL]
    trainings.fit(built, directory, 4)
    np.testing.assert_allclose(_losses(directory), _losses(joined), rtol=1e-3)


def test_members_of_a_population_live_in_both_processes(tmp_path):
    """Four of them, with parents in the other one: who descends from whom, and the losses."""
    fields = test_population.FIELDS | {
        "supernet.train.num_steps": 15,
        "supernet.train.log_every": 1,
    }
    arguments = [f"--config.{k}={v}" for k, v in fields.items() if k not in FIELDS]
    directory, alone = tmp_path / "joined", tmp_path / "alone"
    assert _codes(_start(directory, "--mode=supernet", *arguments, num_devices=4)) == [0, 0]
    trainings.fit(trainings.built_with(tiny.get_config(), FIELDS | fields), alone, 8)
    np.testing.assert_allclose(_losses(alone), _losses(directory), rtol=1e-5)
    rows, expected = (lineage.read(path / "lineage.jsonl") for path in (directory, alone))
    assert [row["parents"] for row in rows] == [row["parents"] for row in expected]
    assert len(rows) == 4
    assert any(own // 2 != parent // 2 for row in rows for own, parent in enumerate(row["parents"]))


def test_processes_that_cannot_be_found_are_said(tmp_path):
    command = [sys.executable, "launch.py", "--distributed", *CONFIG, f"--workdir={tmp_path}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert "set JAX_COORDINATOR_ADDRESS" in found.stderr
