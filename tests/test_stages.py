"""The stages of a mode: who may run them, and what status.json says of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nas_jax import stages, workdir
from tests.configs import tiny, tiny_study


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a run that ended, by a thread beside the main one."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    with ThreadPoolExecutor(1) as threads:
        threads.submit(stages.run, tiny.get_config(), "report", directory).result()
    return directory


def test_a_thread_beside_the_main_one_can_run_them(reported):
    assert workdir.read_json(reported / "status.json") == {"status": "done", "stage": "report"}
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
        stages.run(config.get_config(), mode, reported)
    assert {path: path.stat().st_mtime_ns for path in reported.rglob("*")} == before
