"""Populations: who goes on as whom, what a member is, and that devices and kills change nothing."""

import itertools
import json

import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.report import page
from nas_jax.training import lineage, restoration, supernet, train_step
from nas_jax.training.hyperparameters import HyperParameters, Schedule
from nas_jax.training.metrics import Diverged
from nas_jax.training.population import Population
from tests import trainings
from tests.configs import tiny
from tests.trainings import Stop, Stopping

pytestmark = pytest.mark.system

FIELDS = trainings.SMALL | {
    "supernet.variant": "pbt",
    "supernet.variant_options": (("population", 4),),
    "sweep.num_candidates": 8,
    "supernet.strategy_every": 5,
    "supernet.train.num_steps": 30,
    "supernet.train.schedule": "constant",
    "supernet.train.warmup_share": 0.0,
}
TUNED = ("learning_rate", "l2", "r")
SPACE = spaces.make("nasbench_macro", stages=(1, 1))


def _build(**fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    return trainings.built_with(tiny.get_config(), FIELDS | fields)


def _training(directory, devices=1, factors=None, wrap=lambda data: data, **fields):
    """As a search makes it, but for factors that are given."""
    config, space, data = _build(**fields)
    run = trainings.run_of(config, space, wrap(data), directory)
    made = supernet.training(run, jax.devices()[:devices])
    if factors is not None:
        ones = np.ones(len(factors), np.float32)
        rates = {"learning_rate": np.asarray(factors, np.float32)}
        first = made.task.turn.first_sampler_state
        first |= dict.fromkeys({*HyperParameters._fields} & {*first}, ones) | rates
    return made


def _rows(directory, name="lineage.jsonl"):
    return [json.loads(line) for line in (directory / name).read_text().splitlines()]


def _factors(row, name="learning_rate"):
    """Of the tiny config: 3.2 at a batch of 1024, 32 images a step; L2 of 1e-4; r of 0.1."""
    return np.asarray(row[name]) / {"learning_rate": 0.1, "l2": 1e-4, "r": 0.1}[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("population")
    training = _training(directory)
    return directory, training, jax.device_get(training.fit(directory, seed=1))


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"supernet.path_dropout.schedule": "none"}, False),
        ({"supernet.sampler": "fair"}, False),
    ],
)
def test_r_is_recorded_where_it_has_an_effect(tmp_path, fields, counts):
    turn = _training(tmp_path, **fields).task.turn
    state = train_step.create({"params": {}}, turn.first_sampler_state)
    turn.begin(tmp_path, 0, state, Schedule(tiny.get_config().supernet.train, 30))
    assert ("r" in _rows(tmp_path)[0]) == counts


def test_a_schedule_is_traced_back_by_hand():
    """Member 0 is the best at the end; it went on as 1 at step 10, which was 2 before step 5."""
    rows = [
        {"step": 0, "scores": None, "parents": [0, 1, 2], "l2": [1.0, 2.0, 4.0]},
        {"step": 5, "scores": [3, 1, 2], "parents": [0, 2, 2], "l2": [1.0, 5.0, 4.0]},
        {"step": 10, "scores": [None, 2, 1], "parents": [1, 1, 2], "l2": [4.0, 5.0, 4.0]},
        {"step": 15, "scores": [3, 2, None], "parents": [0, 1, 2], "l2": [4.0, 5.0, 4.0]},
    ]
    assert lineage.ancestors(rows) == [2, 1, 0, 0]
    assert lineage.schedule(rows) == {"step": [0, 5, 10, 15], "l2": [4.0, 5.0, 4.0, 4.0]}


def test_a_child_is_its_parent_but_for_its_factors(tmp_path):
    """Weights and momentum, after one turn."""
    training = _training(tmp_path)
    population, schedule = training.task.turn, training._schedule(1.0)
    first = training._first_state(0, None, None)
    population.begin(tmp_path, 0, first, schedule)
    state, roots = population.place(first, 0)
    batch = next(population.batches(training._data, "train", 32, 0, 0))
    state, _ = training._step(state, batch, roots, population.hyper(schedule.at(0)))
    before = jax.device_get(state)
    after, found = population(5, state, jax.random.key(0))
    row = _rows(tmp_path)[1]
    parents = np.asarray(row["parents"])
    assert (parents != np.arange(4)).sum() == 1
    trainings.assert_equal(
        jax.tree.map(lambda x: x[parents], before[:4]), jax.device_get(after[:4])
    )
    np.testing.assert_allclose(after.sampler_state["score"], np.asarray(row["scores"])[parents])
    assert found["best_score"] == max(row["scores"])
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(before.opt_state))


def test_the_lineage_says_what_was_trained(trained):
    """Each factor is its parent's, moved where copied; the schedule is their product."""
    directory, _, state = trained
    rows = _rows(directory)
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20, 25, 30]
    assert rows[-1]["parents"] == [0, 1, 2, 3]  # the last turn only scores
    for name in TUNED:
        line = [_factors(rows[0], name)[lineage.ancestors(rows)[0]]]
        for before, row in itertools.pairwise(rows):
            moves = _factors(row, name) / _factors(before, name)[row["parents"]]
            copied = np.asarray(row["parents"]) != np.arange(4)
            np.testing.assert_allclose(moves[~copied], 1, rtol=1e-5)
            assert np.isclose(moves[copied, None], [0.8, 1.2]).any(1).all()
        line = [values[m] for values, m in zip((r[name] for r in rows), lineage.ancestors(rows))]
        assert lineage.schedule(rows)[name] == line
        np.testing.assert_allclose(_factors(rows[-1], name), state.sampler_state[name], rtol=1e-5)
    assert any(row["parents"] != [0, 1, 2, 3] for row in rows)


# -- what a member is -----------------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["switch", "masked"])
def test_a_member_is_a_training_of_its_own(tmp_path, execution):
    """Member i of four and seed 2 is a plain training of seed 8 + i, where no factor differs."""
    steps = {"supernet__train__num_steps": 4, "supernet__strategy_every": 4}
    fields = {**steps, "supernet__execution": execution}
    fields |= {"supernet__variant_options": (("population", 4), ("spread", 1.0))}
    training = _training(tmp_path, wrap=trainings.SameOrder, **fields)
    assert isinstance(training.task.turn, Population)
    state = jax.device_get(training.fit(tmp_path / "all", seed=2))
    config, space, data = _build(
        **fields | {"supernet__variant": "none", "supernet__variant_options": ()}
    )
    run = trainings.run_of(config, space, trainings.SameOrder(data), tmp_path)
    alone = supernet.training(run, jax.devices()[:1])
    assert alone.task.turn is None
    for member in (0, 2):
        one = alone.fit(tmp_path / str(member), seed=8 + member)
        mine = jax.tree.map(lambda x, m=member: x[m], state)
        trainings.assert_equal(mine.params, one.params, atol=1e-5)
        trainings.assert_equal(mine.opt_state, one.opt_state, atol=1e-4)


def test_factors_multiply_what_the_config_says(tmp_path):
    """A member with half the learning rate, 300 times the L2 and three times r."""
    fields = {"supernet__train__num_steps": 4, "supernet__strategy_every": 4}
    training = _training(tmp_path, wrap=trainings.SameOrder, **fields)
    own = {"learning_rate": 0.5, "l2": 300.0, "r": 3.0}
    training.task.turn.first_sampler_state |= {
        name: np.asarray([1, own[name], 1, 1], np.float32) for name in TUNED
    }
    state = jax.device_get(training.fit(tmp_path / "all", seed=2))
    fields |= {"supernet__variant": "none", "supernet__variant_options": ()}
    fields |= {"supernet__train__base_lr": 1.6, "supernet__train__l2": 0.03}
    config, space, data = _build(**fields, supernet__path_dropout__r=0.3)
    run = trainings.run_of(config, space, trainings.SameOrder(data), tmp_path)
    alone = supernet.training(run, jax.devices()[:1])
    one = alone.fit(tmp_path / "one", seed=9)
    trainings.assert_equal(jax.tree.map(lambda x: x[1], state.params), one.params, atol=1e-5)


def test_what_is_restored_is_the_best(trained):
    directory, _, state = trained
    best = int(np.argmax(_rows(directory)[-1]["scores"]))
    config, space, data = _build()
    [restored] = restoration.restore(trainings.run_of(config, space, data, directory), directory)
    assert restored.step == 30
    trainings.assert_equal(restored.params, jax.tree.map(lambda x: x[best], state.params))


def test_hopeless_rates_are_escaped(tmp_path):
    """One member diverges at once, one does not move: all that are left descend from the others."""
    training = _training(tmp_path, factors=[1e30, 1e-9, 0.5, 1], supernet__train__num_steps=60)
    training.fit(tmp_path, seed=1)
    rows = _rows(tmp_path)
    assert rows[1]["scores"][0] is None  # the first
    founders = np.arange(4)
    for row in rows[1:]:
        founders = founders[row["parents"]]
    assert set(founders.tolist()) <= {2, 3}
    assert ((_factors(rows[-1]) > 0.1) & (_factors(rows[-1]) < 10)).all()
    assert all(np.isfinite(row["loss"]) for row in _rows(tmp_path, "metrics.jsonl"))


def test_it_diverges_when_all_do(tmp_path):
    training = _training(tmp_path, factors=[1e30] * 4, supernet__train__num_steps=10)
    with pytest.raises(Diverged, match=r"the loss is nan by step 5"):
        training.fit(tmp_path, seed=1)


# -- devices and kills ----------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [4, 8])
def test_one_device_equals_many(tmp_path, devices):
    """A member each; and half of a member's batch each."""
    fields = {"supernet__train__num_steps": 4, "supernet__strategy_every": 2}
    one, many = (
        jax.device_get(_training(tmp_path, n, **fields).fit(tmp_path / str(n), seed=1))
        for n in (1, devices)
    )
    trainings.assert_equal(one.params, many.params, atol=1e-4)
    rows = [_rows(tmp_path / str(n)) for n in (1, devices)]
    assert [row["parents"] for row in rows[0]] == [row["parents"] for row in rows[1]]


def test_resumed_equals_uninterrupted_bit_for_bit(trained, tmp_path):
    """Stopped after step 17, resumed from step 10: also what is said of it."""
    directory, _, state = trained
    with pytest.raises(Stop):
        _training(tmp_path, wrap=Stopping).fit(tmp_path, seed=1)
    assert [row["step"] for row in _rows(tmp_path)] == [0, 5, 10, 15]
    resumed = jax.device_get(_training(tmp_path).fit(tmp_path, seed=1))
    trainings.assert_equal(state, resumed)
    assert _rows(tmp_path) == _rows(directory)


def test_a_population_by_the_t_test_is_ready_every_other_turn_and_resumes(tmp_path):
    """It has ten recent accuracies of each member; momentum, too, is tuned."""
    options = {"population": 3, "exploit": "t_test", "ready": 2, "tunes": ("base_lr", "momentum")}
    fields = {"supernet__variant_options": tuple(options.items()), "supernet__strategy_every": 2}
    rates = [1e30, 1, 1]  # the first fails at once
    whole = _training(tmp_path / "whole", factors=rates, **fields)
    state = jax.device_get(whole.fit(tmp_path / "whole", seed=1))
    rows = _rows(tmp_path / "whole")
    assert set(rows[0]) == {"step", "scores", "parents", "learning_rate", "momentum"}
    is_own = [row["parents"] == [0, 1, 2] for row in rows]
    assert is_own[:2] == [True, True]  # the start, and a turn that only evaluates
    assert not is_own[2]
    assert all(own for row, own in zip(rows, is_own) if row["step"] % 4)
    assert (np.asarray(rows[-1]["momentum"]) <= 0.999).all()
    assert state.sampler_state["recent"].shape == (3, 10)
    assert np.isfinite(state.sampler_state["recent"]).all()
    np.testing.assert_array_equal(state.sampler_state["recent"][:, -1], rows[-1]["scores"])
    with pytest.raises(Stop):
        _training(tmp_path, factors=rates, wrap=Stopping, **fields).fit(tmp_path, seed=1)
    again = _training(tmp_path, factors=rates, **fields).fit(tmp_path, seed=1)
    trainings.assert_equal(state, jax.device_get(again))
    assert _rows(tmp_path) == rows
    run = trainings.run_of(*_build(**fields), tmp_path)
    best = int(np.argmax(rows[-1]["scores"]))
    [restored] = restoration.restore(run, tmp_path)
    trainings.assert_equal(restored.params, jax.tree.map(lambda x: x[best], state.params))


# -- a whole search -------------------------------------------------------------------------------


def test_a_sweep_and_a_report_of_it(trained):
    """With the best member's weights; the first round is that of random search."""
    directory, _, _ = trained
    config, space, data = _build()
    rows = trainings.swept(config, space, data, directory)
    assert len(rows) == 8
    assert all(row["checkpoint_step"] == 30 for row in rows)
    text = page.write(directory, space).read_text()
    assert "## Found schedule" in text
    assert (directory / "report" / "schedule.png").exists()


def _tunes(name):
    return {"supernet.variant_options": (("tunes", (name,)),)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"supernet.variant_options": (("population", 0),)},
            "supernet.variant_options: population=0 must be 1 or more",
        ),
        ({"supernet.variant_options": (("share", 0.6),)}, r"share=0.6 must be in \[0, 0.5\]"),
        ({"supernet.variant_options": (("spread", 0.5),)}, "spread=0.5 must be 1 or more"),
        (
            {"supernet.variant_options": (("perturb", 1.25),)},
            r"perturb=1.25 must be tuple, such as its default \(1.2, 0.8\)",
        ),
        (
            {"supernet.variant_options": (("perturb", (0.8, 1.2)),)},
            r"perturb=\(0.8, 1.2\) must be two factors, one up and one down",
        ),
        (_tunes("base_rl"), "supernet.variant_options: tunes='base_rl' .* nearest: 'base_lr'"),
        (_tunes("warmup_share"), "tunes='warmup_share'"),  # it is no input of the step
        (
            _tunes("label_smoothing"),
            "supernet.train.label_smoothing=0.0 cannot be tuned: a factor leaves it at 0",
        ),
        (_tunes("clip_norm"), "supernet.train.clip_norm=0.0 cannot be tuned"),
        (
            _tunes("momentum") | {"supernet.train.optimizer": "adamw"},
            "supernet.train.momentum cannot be tuned: supernet.train.optimizer='adamw'",
        ),
        (_tunes("r") | {"supernet.sampler": "fair"}, "'r' cannot be tuned: no path is dropped"),
        (
            _tunes("r") | {"supernet.path_dropout.schedule": "none"},
            "'r' cannot be tuned: no path is dropped",
        ),
        ({"supernet.variant_options": (("exploit", "t-test"),)}, "nearest: 't_test'"),
        ({"supernet.variant_options": (("explore", "reset"),)}, "explore='reset'"),
        ({"supernet.variant_options": (("ready", 0),)}, "ready=0 must be 1 or more"),
        ({"supernet.variant_options": (("resample", 2.0),)}, r"resample=2.0 must be in \[0, 1\]"),
        ({"supernet.sampler": "strategy"}, "'pbt' tunes a population .* choose another"),
        ({"supernet.strategy_every": 31}, "strategy_every=31, but there are only 30 steps"),
        (
            {"supernet.strategy_every": 0, "supernet.train.num_steps": 15},
            r"strategy_every=0 \(an epoch, of 16 steps\), but there are only 15 steps",
        ),
        ({"supernet.strategy_rounds": 2}, "strategy_rounds=2 is for supernet.sampler='strategy'"),
        (
            {"supernet.strategy_images": 100},
            "strategy_images=100 must be a multiple of sweep.batch_size=64, and at most the 128",
        ),
        ({"supernet.strategy_images": 192}, "strategy_images=192 must be a multiple"),
    ],
)
def test_what_cannot_be_is_said(fields, message):
    with pytest.raises(ValueError, match=message):
        _build(**fields)
