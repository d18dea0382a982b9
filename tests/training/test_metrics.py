"""metrics.jsonl and TensorBoard: means of lines, resumed runs, losses that are not finite."""

import itertools
import math
import time

import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from nas_jax.storage import json_files
from nas_jax.training import metrics as metrics_lib


def report(folder, losses, *, start=0, log_every=2, last_checkpoint=None):
    """Report these losses for the steps after `start`."""
    total = start + len(losses)
    with metrics_lib.Progress(
        [folder], "run", start=start, total=total, log_every=log_every, batch_size=8
    ) as made:
        for step, loss in enumerate(losses, start + 1):
            metrics = {"loss": jnp.float32(loss), "accuracy": jnp.float32(loss / 8)}
            if made.add(step, metrics, last_checkpoint):
                made.write(step, learning_rate=0.1 * step)
    return json_files.read_jsonl(folder / "metrics.jsonl")


def test_a_line_holds_the_means_since_the_last_one(tmp_path):
    """Every second step and the last: (1 + 3) / 2, (5 + 2) / 2, then 4 alone."""
    rows = report(tmp_path, [1, 3, 5, 2, 4])
    speeds = [row.pop("images_per_second") for row in rows]
    assert all(speed > 0 for speed in speeds)
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert [row["loss"] for row in rows] == [2.0, 3.5, 4.0]
    assert [row["accuracy"] for row in rows] == [0.25, 0.4375, 0.5]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.2, 0.4, 0.5])
    assert all(row.keys() == {"step", "loss", "accuracy", "learning_rate"} for row in rows)


def events(folder):
    """What processes wrote for TensorBoard, in order."""
    for path in sorted(folder.glob("tensorboard/events.out.tfevents.*")):
        content = path.read_bytes()
        while content:  # length, its checksum, an event, its checksum
            size = int.from_bytes(content[:8], "little")
            yield event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def curves(folder):
    """{name: {step: value}} that TensorBoard shows: a start drops all from its step on."""
    shown = {}
    for event in events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            for points in shown.values():
                for step in [step for step in points if step >= event.step]:
                    del points[step]
        for value in event.summary.value:
            points = shown.setdefault(value.tag, {})
            assert event.step not in points
            points[event.step] = value.simple_value
    return shown


def test_tensorboard_shows_every_line_once_wherever_a_run_was_resumed(tmp_path, monkeypatch):
    """From a checkpoint, of which the line stays; from the start, where there was none."""
    monkeypatch.setattr(time, "time", itertools.count(1e9).__next__)  # files are named by seconds
    report(tmp_path, [1] * 7, log_every=5)
    report(tmp_path, [2] * 36, log_every=5)
    rows = report(tmp_path, [3] * 10, start=30, log_every=5)
    shown = curves(tmp_path)
    assert shown.keys() == {"loss", "accuracy", "learning_rate", "images_per_second"}
    assert shown["loss"] == {row["step"]: row["loss"] for row in rows}
    assert shown["loss"] == {**dict.fromkeys(range(5, 35, 5), 2), 35: 3, 40: 3}


def test_a_resumed_run_writes_the_lines_after_its_checkpoint_again(tmp_path):
    report(tmp_path, [1, 1, 1, 1, 1, 1])  # lines 2, 4 and 6; the last checkpoint was of step 4
    rows = report(tmp_path, [9, 9, 9, 9], start=4)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 1), (4, 1), (6, 9), (8, 9)]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize(("last", "said"), [(2, "checkpoint: 2"), (None, "checkpoint: none")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, loss, last, said):
    with pytest.raises(metrics_lib.Diverged, match=f"run: the loss is {loss} by step 4; .*{said}"):
        report(tmp_path, [1, 1, loss, 1], last_checkpoint=last)
    assert [row["step"] for row in json_files.read_jsonl(tmp_path / "metrics.jsonl")] == [2]
    assert issubclass(metrics_lib.Diverged, FloatingPointError)
