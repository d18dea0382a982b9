"""Weights & Biases: a run of W&B for each workdir, which a resumed run goes on with.

Project, entity, mode and key are those of W&B's own settings (WANDB_PROJECT, WANDB_ENTITY,
WANDB_MODE, `wandb login`); the project is "nas_jax" if they name none. The id is kept in
WORKDIR/wandb.json, W&B's files in WORKDIR/wandb/.

W&B takes a line as often as it is given, and offline it cannot be asked. So a folder's wandb.jsonl
has a mark for each line that W&B has on the disk. It writes what it was given up to 15 seconds
later, and a kill loses that: a line gets its mark after a minute, or when the run ends.
"""

import collections
import io
import math
import os
import re
import secrets
import time
from pathlib import Path

from nas_jax.listeners import base, outcome, untold
from nas_jax.listeners.base import Listener
from nas_jax.runtime.events import Event
from nas_jax.storage import json_files, schemas

FILE, LOGGED = "wandb.json", "wandb.jsonl"
PROJECT = "nas_jax"
CERTAIN = 60  # seconds after which a line is on the disk
_MARK = {"run": schemas.TEXT}  # of a line, beside the numbers that tell it from others
_STEP, _CANDIDATES = "train/step", "sweep/candidates"


class WandbRun(Listener):
    """Logs a run to W&B: curves by step, the sweep by candidates, and the outcome."""

    def begin(self, event: Event) -> None:
        """Begin the run at W&B, or go on with it."""
        import wandb

        self._wandb, self._begun, self._best = wandb, event, {}
        self._named, self._known, self._waiting = set(), {}, collections.deque()
        config = {name: outcome.plain(value) for name, value in event.values["config"].items()}
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=_id_of(event.where),
            name=event.where.name,
            dir=str(event.where),
            resume="allow",
            reinit="create_new",  # threads have runs of their own
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.config.update(config, allow_val_change=True)  # a sweep may have grown
        counts = (dict(mark).get(_CANDIDATES, 0) for mark in self._logged(event.where))
        for one in untold.rounds(event, max(counts, default=0)):
            self.candidates(one)
        for one in untold.networks(event):  # to say the same of one again changes nothing
            self.network(one)

    def metrics(self, event: Event) -> None:
        """Log a line of a training, unless an earlier process has logged the same."""
        tags = base.tags(event.values)
        mark = {_STEP: event.step, "train/loss": tags.get("train/loss")}
        if frozenset(mark.items()) not in self._logged(event.where):
            self._log(event.where, tags | {_STEP: event.step}, mark)

    def candidates(self, event: Event) -> None:
        """Log the values of a round, and the best so far."""
        best, values = outcome.best_so_far(self._best.get(event.where), event)
        if best is not None:
            self._best[event.where] = best
            row = {_CANDIDATES: event.step + len(event.values), "sweep/best": best}
            if values:
                row["sweep/value"] = self._wandb.Histogram(values)
            self._log(event.where, row, {_CANDIDATES: row[_CANDIDATES]})

    def network(self, event: Event) -> None:
        """Log what judges a network that was trained alone."""
        prefix = base.folder_name(event.where, self._begun)
        self._run.summary.update({prefix + n: x for n, x in base.judged(event.values).items()})

    def end(self, event: Event) -> None:
        """Log the best architecture, and end the run at W&B, whatever happens."""
        try:
            self._log_best(event)
        finally:
            self._run.finish(exit_code=int(event.values["status"] != "done"))
            self._mark(math.inf)

    def _log_best(self, event):
        space = self._begun.values["space"]
        text, numbers = outcome.of(event.where, space)
        if text is not None:
            self._run.summary.update({"best/arch": text, **numbers})
            if png := outcome.drawing(space, text):
                from PIL import Image

                self._run.log({"best/drawing": self._wandb.Image(Image.open(io.BytesIO(png)))})

    def _log(self, folder, row, mark):
        """Log a row of a folder; each of its curves has the step of its own.

        Args:
          mark: what tells it from others, in wandb.jsonl.
        """
        prefix = base.folder_name(folder, self._begun)
        if prefix not in self._named:
            self._named.add(prefix)
            for names, step in (("train", _STEP), ("valid", _STEP), ("sweep", _CANDIDATES)):
                self._run.define_metric(f"{prefix}{names}/*", step_metric=prefix + step)
        self._run.log({prefix + name: value for name, value in row.items()})
        now = time.monotonic()
        self._waiting.append((now, folder / LOGGED, {"run": self._run.id, **mark}))
        self._mark(now - CERTAIN)

    def _mark(self, before):
        """Write the marks of the lines that were logged before a time."""
        while self._waiting and self._waiting[0][0] <= before:
            _, path, mark = self._waiting.popleft()
            json_files.append_jsonl(path, [mark])

    def _logged(self, folder):
        """Return the marks that earlier processes left in a folder."""
        if folder not in self._known:
            json_files.mend_jsonl(folder / LOGGED)
            rows = json_files.read_jsonl(folder / LOGGED, _MARK)
            mine = (row for row in rows if row.pop("run") == self._run.id)
            self._known[folder] = {frozenset(row.items()) for row in mine}
        return self._known[folder]


def _id_of(workdir: Path) -> str:
    """Return the id of the run at W&B: that in the workdir, or a new one of the folder's name."""
    path = workdir / FILE
    if not path.exists():
        name = re.sub(r"[^\w-]", "-", workdir.name)
        json_files.write_json(path, {"id": f"{name}-{secrets.token_hex(4)}"})
    return json_files.read_json(path, {"id": schemas.TEXT})["id"]
