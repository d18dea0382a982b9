"""Turns between the steps: rounds of candidates that a strategy asks for, and is told."""

import itertools

import jax
import numpy as np
import pytest

from nas_jax import plan, preview, strategies
from nas_jax.training import loop, supernet, train_step
from tests import trainings
from tests.configs import tiny

FIELDS = trainings.SMALL | {
    "supernet.sampler": "strategy",
    "supernet.strategy_every": 2,
    "supernet.strategy_rounds": 3,
}
STATE = train_step.create({"params": {}}, ())


@pytest.fixture
def turn(tmp_path, monkeypatch):
    """A turn of three rounds, without a network: all candidates have an accuracy of a half."""
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), FIELDS), tmp_path)
    made = supernet.StrategyTurn(run, None, jax.devices()[:1])
    monkeypatch.setattr(made, "_evaluate", lambda *args: np.full(8, 0.5))
    return made


def test_each_attempt_of_each_round_has_a_key_of_its_own(turn, monkeypatch):
    """Nothing is allowed at first, so that every round makes four attempts."""
    keys, attempts = [], itertools.cycle([False, False, False, True])
    strategy = turn._strategy

    def drawn(key, state, n):
        keys.append(tuple(np.asarray(jax.random.key_data(key))))
        return strategy.ask(key, state, n)

    def ask(key, state):
        recording = strategy._replace(ask=drawn)
        return strategies.ask_allowed(
            key, recording, state, 8, lambda archs: np.full(8, next(attempts))
        )

    monkeypatch.setattr(turn._examine, "_ask", ask)
    for step in (2, 4):
        turn(step, STATE, jax.random.key(0))
    assert len(set(keys)) == len(keys) == 2 * 3 * 4


@pytest.mark.parametrize(
    ("rounds", "mean"),
    [
        ([[0.2, 0.4], [0.6, 0.8], [0.1, 0.3]], 0.4),
        ([[0.2, np.nan], [np.nan, np.nan], [0.6, 1.0]], 0.6),  # of three that did not fail
    ],
)
def test_the_mean_accuracy_is_that_of_candidates_that_did_not_fail(turn, monkeypatch, rounds, mean):
    answers = iter(rounds)
    monkeypatch.setattr(turn, "_evaluate", lambda *args: np.asarray(next(answers)))
    assert turn(2, STATE, jax.random.key(0))[1]["asked_accuracy"] == pytest.approx(mean)


def test_the_mean_accuracy_is_missing_where_all_failed(turn, monkeypatch):
    monkeypatch.setattr(turn, "_evaluate", lambda *args: np.full(2, np.nan))
    assert np.isnan(turn(2, STATE, jax.random.key(0))[1]["asked_accuracy"])


POPULATION = trainings.SMALL | {
    "supernet.variant": "pbt",
    "supernet.variant_options": (("population", 3),),
    "supernet.strategy_every": 7,
}


@pytest.mark.parametrize(("fields", "rounds"), [(FIELDS, 20 * 3), (POPULATION, 6 * 3), ({}, 0)])
def test_a_plan_counts_the_rounds_between_40_steps(tmp_path, fields, rounds):
    """Of a population each member has its own, also after the last step."""
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), fields), tmp_path)
    trained, sweep, *_ = plan.of(run, "search")
    assert plan.evaluations_between_steps(run) == rounds
    assert (f"{rounds} rounds of 8 candidates" in trained.what) == (rounds > 0)
    a_round = 8 * 64 * sweep.work / (run.config.sweep.num_candidates * 128)
    assert trained.work == pytest.approx(40 * trained.step + rounds * a_round)


@pytest.mark.parametrize(
    ("fields", "score", "expected"),
    [
        (FIELDS, "accuracy", 40 * 2 + 60 * 3),
        (POPULATION, "accuracy", 40 * 2 + 18 * 3),
        (POPULATION, "kl", 40 * 2),
    ],
)
def test_a_check_adds_their_time(tmp_path, fields, score, expected):
    """A step takes 2 seconds, a round 3. A round of another evaluator is not that of a turn."""
    fields = fields | {"sweep.score": score}
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), fields), tmp_path)
    trials = {"supernet": loop.Trial(2.0, 1.0, None)}
    trials |= {"sweep": loop.Trial(3.0, 1.0, None)} if score == "accuracy" else {}
    parts = plan.of(run, "search")
    line, _, short, *_ = (preview._time(run, part, trials, parts, 1) for part in parts)
    assert line.seconds == expected
    assert ("evaluations between steps are not in it" in line.how) == (score == "kl")
    assert short.seconds == pytest.approx(2 * parts[2].work / parts[0].step)  # of steps alone
