"""metrics.jsonl: means of lines, resumed runs, losses that are not finite."""

import math

import jax.numpy as jnp
import pytest

from nas_jax.storage import json_files
from nas_jax.training import metrics as metrics_lib


def report(folder, losses, *, start=0, log_every=2, last_checkpoint=None):
    """Report these losses for the steps after `start`."""
    total = start + len(losses)
    made = metrics_lib.Progress(
        [folder], "run", start=start, total=total, log_every=log_every, batch_size=8
    )
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
