"""Files of a run: nothing half-written is believed, nothing of another run is overwritten."""

import itertools
import json
import math
import re
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from nas_jax.storage import checkpoints, schemas, workdir
from nas_jax.training import metrics as metrics_lib


class State(NamedTuple):
    params: Any
    step: Any


# -- files ----------------------------------------------------------------------------------------


def test_write_text_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "report.md"
    for text in ("a long first text\n", "short ä\n"):
        workdir.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "status.json"
    workdir.write_json(path, {"status": "running"})
    with pytest.raises(TypeError):
        workdir.write_json(path, {"status": object()})
    assert workdir.read_json(path) == {"status": "running"}


def test_json_holds_plain_numbers_and_null_for_nan(tmp_path):
    path = tmp_path / "a.json"
    given = {"nan": math.nan, "deep": [{"inf": -math.inf}], "np": np.float32(0.5), 1: np.arange(2)}
    workdir.write_json(path, given)
    expected = {"nan": None, "deep": [{"inf": None}], "np": 0.5, "1": [0, 1]}
    assert json.loads(path.read_text()) == expected == workdir.read_json(path)


def test_what_is_not_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        workdir.read_json(tmp_path / "a.json")


def test_jsonl_grows_by_lines(tmp_path):
    path = tmp_path / "deep" / "trials.jsonl"
    assert workdir.read_jsonl(path) == []
    workdir.append_jsonl(path, [{"a": 1}, {"a": math.nan}])
    workdir.append_jsonl(path, [{"a": np.float64(0.25)}])
    assert path.read_text() == '{"a": 1}\n{"a": null}\n{"a": 0.25}\n'
    assert workdir.read_jsonl(path) == [{"a": 1}, {"a": None}, {"a": 0.25}]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_last_line_cut_short_is_left_out_with_a_warning(tmp_path, cut):
    path = tmp_path / "trials.jsonl"
    workdir.append_jsonl(path, [{"a": 1}, {"a": 22}])
    path.write_bytes(path.read_bytes()[:-cut])  # of '{"a": 22}\n'; 1 takes the line's end only
    with pytest.warns(UserWarning, match=r"trials\.jsonl: the last line was cut short"):
        assert workdir.read_jsonl(path) == [{"a": 1}]


def test_lines_appended_after_a_cut_can_be_read(tmp_path):
    """A killed run left half a line; the next appends behind it: only that half is lost."""
    path = tmp_path / "trials.jsonl"
    workdir.append_jsonl(path, [{"a": 1}, {"a": 2}])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.warns(UserWarning, match="cut short"):
        workdir.mend_jsonl(path)
    workdir.append_jsonl(path, [{"a": 3}])
    assert workdir.read_jsonl(path) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize(
    ("end", "kept"),
    [("", 1000), ('{"step": 1000, "lo', 1000), ('{"step": 2\n', 1000), ('{"step": 2000}\n', 1000)],
)
@pytest.mark.parametrize("step", [-1, 0, 500, 999, 5000])
@pytest.mark.filterwarnings("ignore:.*the last line")
def test_rows_after_a_step_are_cut_and_only_the_end_is_read(tmp_path, monkeypatch, end, kept, step):
    path, read = tmp_path / "metrics.jsonl", []
    lines = [json.dumps({"step": number}) + "\n" for number in range(kept)]
    path.write_text("".join(lines) + end)
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    workdir.cut_jsonl(path, step)
    later = [end] if end.endswith("0}\n") and step == 5000 else []
    assert path.read_text() == "".join(lines[: step + 1] + later)
    assert len(read) <= max(0, kept - 1 - step) + 2


def test_no_more_than_one_line_is_dropped(tmp_path):
    """As where all are of another make."""
    path = tmp_path / "trials.jsonl"
    workdir.append_jsonl(path, [{"a": 1}, {"a": 2}, {"a": 3}])
    with pytest.warns(UserWarning, match="the last line is damaged"):
        workdir.mend_jsonl(path, schemas.TRIAL)
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_a_damaged_line_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(
        ValueError, match=r"trials\.jsonl, line 2 is damaged: '\{\"a\":' is not JSON"
    ):
        workdir.read_jsonl(path)


# -- whose folder it is ---------------------------------------------------------------------------

CONFIG = {"seed": 0, "train": {"base_lr": 0.1, "filters": (16, 32)}, "l2": math.nan}


def test_a_workdir_is_opened_again_by_its_own_config(tmp_path):
    for _ in range(2):  # a tuple and NaN come back as a list and null, and are no difference
        workdir.open_workdir(tmp_path / "run", CONFIG, {"fingerprint": "f0"})
    expected = {"seed": 0, "train": {"base_lr": 0.1, "filters": [16, 32]}, "l2": None}
    assert workdir.read_json(tmp_path / "run" / "config.json") == expected
    versions = workdir.read_json(tmp_path / "run" / "versions.json")
    assert versions["jax"] == jax.__version__
    assert {"python", "nas_jax", "flax", "optax"} <= versions.keys()


def test_a_workdir_of_another_config_is_refused_and_kept(tmp_path):
    run = tmp_path / "run"
    workdir.open_workdir(run, CONFIG, {"fingerprint": "f0"})
    before = (run / "config.json").read_bytes()
    (tmp_path / "run-2").mkdir()
    other = {**CONFIG, "seed": 7, "train": {"base_lr": 0.2, "filters": (16, 32)}}
    message = (
        rf"--workdir={run} .*: seed is 0 there and 7 here; train\.base_lr is 0\.1 there and 0\.2 "
        rf"here\..* --workdir={tmp_path / 'run-3'}$"
    )
    with pytest.raises(ValueError, match=message):
        workdir.open_workdir(run, other, {"fingerprint": "f0"})
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c is 1 there and 2 here"]),
        ({"a": 1}, {"b": 1}, ["a is 1 there and 'absent' here", "b is 'absent' there and 1 here"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a is {'b': 1} there and 1 here"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a is [1, 2] there and [1, 3] here"]),
    ],
)
def test_differences_name_nested_fields(old, new, expected):
    assert list(workdir.differences(old, new)) == expected


def test_status_says_what_is_known(tmp_path):
    workdir.set_status(tmp_path, "running", stage="sweep")
    workdir.set_status(tmp_path, "diverged", stage="supernet", error="the loss is nan")
    expected = {"status": "diverged", "stage": "supernet", "error": "the loss is nan"}
    assert workdir.read_json(tmp_path / "status.json") == expected


# -- checkpoints ----------------------------------------------------------------------------------


def make_state(seed, width=3):
    values = np.random.default_rng(seed).normal(size=(2, width))
    params = {
        "dense": {"kernel": jnp.asarray(values, jnp.float32)},
        "half": jnp.asarray(values[0], jnp.bfloat16),
        "key": jax.random.key_data(jax.random.key(seed)),
    }
    return State(params, jnp.int32(seed))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder to which the steps 10, 20 and 30 were saved."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoints.Checkpoints(folder, keep=2) as made:
        assert made.latest is None
        for step in (10, 20, 30):
            made.save(step, make_state(step))
    return folder


def test_the_latest_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["20", "30"]
    with checkpoints.Checkpoints(saved) as made:
        assert made.latest == 30


@pytest.mark.parametrize("step", [20, 30])
def test_a_state_comes_back_bit_for_bit(saved, step):
    with checkpoints.Checkpoints(saved) as made:
        restored = made.restore(step, jax.eval_shape(lambda: make_state(0)))
    expected = make_state(step)
    assert isinstance(restored, State)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_all_are_kept_where_none_is_to_go(tmp_path):
    with checkpoints.Checkpoints(tmp_path / "c") as made:
        for step in (1, 2, 3):
            made.save(step, make_state(step))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("wider", "params.dense.kernel is float32[2, 3] there and float32[2, 4] here"),
        ("one more", "params.bias is absent there and float32[2] here"),
        ("one less", "params.half is bfloat16[3] there and absent here"),
        ("another dtype", "params.half is bfloat16[3] there and float32[3] here"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(saved, change, message):
    state = make_state(0, width=4 if change == "wider" else 3)
    if change == "one more":
        state.params["bias"] = jnp.zeros(2)
    if change == "one less":
        del state.params["half"]
    if change == "another dtype":
        state.params["half"] = jnp.zeros(3)
    with (
        checkpoints.Checkpoints(saved) as made,
        pytest.raises(
            ValueError, match=f"checkpoint {saved}/30 does not fit.*{re.escape(message)}"
        ),
    ):
        made.restore(30, state)


# -- progress -------------------------------------------------------------------------------------


def report(folder, losses, *, start=0, log_every=2, last_checkpoint=None):
    """Report these losses for the steps after `start`."""
    total = start + len(losses)
    with metrics_lib.Progress(
        folder, "run", start=start, total=total, log_every=log_every, batch_size=8
    ) as made:
        for step, loss in enumerate(losses, start + 1):
            metrics = {"loss": jnp.float32(loss), "accuracy": jnp.float32(loss / 8)}
            if made.add(step, metrics, last_checkpoint):
                made.write(step, learning_rate=0.1 * step)
    return workdir.read_jsonl(folder / "metrics.jsonl")


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
    assert [row["step"] for row in workdir.read_jsonl(tmp_path / "metrics.jsonl")] == [2]
    assert issubclass(metrics_lib.Diverged, FloatingPointError)
