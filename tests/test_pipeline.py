"""The stages of a mode: who may run them, and what status.json says of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nas_jax import config as config_lib
from nas_jax import pipeline
from nas_jax.candidates import sweep
from nas_jax.report import page
from nas_jax.standalone import retrain
from nas_jax.storage import json_files
from nas_jax.training import restoration, supernet
from tests import trainings
from tests.configs import tiny, tiny_study


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a run that ended, by a thread beside the main one."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    with ThreadPoolExecutor(1) as threads:
        threads.submit(pipeline.run, tiny.get_config(), "report", directory).result()
    return directory


def test_a_thread_beside_the_main_one_can_run_them(reported):
    assert json_files.read_json(reported / "status.json") == {"status": "done", "stage": "report"}
    assert (reported / "report" / "report.md").exists()


@pytest.mark.parametrize(
    ("config", "mode", "message"),
    [
        (tiny, "serch", "--mode='serch' is none of .*; nearest: 'search'"),
        (tiny, "", "--mode='' is none of supernet, .*; nearest: "),
        (tiny, "study", "config.study.parts is empty: --mode=study wants a config of configs/stud"),
        (tiny_study, "search", r"--mode=search, but config.study.parts=\('supernets', .*leave"),
        (tiny_study, "report", "--mode=report, but config.study.parts=.*: the config is a study"),
    ],
)
def test_a_mode_that_does_not_fit_is_refused_and_the_run_stays_as_it_was(
    reported, config, mode, message
):
    before = {path: path.stat().st_mtime_ns for path in reported.rglob("*")}
    with pytest.raises(ValueError, match=message):
        pipeline.run(config.get_config(), mode, reported)
    assert {path: path.stat().st_mtime_ns for path in reported.rglob("*")} == before


def test_a_run_knows_the_code_of_a_users_file(tmp_path, monkeypatch):
    """Changed code is other results: another folder, or the old code."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text("def one(run):\n    return lambda archs: [0.0] * len(archs[0]['ops'])\n")
    config = tiny.get_config()
    config.sweep.score = "mine.py:one"
    pipeline.run(config, "report", "run")
    pipeline.run(config, "report", "run")  # a report takes any results
    config.sweep.num_candidates = 8
    pipeline.run(config, "sweep", "other")
    file.write_text(file.read_text().replace("0.0", "1.0"))
    with pytest.raises(ValueError, match=r"other holds a run with other code: .* changed since"):
        pipeline.run(config, "sweep", "other")


def test_folders_are_given_as_strings_or_paths(tmp_path):
    """To every stage, as `stages.run` takes them."""
    config, here, there = tiny.get_config(), f"{tmp_path}/supernet", f"{tmp_path}/sweep"
    config.space.num_cells = config.space.num_blocks = 1
    config.supernet.train.num_steps = 10
    config_lib.retrain_nothing(config)
    built = trainings.build(config)
    supernet.train(trainings.run_of(*built, here))
    sweep.search(trainings.run_of(*built, there), supernet=here)
    retrain.retrain(trainings.run_of(*built, there))
    assert page.write(there, built[1]).exists()
    (state,) = restoration.restore(trainings.run_of(*built, here), here)
    assert state.step == 10
    assert len(json_files.read_trials(tmp_path / "sweep" / "trials.jsonl")) == 40


@pytest.mark.parametrize(
    ("stage", "error", "message"),
    [
        ("report", OSError(28, "No space left on device", "x"), "free some space"),
        ("report", OSError(30, "Read-only file system", "x"), "use a folder that can be written"),
        ("report", PermissionError(13, "Permission denied", "x"), "use a folder that can be"),
        ("sweep", MemoryError(), "MemoryError; sweep ran out of memory; lower sweep"),  # no text
    ],
)
def test_what_a_machine_lacks_is_explained(tmp_path, monkeypatch, stage, error, message):
    def run(*_):
        raise error

    monkeypatch.setitem(pipeline.STAGES, stage, run)
    with pytest.raises(ValueError, match=message):
        pipeline.run(tiny.get_config(), stage, tmp_path)
