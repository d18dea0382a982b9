"""Optuna's samplers by ask and tell: a Choice is a categorical parameter, its subsets the values.

Optuna's studies and samplers cannot be saved as arrays. So the state holds all that was asked and
told, and a study that is not in memory is made by asking and telling again. Samplers are seeded.
"""

import numpy as np
from jax import random, tree

from nas_jax.spaces import Space
from nas_jax.spaces.choices import subsets
from nas_jax.strategies.base import Strategy

COSTS = ("params", "flops", "latency_ms")
OBJECTIVES = ("value", *COSTS)  # the first is maximised


def make(
    space: Space,
    *,
    costs=None,
    cost_names: tuple = COSTS,
    sampler: str = "TPE",
    sampler_options: tuple = (),
    objectives: tuple = ("value",),
) -> Strategy:
    """Make a sampler of Optuna: of one objective or, with costs to minimise, of several.

    Args:
      space: to search in.
      costs: masks [n, k] -> {"params": [n], ..}; for objectives beside the value.
      cost_names: those of `COSTS` that `costs` gives.
      sampler: "TPE", "NSGAII", "NSGAIII", "Random", ..: the name in Optuna without "Sampler".
      sampler_options: (keyword, value) pairs of the sampler, such as ("population_size", 50).
      objectives: some of `OBJECTIVES`, "value" first.

    State: the seed; the numbers of architectures asked for and told in each round, int32 [R] each;
    decision vectors int32 [N, D] and values float32 [N] of all architectures that were told.

    Raises: ValueError if Optuna is not installed or has no such sampler, or for other objectives.
    """
    objectives = tuple(objectives)
    _check_objectives(objectives, cost_names)
    replay = _Replay(space, costs, _study_maker(sampler, sampler_options, objectives), objectives)
    num_choices = len(tree.leaves(space.choices))
    replay.check(sampler)

    def init(key):
        return {
            "seed": np.asarray(random.bits(key, (), np.uint32)),
            "asked": np.zeros(0, np.int32),
            "told": np.zeros(0, np.int32),
            "decisions": np.zeros((0, num_choices), np.int32),
            "scores": np.zeros(0, np.float32),
        }

    def ask(key, state, n):
        decisions, choices = replay.at(state).ask(n), tree.leaves(space.choices)
        masks = [subsets(choice)[decisions[:, d]] for d, choice in enumerate(choices)]
        return tree.unflatten(tree.structure(space.choices), masks)

    def tell(state, archs, scores):
        decisions = np.asarray(space.to_decisions(archs))
        scores = np.asarray(scores, np.float32)
        asked = replay.at(state).tell(decisions, scores)
        added = {"asked": [asked], "told": [len(scores)], "decisions": decisions}
        added |= {"scores": np.nan_to_num(scores, nan=-np.inf)}  # a state has no NaN
        new = {
            name: np.concatenate([state[name], np.asarray(rows, state[name].dtype)])
            for name, rows in added.items()
        }
        return replay.now(state | new)

    return Strategy(init, ask, tell, on_host=True)


def _check_objectives(objectives, cost_names):
    if objectives[:1] != ("value",) or len({*objectives} & {*OBJECTIVES}) != len(objectives):
        raise ValueError(
            f"config.sweep.options: objectives={objectives!r} must be 'value', then any of "
            f"{', '.join(OBJECTIVES[1:])}"
        )
    if "latency_ms" in objectives and "latency_ms" not in cost_names:
        raise ValueError(
            "config.sweep.options: the objective 'latency_ms' needs sweep.latency.num_archs, the "
            "architectures to time, or sweep.latency.table"
        )


def _import():
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "config.sweep.strategy='optuna' needs Optuna: pip install -e '.[optuna]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study_maker(name, options, objectives):
    """Return (seed) -> a study with that sampler."""
    optuna = _import()
    if name == "BruteForce":
        raise ValueError("config.sweep.options: for sampler='BruteForce' use strategy 'exhaustive'")
    if not hasattr(optuna.samplers, f"{name}Sampler"):
        there = [n.removesuffix("Sampler") for n in dir(optuna.samplers) if n.endswith("Sampler")]
        raise ValueError(f"config.sweep.options: sampler={name!r} is none of {', '.join(there)}")
    make_sampler = getattr(optuna.samplers, f"{name}Sampler")
    directions = ["maximize", *["minimize"] * (len(objectives) - 1)]

    def make_study(seed):
        sampler = make_sampler(seed=seed, **dict(options))
        return optuna.create_study(sampler=sampler, directions=directions)

    return make_study


class _Replay:
    """The study of the last state, and the trials that were asked for since that state."""

    def __init__(self, space, costs, make_study, objectives):
        self._optuna, self._space, self._costs = _import(), space, costs
        self._make_study, self._objectives = make_study, objectives
        categorical = self._optuna.distributions.CategoricalDistribution
        self._distributions = {
            choice.name: categorical(range(choice.num_subsets))
            for choice in tree.leaves(space.choices)
        }
        self._now, self._pending = None, []

    def check(self, name):
        """Check that the sampler can ask.

        Raises: ValueError, with the reason, if it cannot.
        """
        try:
            self._make_study(0).ask(self._distributions)
        except (TypeError, ValueError, ImportError) as error:
            raise ValueError(f"config.sweep.options: sampler={name!r}: {error}") from error

    def at(self, state):
        """Bring the study to a state, and return self; make it again if it is in another state."""
        state = {name: np.asarray(value) for name, value in state.items()}
        if self._now != _facts(state):
            self._study, self._pending, first = self._make_study(int(state["seed"])), [], 0
            for asked, told in zip(state["asked"].tolist(), state["told"].tolist()):
                self.ask(asked)
                last = first + told
                self.tell(state["decisions"][first:last], state["scores"][first:last])
                first = last
            self._now = _facts(state)
        return self

    def now(self, state):
        """Note that the study is in this state, and return the state."""
        self._now = _facts(state)
        return state

    def ask(self, n):
        """Return decision vectors int32 [n, D].

        Trials that were asked for since the last tell come first, then new ones.
        """
        for _ in range(n - len(self._pending)):
            self._pending.append(self._study.ask(self._distributions))
        rows = [self._row(trial) for trial in self._pending[:n]]
        return np.asarray(rows, np.int32).reshape(n, len(self._distributions))

    def tell(self, decisions, scores):
        """Tell the study, and return how many trials were asked for; those not told have failed."""
        self.ask(len(scores))  # else a study that is made again from a state would differ
        asked, rows = len(self._pending), decisions.tolist()
        for row, values in zip(rows, self._values(decisions, scores)):
            trial = next((t for t in self._pending if self._row(t) == row), None)
            if trial is None:  # it was not asked for
                self._study.enqueue_trial(dict(zip(self._distributions, row)))
                trial = self._study.ask(self._distributions)
            else:
                self._pending.remove(trial)
            self._end(trial, values)
        for trial in self._pending:
            self._end(trial, None)
        self._pending, self._now = [], None
        return asked

    def _row(self, trial):
        params = trial.params
        return [params[name] for name in self._distributions]

    def _end(self, trial, values):
        if values is None or not np.isfinite(values).all():
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def _values(self, decisions, scores):
        """Return the values of the objectives for each architecture."""
        columns = [scores.tolist()]
        if len(self._objectives) > 1:
            costs = self._costs(self._space.from_decisions(decisions))
            columns += [costs[name] for name in self._objectives[1:]]
        return zip(*columns)


def _facts(state):
    """Return the contents of a state, to compare states."""
    return {name: value.tobytes() for name, value in state.items()}
