"""Metrics of a training: metrics.jsonl, an event for each line, and a readable one in the log."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nas_jax.runtime import events, progress
from nas_jax.storage import json_files

logger = logging.getLogger(__name__)

# Steps that may wait on the devices. More would not make the devices busier. On several CPU devices
# they could take all threads: steps of one device would then wait for those of another for ever.
MAX_AHEAD = 2
FILE = "metrics.jsonl"


class Diverged(FloatingPointError):
    """The loss became NaN or infinite; the message names the step and the last checkpoint."""


class Progress:
    """Collects the metrics of every step and writes their means each `log_every` steps.

    Metrics stay on the device until then, so that steps are dispatched ahead. They are float32 [],
    or [M] if M networks train at once; the log then has means over the networks.

    Args:
      directories: of each network; it gets metrics.jsonl. Lines after step `start` are dropped,
        since the run writes them again.
      name: of the run, in the log.
      start: steps done already.
      total: steps in all.
      log_every: steps per line.
      batch_size: images per step.
      pending: `Progress.pending` of the run that was interrupted at `start`; {} without one.
      leads: whether this process writes the files.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        name: str,
        *,
        start: int,
        total: int,
        log_every: int,
        batch_size: int,
        pending: dict | None = None,
        leads: bool = True,
    ):
        self._name, self._total, self._num_networks = name, total, len(directories)
        self._log_every, self._batch_size = log_every, batch_size
        self._directories = directories if leads else []
        for directory in self._directories:
            json_files.cut_jsonl(directory / FILE, start)
        pending = {"rows": [], "known": {}} | (pending or {})
        self._pending: list[Any] = [
            {name: np.float32(value) for name, value in row.items()} for row in pending["rows"]
        ]
        self._extra = pending["known"]
        self._timed, self._since = 0, None  # steps since the last line, and its time
        self._made = time.perf_counter()

    @property
    def pending(self) -> dict:
        """The metrics since the last line, as plain data that restores float32 values exactly."""
        rows = jax.device_get(self._pending)
        rows = [{name: np.asarray(x).tolist() for name, x in row.items()} for row in rows]
        return {"rows": rows, "known": self._numbers()}

    def add_extra(self, **extra: float | jax.Array) -> None:
        """Set the numbers that the next line has beside the means; they may still be computed."""
        self._extra = extra

    def _numbers(self):
        return {name: float(value) for name, value in jax.device_get(self._extra).items()}

    def add(self, step: int, metrics: dict[str, jax.Array], last_checkpoint: int | None) -> bool:
        """Take one step's metrics, and return whether a line is due: then `write` must follow.

        Raises: Diverged if the loss since the last line is not finite; of many networks, of all.
        """
        self._pending.append(metrics)
        if self._since is None:  # the first step compiles: the clock starts after it
            jax.block_until_ready(metrics)
            self._since = time.perf_counter()
            took = self._since - self._made
            if took >= 1:  # else the program was there
                logger.info("%s  first step after %.0f s, compilation included", self._name, took)
        else:
            self._timed += 1
            jax.block_until_ready(self._pending[-1 - MAX_AHEAD : -MAX_AHEAD])
        progress.done(step / self._total)
        if step % self._log_every and step != self._total:
            return False
        rows = jax.device_get(self._pending)
        self._means = {name: _means([row[name] for row in rows]) for name in rows[0]}
        if not np.isfinite(self._means["loss"]).any():
            raise Diverged(
                f"{self._name}: the loss is {self._means['loss'][0]} by step {step}; last good "
                f"checkpoint: {last_checkpoint or 'none'}. Lower train.base_lr "
                "of its section, supernet or retrain.short or .final, or set train.clip_norm"
            )
        return True

    def write(self, step: int, **extra: float) -> None:
        """Write the line of `step`: the means since the last line, and further numbers."""
        now = time.perf_counter()
        speed = max(self._timed, 1) * self._batch_size / (now - self._since)
        common = {**extra, **self._numbers(), "images_per_second": round(speed, 1)}
        for number, directory in enumerate(self._directories):
            means = {name: values[number] for name, values in self._means.items()}
            row = json_files.finite({"step": step, **means, **common})
            json_files.append_jsonl(directory / FILE, [row])
            events.emit("metrics", directory, row, step)
        left = (self._total - step) * self._batch_size / speed
        loss, accuracy = (np.nanmean(self._means[name]) for name in ("loss", "accuracy"))
        logger.info(
            "%s  step %d/%d  loss %.3f  accuracy %.1f %%  %.0f images/s  %s left%s",
            self._name,
            step,
            self._total,
            loss,
            100 * accuracy,
            speed * self._num_networks,
            progress.duration(left),
            progress.left(),
        )
        self._pending, self._extra, self._timed, self._since = [], {}, 0, now


def _means(values):
    """Return the mean over steps of values [] or [M], one for each network."""
    columns = np.stack([np.atleast_1d(value) for value in values], 1)
    return [float(np.mean(column)) for column in columns]
