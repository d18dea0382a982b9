"""The stages of a mode: who may run them, and what status.json says of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nas_jax import stages, workdir
from tests.configs import tiny


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
