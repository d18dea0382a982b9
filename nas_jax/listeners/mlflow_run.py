"""MLflow: a run of MLflow for each workdir, which a resumed run goes on with.

It is written to MLFLOW_TRACKING_URI, else to WORKDIR/mlflow.db, which
`mlflow ui --backend-store-uri=sqlite:///runs/x/mlflow.db` shows. The experiment is that of
MLFLOW_EXPERIMENT_NAME, else "nas_jax". The id is kept in WORKDIR/mlflow.json.
"""

import contextlib
import logging
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from nas_jax.listeners import base, outcome, untold
from nas_jax.listeners.base import Listener
from nas_jax.runtime.events import Event
from nas_jax.storage import json_files, schemas

FILE = "mlflow.json"
EXPERIMENT = "nas_jax"
_AT_ONCE = 100  # parameters that a server takes
_LONGEST = 6000  # characters of one
_STATUS = {"done": "FINISHED", "interrupted": "KILLED"}


class MLflowRun(Listener):
    """Logs a run to MLflow: the config, curves by step, the sweep by candidates, the outcome."""

    def begin(self, event: Event) -> None:
        """Begin the run at MLflow, or go on with it."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells how a database is made
        import mlflow

        self._mlflow, self._begun, self._best, self._there = mlflow, event, {}, {}
        place, given = event.where.absolute(), os.environ.get("MLFLOW_TRACKING_URI")
        self._client = mlflow.MlflowClient(given or f"sqlite:///{place}/mlflow.db")
        self._id = self._known_run() or self._new_run(None if given else place / "mlflow")
        self._log_config(event.values["config"])
        self._log_untold()

    def _known_run(self):
        """Return the id of the run of an earlier process, if the server knows it."""
        path = self._begun.where / FILE
        if not path.exists():
            return None
        known = json_files.read_json(path, {"id": schemas.TEXT})["id"]
        with contextlib.suppress(self._mlflow.exceptions.MlflowException):
            self._client.update_run(known, "RUNNING")
            return known
        return None

    def _new_run(self, artifacts):
        """Make a run; files of a new experiment lie in a folder, or where the server says."""
        name, workdir = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT), self._begun.where
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            place = artifacts and artifacts.as_uri()
            number = self._client.create_experiment(name, artifact_location=place)
        else:
            number = experiment.experiment_id
        made = self._client.create_run(number, run_name=workdir.name).info.run_id
        json_files.write_json(workdir / FILE, {"id": made})
        return made

    def _log_config(self, config):
        """Log the fields as parameters; one that changed since, which MLflow refuses, as a tag."""
        there = self._client.get_run(self._id).data.params
        texts = {name: str(outcome.plain(value))[:_LONGEST] for name, value in config.items()}
        new = [self._mlflow.entities.Param(n, x) for n, x in texts.items() if n not in there]
        for first in range(0, len(new), _AT_ONCE):
            self._client.log_batch(self._id, params=new[first : first + _AT_ONCE])
        for name, text in texts.items():
            if there.get(name, text) != text:
                self._client.set_tag(self._id, name, text)

    def _log_untold(self):
        """Log what the files have and the server lacks."""
        logged = self._client.get_run(self._id).data.metrics
        for event in untold.rounds(self._begun, max(self._points("sweep/best"), default=0)):
            self.candidates(event)
        for event in untold.networks(self._begun):
            prefix = base.folder_name(event.where, self._begun)
            if not {prefix + name for name in base.judged(event.values)} <= logged.keys():
                self.network(event)

    def _points(self, name):
        """Return the points of a metric at the server: {step: its values}."""
        found = defaultdict(set)
        for point in self._client.get_metric_history(self._id, name):
            found[point.step].add(point.value)
        return found

    def metrics(self, event: Event) -> None:
        """Log a line of a training, unless an earlier process has logged the same."""
        prefix, tags = base.folder_name(event.where, self._begun), base.tags(event.values)
        if prefix not in self._there:
            self._there[prefix] = self._points(f"{prefix}train/loss")
        if tags.get("train/loss") not in self._there[prefix].get(event.step, ()):
            self._log(prefix, tags, event.step)

    def candidates(self, event: Event) -> None:
        """Log the best value so far."""
        best, _ = outcome.best_so_far(self._best.get(event.where), event)
        if best is not None:
            self._best[event.where] = best
            prefix = base.folder_name(event.where, self._begun)
            self._log(prefix, {"sweep/best": best}, event.step + len(event.values))

    def network(self, event: Event) -> None:
        """Log what judges a network that was trained alone."""
        self._log(base.folder_name(event.where, self._begun), base.judged(event.values), 0)

    def end(self, event: Event) -> None:
        """Log the best architecture, and end the run at MLflow, whatever happens."""
        try:
            self._log_best(event)
        finally:
            self._client.set_terminated(self._id, _STATUS.get(event.values["status"], "FAILED"))

    def _log_best(self, event):
        space = self._begun.values["space"]
        text, numbers = outcome.of(event.where, space)
        if text is not None:
            self._log("", numbers, 0)
            self._client.set_tag(self._id, "best/arch", text)
            if png := outcome.drawing(space, text):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "best.png"
                    path.write_bytes(png)
                    self._client.log_artifact(self._id, str(path))

    def _log(self, prefix, numbers, step):
        now = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        rows = [metric(prefix + name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=rows)
