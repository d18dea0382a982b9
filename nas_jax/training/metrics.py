"""Metrics of a training: metrics.jsonl, TensorBoard and a readable line in the log."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from nas_jax.storage import json_files

logger = logging.getLogger(__name__)

# Steps that may wait on the devices. More would not make the devices busier. On several CPU devices
# they could take all threads: steps of one device would then wait for those of another for ever.
MAX_AHEAD = 2


class Diverged(FloatingPointError):
    """The loss became NaN or infinite; the message names the step and the last checkpoint."""


class Progress:
    """Collects the metrics of every step and writes their means each `log_every` steps.

    Metrics stay on the device until then, so that steps are dispatched ahead.

    Args:
      directory: gets metrics.jsonl and tensorboard/; lines after step `start` are dropped, since
        the run writes them again.
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
        directory: Path,
        name: str,
        *,
        start: int,
        total: int,
        log_every: int,
        batch_size: int,
        pending: dict | None = None,
        leads: bool = True,
    ):
        self._path, self._name, self._total = directory / "metrics.jsonl", name, total
        self._log_every, self._batch_size = log_every, batch_size
        self._writer = None
        if leads:
            json_files.cut_jsonl(self._path, start)
            # TensorBoard drops what an earlier process wrote from that step on, itself included.
            self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1)
        pending = {"rows": [], "known": {}} | (pending or {})
        self._pending: list[Any] = [
            {name: np.float32(value) for name, value in row.items()} for row in pending["rows"]
        ]
        self._extra = pending["known"]
        self._timed, self._since = 0, None  # steps since the last line, and its time
        self._made = time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._writer:
            self._writer.close()

    @property
    def pending(self) -> dict:
        """The metrics since the last line, as plain data that restores float32 values exactly."""
        rows = jax.device_get(self._pending)
        rows = [{name: float(value) for name, value in row.items()} for row in rows]
        return {"rows": rows, "known": self._extra}

    def add_extra(self, **extra: float) -> None:
        """Set the numbers that the next line has beside the means."""
        self._extra = {name: float(value) for name, value in extra.items()}

    def add(self, step: int, metrics: dict[str, jax.Array], last_checkpoint: int | None) -> bool:
        """Take one step's metrics, and return whether a line is due: then `write` must follow.

        Raises: Diverged if the loss since the last line is not finite.
        """
        self._pending.append(metrics)
        if self._since is None:  # the first step compiles: the clock starts after it
            jax.block_until_ready(metrics)
            self._since = time.perf_counter()
            took = self._since - self._made
            logger.info("%s  first step after %.0f s, compilation included", self._name, took)
        else:
            self._timed += 1
            jax.block_until_ready(self._pending[-1 - MAX_AHEAD : -MAX_AHEAD])
        if step % self._log_every and step != self._total:
            return False
        rows = jax.device_get(self._pending)
        self._means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
        if not math.isfinite(self._means["loss"]):
            raise Diverged(
                f"{self._name}: the loss is {self._means['loss']} by step {step}; last good "
                f"checkpoint: {last_checkpoint or 'none'}. Lower train.base_lr, or set "
                "train.clip_norm"
            )
        return True

    def write(self, step: int, **extra: float) -> None:
        """Write the line of `step`: the means since the last line, and further numbers."""
        now = time.perf_counter()
        speed = max(self._timed, 1) * self._batch_size / (now - self._since)
        row = {**self._means, **extra, **self._extra, "images_per_second": round(speed, 1)}
        if self._writer:
            json_files.append_jsonl(self._path, [{"step": step, **row}])
            for key, value in row.items():
                self._writer.add_scalar(key, value, step)
        left = (self._total - step) * self._batch_size / speed
        logger.info(
            "%s  step %d/%d  loss %.3f  accuracy %.1f %%  %.0f images/s  %s left",
            self._name,
            step,
            self._total,
            row["loss"],
            100 * row["accuracy"],
            speed,
            f"{left / 60:.0f} min" if left > 120 else f"{left:.0f} s",
        )
        self._pending, self._extra, self._timed, self._since = [], {}, 0, now
