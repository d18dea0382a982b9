"""TensorBoard: curves in the folder `tensorboard/` of each training, and of the workdir.

    tensorboard/            train/loss, train/accuracy, ..; valid/accuracy or test/accuracy of a
                            network that was trained alone; valid/asked_accuracy of candidates that
                            are evaluated between the steps of a supernet
    tensorboard/sweep/      sweep/best, the best value so far; sweep/value, a histogram per round
    tensorboard/summary/    what runs are compared by (HParams), a drawing of the best architecture

`tensorboard --logdir=runs` shows all of them. A point is on the disk as soon as it is written. A
resumed run says from which step on TensorBoard drops what is there, so it shows every line once.
"""

import shutil
import time
from pathlib import Path

import numpy as np

from nas_jax.listeners import base, outcome, untold
from nas_jax.listeners.base import Listener
from nas_jax.runtime.events import Event
from nas_jax.storage import json_files, schemas

FOLDER = "tensorboard"
MOST_OPEN = 64  # files, of networks that train at once


class TensorBoard(Listener):
    """Writes TensorBoard's files, by tensorboardX."""

    in_every_process = True

    def __init__(self):
        self._files: dict[Path, _File] = {}
        self._best: dict[Path, float] = {}  # of the sweep in a folder

    def begin(self, event: Event) -> None:
        """Keep what the summary is made of, and write the points that the files lack."""
        self._begun = event
        steps = [point.step for point in _points(event.where / FOLDER / "sweep")]
        for one in untold.rounds(event, steps[-1] if steps else 0):
            self.candidates(one)
        for one in untold.networks(event):
            if not base.judged(one.values).keys() <= _tags(one.where / FOLDER):
                self.network(one)

    def metrics(self, event: Event) -> None:
        """Write a point of each curve."""
        file = self._file(event.where / FOLDER, event.step)
        file.write(event.step, scalars=base.tags(event.values))

    def candidates(self, event: Event) -> None:
        """Write the best value so far, and a histogram of the values of a round."""
        best, values = outcome.best_so_far(self._best.get(event.where), event)
        if best is not None:
            self._best[event.where] = best
            step = event.step + len(event.values)  # candidates that are evaluated
            file = self._file(event.where / FOLDER / "sweep", event.step + 1)
            file.write(step, scalars={"sweep/best": best}, histograms={"sweep/value": values})

    def network(self, event: Event) -> None:
        """Write what judges a network, at its last step."""
        folder = event.where / FOLDER
        file = self._files.pop(folder, None) or _File(folder)
        rows = json_files.read_jsonl(event.where / "metrics.jsonl", schemas.STEP)
        file.write(rows[-1]["step"] if rows else 0, scalars=base.judged(event.values))
        file.close()

    def end(self, event: Event) -> None:
        """Write the summary of a run that is done, in place of an earlier one."""
        while self._files:
            self._files.popitem()[1].close()
        config, space = self._begun.values["config"], self._begun.values["space"]
        best, numbers = outcome.of(event.where, space)
        if event.values["status"] == "done" and best is not None:
            folder = event.where / FOLDER / "summary"
            shutil.rmtree(folder, ignore_errors=True)
            file, step = _File(folder), json_files.count_lines(event.where / "trials.jsonl")
            file.write_hparams(outcome.compared(config), numbers)
            file.write(step, scalars=numbers, image=("best", outcome.drawing(space, best)))
            file.close()

    def _file(self, folder, first):
        """Return the file of a folder; a new one drops what there is from step `first` on."""
        file = self._files.pop(folder, None)
        if file is not None and first <= file.last:  # a training that began again
            file.close()
            file = None
        self._files[folder] = file = file or _File(folder, first)  # the last is the latest
        if len(self._files) > MOST_OPEN:
            self._files.pop(next(iter(self._files))).close()
        return file


def _points(folder):
    """Yield the points of all files of events in a folder, in order; a cut one ends its file."""
    for path in sorted(folder.glob("events.*")):
        from tensorboardX.proto import event_pb2

        content, at = path.read_bytes(), 0
        while at + 8 <= len(content):  # the length, its checksum, an event, its checksum
            size = int.from_bytes(content[at : at + 8], "little")
            if at + size + 16 > len(content):
                break
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
            if event.summary.value:
                yield event
            at += size + 16


def _tags(folder):
    return {value.tag for point in _points(folder) for value in point.summary.value}


class _File:
    """A file of events in a folder. Names of files are in the order in which they are made.

    tensorboardX's own writer has a thread and a queue for each folder, and waits for ever for a
    thread that a full disk has ended.
    """

    def __init__(self, folder, first=None):
        from tensorboardX.event_file_writer import EventsWriter  # a run begins sooner without
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("events.*")))
        self._writer = EventsWriter(str(folder / "events"), f".{number:04d}")
        self._event, self.last = event_pb2.Event, -1
        if first is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(step=first, session_log=start)

    def write(self, step, *, scalars, histograms=None, image=("", None)):
        """Write numbers, numbers [n] and a named PNG of a step."""
        from tensorboardX import summary
        from tensorboardX.proto.summary_pb2 import Summary

        self.last = step
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        for tag, numbers in (histograms or {}).items():
            if numbers:
                values += summary.histogram(tag, np.asarray(numbers), bins="auto").value
        tag, png = image
        if png is not None:
            width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
            drawn = {"width": width, "height": height, "colorspace": 4}  # RGBA
            values.append(
                Summary.Value(tag=tag, image=Summary.Image(**drawn, encoded_image_string=png))
            )
        self._add(step=step, summary=Summary(value=values))
        self._writer.flush()

    def write_hparams(self, fields, numbers):
        """Write the fields and the names of the numbers by which TensorBoard compares runs."""
        from tensorboardX import summary

        for part in summary.hparams(fields, numbers):
            self._add(summary=part)

    def close(self):
        self._writer.close()

    def _add(self, **content):
        self._writer.write_event(self._event(wall_time=time.time(), **content))
