"""Hyper-parameters are inputs of the training step: their values, and that no program changes."""

import functools
import json

import jax
import numpy as np
import pytest

from nas_jax import config as config_lib
from nas_jax.training import hyperparameters, optim, supernet
from nas_jax.training.hyperparameters import LOT, HyperParameters, Schedule
from nas_jax.training.train_step import TrainStep
from tests import trainings
from tests.configs import tiny


def _schedule(num_steps, dropout=True, slower=1.0, **fields):
    config = config_lib.default().supernet
    config.train.update(fields)
    return Schedule(config.train, num_steps, config.path_dropout if dropout else None, slower)


@pytest.mark.parametrize("name", optim.SCHEDULES)
@pytest.mark.parametrize("warmup_share", [0.0, 0.05])
def test_the_rate_of_each_step_is_that_of_the_schedule(name, warmup_share):
    """At steps of several lots, and where one lot ends and the next begins."""
    total = 3 * LOT + 10
    schedule = _schedule(total, schedule=name, warmup_share=warmup_share)
    given = {"base_lr": 0.1, "batch_size": 1024, "num_steps": total, "warmup_share": warmup_share}
    expected = optim.schedule(name, **given)
    for step in (0, 1, LOT - 1, LOT, 2 * LOT - 1, 2 * LOT, total - 1, 5):
        found = schedule.at(step).learning_rate
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(step), rtol=1e-6, atol=1e-9)


def test_values_by_hand():
    """An eleven-step ramp; a tenth of the rate after a restart; 0.1 at a batch of 1,024."""
    fields = {"schedule": "constant", "warmup_share": 0.0, "momentum": 0.8, "l2": 3e-4}
    schedule = _schedule(11, slower=0.1, label_smoothing=0.25, clip_norm=2.0, **fields)
    at = schedule.at(5)
    np.testing.assert_allclose(at, [0.01, 0.8, 2.0, 3e-4, 0.25, 0.1, 0.5], rtol=1e-6)
    assert [float(schedule.at(step).drop_share) for step in (0, 10)] == [0, 1]
    assert schedule.logged(5) == pytest.approx({"learning_rate": 0.01, "drop_share": 0.5})


def test_without_path_dropout_nothing_is_dropped():
    schedule = _schedule(10, dropout=False)
    assert schedule.at(9).r == schedule.at(9).drop_share == 0
    assert schedule.logged(3).keys() == {"learning_rate"}


@pytest.mark.system
def test_one_program_for_any_values_and_numbers_of_steps(tmp_path, monkeypatch):
    """The step of a short training, with the hyper-parameters of a longer one of other values."""
    traced, step = [], TrainStep.__call__

    @functools.wraps(step)
    def counted(*args):
        traced.append(0)
        return step(*args)

    monkeypatch.setattr(TrainStep, "__call__", counted)
    config = tiny.get_config()
    config.space.num_cells = config.space.num_blocks = 1
    config.supernet.train.num_steps = 5
    config, space, data = trainings.build(config)
    training = supernet.training(trainings.run_of(config, space, data, tmp_path), jax.devices()[:1])
    state = training.fit(tmp_path, seed=0)
    other = _schedule(1000, base_lr=0.7, momentum=0.1, l2=0.01, label_smoothing=0.3)
    _, root = training._layout.place(state, 0)
    batch = next(training._layout.batches(data, "train", 32, 0, 0))
    _, metrics = training._step(state, batch, root, other.at(700))
    assert np.isfinite(float(metrics["loss"]))
    assert len(traced) == 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["drop_share"] == 1


def test_values_stay_shares():
    """Momentum of 0.9 can rise by 1.11; a factor of 5 becomes that, so that 0.8 then lowers it."""
    train = tiny.get_config().supernet.train
    train.label_smoothing = 0.1
    of_one = Schedule(train, 10).at(0)
    factors = {name: np.asarray([5, 1], np.float32) for name in ("momentum", "label_smoothing")}
    lower = hyperparameters.limited(of_one, factors)
    np.testing.assert_allclose(lower["momentum"], [0.999 / 0.9, 1], rtol=1e-6)
    np.testing.assert_array_equal(lower["label_smoothing"], [5, 1])
    values = hyperparameters.multiplied(of_one, {"momentum": lower["momentum"] * np.float32(0.8)})
    np.testing.assert_allclose(values.momentum, [0.999 * 0.8, 0.72], rtol=1e-6)
    assert hyperparameters.multiplied(of_one, factors).momentum.max() == np.float32(0.999)


def test_each_tunable_field_is_a_number_that_the_step_takes():
    train = tiny.get_config().supernet.train
    assert {*hyperparameters.TUNABLE.values()} <= {*HyperParameters._fields}
    for field in {*hyperparameters.TUNABLE} - {"r"}:
        assert isinstance(train[field], float)
