"""MLflow, in a database of the workdir. Skipped where mlflow is not installed."""

import pytest

from nas_jax.listeners import mlflow_run
from nas_jax.runtime import events
from tests.listeners import runs

mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install -e '.[mlflow]'")

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def local(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def process():
    """The listener of a new process."""
    return events.listening({"mlflow": mlflow_run.MLflowRun()})


def read(workdir):
    """(client, the one run) of a workdir."""
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/mlflow.db")
    experiment = client.get_experiment_by_name("nas_jax")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def points(client, run, name):
    """[(step, value)] of a metric."""
    return [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]


def test_a_run_is_logged_and_a_resumed_one_goes_on_with_it(tmp_path):
    """In one database, of which the making takes most of the time."""
    workdir = tmp_path / "my run"
    workdir.mkdir()
    with process():
        runs.begin(workdir, **{"sweep.num_candidates": 8})
        runs.train(workdir, [4.0, 3.0, 2.0])
        runs.sweep(workdir, runs.rows()[:8], killed_after=4)
        runs.network(workdir, 0, 0.5, killed=True)
        runs.end(workdir, "interrupted")
    client, run = read(workdir)
    assert (run.info.run_name, run.info.status) == ("my run", "KILLED")
    with process():
        runs.begin(workdir)
        runs.train(workdir, [3.0, 2.0, 1.0], start=1)  # two lines of which it had before
        runs.train(workdir, [0.5], start=3)  # as after a loss that is not finite
        runs.sweep(workdir, runs.rows())
        runs.network(workdir, 1, 0.75)
        runs.end(workdir)
    client, run = read(workdir)
    assert run.info.status == "FINISHED"
    losses = [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0), (4, 0.5)]
    assert points(client, run, "train/loss") == losses
    assert points(client, run, "sweep/best") == [(4, 0.5), (8, 0.75), (12, 0.75)]
    params, tags = run.data.params, run.data.tags
    assert params["sweep.num_candidates"] == "8"  # MLflow changes none
    assert tags["sweep.num_candidates"] == "12"
    assert len(params) == len(runs.config())
    networks = f"retrain/final/F4/{runs.arch_id(runs.ARCHS[runs.BEST])}"
    assert points(client, run, f"{networks}/seed0/test/accuracy") == [(0, 0.5)]
    assert points(client, run, f"{networks}/seed1/test/accuracy") == [(0, 0.75)]
    assert run.data.metrics[f"{networks}/seed1/train/loss"] == 1.0
    assert run.data.metrics["best/F4/test/accuracy"] == 0.625
    assert tags["best/arch"] == runs.ARCHS[runs.BEST]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["best.png"]
