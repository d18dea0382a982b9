"""TensorBoard's files: what is in them, once each, wherever a run was stopped."""

import io
import itertools
import math
import time

import pytest
from PIL import Image
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from nas_jax.listeners import outcome, tensorboard
from nas_jax.runtime import events
from tests.listeners import runs


@pytest.fixture(autouse=True)
def in_one_second(monkeypatch):
    """All files are named by the same second."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 + next(ticks) / 1e6)


def written(folder):
    """What processes wrote in a folder, in order, as TensorBoard reads it: whole events alone."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:  # length, its checksum, an event, its checksum
            size = int.from_bytes(content[:8], "little")
            if len(content) < 16 + size:
                break
            yield event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def shown(folder):
    """{tag: {step: value}} that TensorBoard shows: a start drops all from its step on."""
    found = {}
    for event in written(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            for points in found.values():
                for step in [step for step in points if step >= event.step]:
                    del points[step]
        for value in event.summary.value:
            points = found.setdefault(value.tag, {})
            assert event.step not in points
            points[event.step] = value
    return found


def curves(folder):
    """{tag: {step: number}} of its curves."""
    return {
        tag: {step: value.simple_value for step, value in points.items()}
        for tag, points in shown(folder / "tensorboard").items()
        if any(value.HasField("simple_value") for value in points.values())
    }


def process():
    """The listener of a new process."""
    return events.listening({"tensorboard": tensorboard.TensorBoard()})


def test_a_resumed_run_shows_every_line_once(tmp_path):
    """From the start, where there was no checkpoint; from step 3; and again in one process."""
    with process():
        runs.train(tmp_path, [1.0] * 4)
    with process():
        runs.train(tmp_path, [2.0] * 5)
    with process():
        runs.train(tmp_path, [3.0] * 2, start=3)
        runs.train(tmp_path, [4.0] * 3, start=4)  # as after a loss that is not finite
    found = curves(tmp_path)
    assert found["train/loss"] == {1: 2.0, 2: 2.0, 3: 2.0, 4: 3.0, 5: 4.0, 6: 4.0, 7: 4.0}
    of_training = {"train/loss", "train/accuracy", "train/learning_rate"}
    assert found.keys() == {*of_training, "valid/asked_accuracy"}


def test_a_point_is_on_the_disk_when_it_is_written(tmp_path):
    with process():
        runs.train(tmp_path, [1.0])
        assert curves(tmp_path)["train/loss"] == {1: 1.0}


def test_more_networks_than_files_may_be_open(tmp_path, monkeypatch):
    """The one that waited longest is closed, and goes on in another file."""
    monkeypatch.setattr(tensorboard, "MOST_OPEN", 2)
    with process():
        for start in range(3):
            for name in "abc":
                runs.train(tmp_path / name, [float(start)], start)
    for name in "abc":
        assert curves(tmp_path / name)["train/loss"] == {1: 0.0, 2: 1.0, 3: 2.0}


def test_a_network_is_judged_at_its_last_step(tmp_path):
    with process():
        folder = runs.network(tmp_path, 0, 0.75)
    assert curves(folder)["test/accuracy"] == {2: 0.75}
    assert curves(folder)["train/loss"] == {1: 2.0, 2: 1.0}


def test_one_whose_training_another_process_ended_keeps_its_curve(tmp_path):
    with process():
        runs.train(tmp_path, [3.0, 2.0])
    with process():
        events.emit("network", tmp_path, {"valid_accuracy": 0.5, "test_accuracy": None})
    assert curves(tmp_path)["train/loss"] == {1: 3.0, 2: 2.0}
    assert curves(tmp_path)["valid/accuracy"] == {2: 0.5}


def test_a_sweep_has_its_best_so_far_and_the_values_of_each_round(tmp_path):
    """By hand: rounds of 4, of which some failed; one that was cut short, and more of them."""
    trials = runs.rows()
    with process():
        runs.sweep(tmp_path, trials[:6])  # the second round ends with it
    with process():
        runs.sweep(tmp_path, trials)
    found = shown(tmp_path / "tensorboard" / "sweep")
    best = {step: value.simple_value for step, value in found["sweep/best"].items()}
    assert best == {4: 0.5, 6: 0.5, 8: 0.75, 12: 0.75}
    sizes = {step: value.histo.num for step, value in found["sweep/value"].items()}
    assert sizes == {4: 3, 6: 1, 8: 2, 12: 4}
    first = found["sweep/value"][4].histo
    assert (first.min, first.max, first.sum) == (0.125, 0.5, 0.875)
    assert sum(first.bucket) == 3


def test_a_sweep_without_a_value_has_no_best(tmp_path):
    with process():
        runs.sweep(tmp_path, runs.rows([None] * 4))
    assert not (tmp_path / "tensorboard").exists()


def test_a_sweep_that_begins_anew_replaces_the_old(tmp_path):
    with process():
        runs.sweep(tmp_path, runs.rows())
    (tmp_path / "trials.jsonl").unlink()
    with process():
        runs.sweep(tmp_path, runs.rows([0.25] * 4))
    found = shown(tmp_path / "tensorboard" / "sweep")["sweep/best"]
    assert {step: value.simple_value for step, value in found.items()} == {4: 0.25}


def _hparams(folder):
    """(fields of a run, names of its metrics) as TensorBoard's plug-in has them."""
    fields, metrics = {}, set()
    for event in written(folder):
        for value in event.summary.value:
            content = plugin_hparams_pb2.HParamsPluginData.FromString(
                value.metadata.plugin_data.content
            )
            for name, field in content.session_start_info.hparams.items():
                fields[name] = getattr(field, field.WhichOneof("kind"))
            metrics |= {info.name.tag for info in content.experiment.metric_infos}
    return fields, metrics


def test_runs_are_compared_by_their_fields_and_their_best(tmp_path):
    """The best value, and the mean over two seeds; a second end writes them once more, alone."""
    for _ in range(2):
        with process():
            runs.whole(tmp_path / "run")
    folder = tmp_path / "run" / "tensorboard" / "summary"
    fields, metrics = _hparams(folder)
    assert fields["sweep.num_candidates"] == 12
    assert fields["sweep.strategy"] == "random_search"
    found = shown(folder)
    numbers = {"best/value": 0.75, "best/params": 107, "best/flops": 1007}
    numbers["best/F4/test/accuracy"] = 0.625
    assert metrics == numbers.keys()
    assert {tag: found[tag][12].simple_value for tag in numbers} == numbers
    drawn = found["best"][12].image
    image = Image.open(io.BytesIO(drawn.encoded_image_string))
    assert (image.format, image.mode) == ("PNG", "RGBA")
    assert image.size == (drawn.width, drawn.height)


def test_a_run_that_failed_has_no_summary(tmp_path):
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, runs.rows())
        runs.end(tmp_path, "failed")
    assert not (tmp_path / "tensorboard" / "summary").exists()


def test_fields_to_compare_are_some_and_those_that_differ():
    config = runs.config(**{"supernet.train.nesterov": False, "space.ops": ("identity", "sep3x3")})
    found = outcome.compared(config)
    others = {"supernet.train.nesterov", "space.ops", "sweep.candidates_per_batch"}
    assert found.keys() == {*outcome.COMPARED, *others}
    assert found["space.ops"] == "('identity', 'sep3x3')"
    assert found["supernet.train.nesterov"] is False
    assert "listeners" not in outcome.compared(config | {"listeners": ("optuna",)})


def test_numbers_that_are_not_finite_are_no_points(tmp_path):
    """As metrics.jsonl has them: null."""
    with process():
        events.emit("metrics", tmp_path, {"step": 1, "loss": None, "accuracy": 0.5}, 1)
    assert curves(tmp_path) == {"train/accuracy": {1: 0.5}}
    assert not any(math.isnan(x) for points in curves(tmp_path).values() for x in points.values())


@pytest.mark.parametrize("killed_after", [0, 4, 8])
def test_a_kill_between_a_line_and_its_point_loses_none(tmp_path, killed_after):
    """The next process writes it, once; also where it was the last of the sweep."""
    trials = runs.rows()
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, trials, killed_after)
    for _ in range(2):
        with process():
            runs.begin(tmp_path)
            runs.sweep(tmp_path, trials)
    found = shown(tmp_path / "tensorboard" / "sweep")
    best = {step: value.simple_value for step, value in found["sweep/best"].items()}
    assert best == runs.best_so_far(trials)
    assert {step: value.histo.num for step, value in found["sweep/value"].items()} == {
        4: 3,
        8: 3,
        12: 4,
    }


def test_one_that_was_chosen_later_has_the_whole_sweep(tmp_path):
    """Also after a file that was cut short, as a full disk leaves it."""
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, runs.rows()[:6])
    (path,) = (tmp_path / "tensorboard" / "sweep").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with process():
        runs.begin(tmp_path)
        runs.sweep(tmp_path, runs.rows())
    (tmp_path / "later").mkdir()
    (tmp_path / "trials.jsonl").rename(tmp_path / "later" / "trials.jsonl")
    with process():
        runs.begin(tmp_path / "later")
    for folder, steps in ((tmp_path, [4, 6, 8, 12]), (tmp_path / "later", [4, 8, 12])):
        assert list(shown(folder / "tensorboard" / "sweep")["sweep/best"]) == steps


def test_a_kill_between_a_result_and_its_point_loses_none(tmp_path):
    with process():
        runs.begin(tmp_path)
        folder = runs.network(tmp_path, 0, 0.75, killed=True)
    assert "test/accuracy" not in curves(folder)
    for _ in range(2):
        with process():
            runs.begin(tmp_path)
    assert curves(folder)["test/accuracy"] == {2: 0.75}
    assert curves(folder)["train/loss"] == {1: 2.0, 2: 1.0}
