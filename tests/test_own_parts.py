"""Strategies, samplers, evaluators and variants of a user's file: they run, or are refused."""

import jax
import numpy as np
import pytest

import nas_jax
from nas_jax import spaces, strategies
from nas_jax.oneshot import path_samplers
from nas_jax.training import evaluator_names, supernet, variants
from tests import trainings
from tests.configs import tiny

SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3"))
MINE = '''
import jax, jax.numpy as jnp, numpy as np
from nas_jax.strategies import Strategy, random_search
from nas_jax.oneshot.training_variant import TrainingVariant

class Climb:
    """Asks for neighbours of the best."""
    on_host = True
    def __init__(self, space, *, first: int = 4):
        self.space, self.first = space, first
    def init(self, key):
        return ()
    def ask(self, key, state, n):
        return self.space.sample(key, (n,))
    def tell(self, state, archs, scores):
        return state

def illegal(space):
    return random_search.make(space)._replace(
        ask=lambda key, state, n: jax.tree.map(lambda x: 0 * x, space.sample(key, (n,))))
def one_more(space):
    return random_search.make(space)._replace(
        ask=lambda key, state, n: space.sample(key, (n + 1,)))
def no_masks(space):
    return random_search.make(space)._replace(ask=lambda key, state, n: jnp.ones(n))
def no_strategy(space):
    return 3
def raises(space):
    return {}["x"]
def raises_later(space):
    return random_search.make(space)._replace(ask=lambda key, state, n: 1 / 0)
def needs(space, *, size):
    return random_search.make(space)
def text_state(space, *, on_host: bool = False):
    return random_search.make(space)._replace(init=lambda key: {"best": "none"}, on_host=on_host,
        tell=lambda state, archs, scores: state)
def grows(space, *, on_host: bool = False):
    return random_search.make(space)._replace(init=lambda key: jnp.zeros(1), on_host=on_host,
        tell=lambda state, archs, scores: jnp.append(state, 0))

def whole(space):
    def sampler(key, step, groups, state, hyper):
        return jax.tree.map(lambda m: jnp.tile(m, (len(groups), 1)), space.all_on())
    return sampler
def one_group(space, *, num_groups):
    return lambda key, step, groups, state, hyper: space.all_on()
def raising(space):
    return lambda *given: {}["x"]

def variant(space, *, strength: float = 1.0):
    return TrainingVariant(penalty=lambda params, usage: strength)
def no_variant(space):
    return None

def few_options(run):
    return lambda archs: -sum(np.sum(m, -1) for m in jax.tree.leaves(archs))
def first_weight(run, *, weights):
    value = float(jax.tree.leaves(weights.params)[0].ravel()[0])
    return lambda archs: np.full(len(jax.tree.leaves(archs)[0]), value)
def too_few(run):
    return lambda archs: [0.5]
def words(run):
    return lambda archs: ["good"] * len(jax.tree.leaves(archs)[0])
def no_evaluator(run):
    return 1.0
'''


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def _asked(name, options=()):
    strategy = strategies.compiled(strategies.make(name, SPACE, options))
    state = strategy.init(jax.random.key(0))
    everything = lambda archs: np.ones(len(jax.tree.leaves(archs)[0]), bool)  # noqa: E731
    archs = strategies.ask_allowed(jax.random.key(1), strategy, state, 3, everything)
    strategy.tell(state, archs, np.zeros(3))
    return archs


def test_a_strategy_of_a_file_is_asked():
    assert SPACE.contains(_asked("mine.py:Climb", (("first", 3),)))


def test_a_strategy_may_be_given_as_an_object():
    assert SPACE.contains(_asked(strategies.STRATEGIES["random_search"]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("illegal", (), r"asked for architecture 0, with options \[\] of .*, which is none of"),
        ("one_more", (), r"asked for masks \[4, 2\] of '.*'; they must be \[3, 2\]"),
        ("no_masks", (), r"asked for \(\*\); masks have the tree of space.choices"),
        ("no_strategy", (), r"made a int, which has no init\(\)"),
        ("raises", (), r"KeyError in .*mine.py, line \d+: 'x'"),
        ("raises_later", (), r"ZeroDivisionError in .*mine.py, line \d+: division by zero"),
        ("Climb", (("frist", 3),), "'frist' is no option of mine.py:Climb, .* nearest: first"),
        ("Climb", (("first", "x"),), "first='x' must be int"),
        ("needs", (), r"needs the option 'size': config.sweep.options=\(\('size', <value>\),\)"),
        ("np", (), "is a module, and cannot be called"),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        _asked(f"mine.py:{name}", options)
    assert "config.sweep." in str(caught.value)
    assert "\n" not in str(caught.value)


def _told(name, **options):
    strategy = strategies.make(f"mine.py:{name}", SPACE, tuple(options.items()))
    strategy = strategies.compiled(strategy)  # JAX's own errors would have many lines
    state = strategy.init(jax.random.key(0))
    return strategy.tell(state, SPACE.sample(jax.random.key(1), (3,)), np.zeros(3))


def test_a_compiled_state_is_a_tree_of_arrays():
    message = r"init\(\) gave a state that has a str; .* set on_host = True"
    with pytest.raises(ValueError, match=message) as caught:
        _told("text_state")
    assert "\n" not in str(caught.value)
    _told("text_state", on_host=True)


def test_a_compiled_state_whose_shapes_change_is_warned_of(caplog):
    """It works, but JAX compiles again each time."""
    _told("grows", on_host=True)
    assert "another tree or other shapes" not in caplog.text
    assert _told("grows").shape == (2,)
    assert "mine.py:grows': tell() gave the state another tree or other shapes" in caplog.text


def _drawn(name):
    sampler = path_samplers.make(f"mine.py:{name}", SPACE, num_groups=2)
    groups = np.arange(2)
    return sampler(jax.random.key(0), 0, groups, (), None)


def test_a_sampler_of_a_file_draws():
    assert all(np.all(mask == np.ones((2, 2))) for mask in jax.tree.leaves(_drawn("whole")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one_group", r"sampler='mine.py:one_group' drew masks \[2\] of .*must be \[2, 2\]"),
        ("raising", "sampler='mine.py:raising': KeyError in .*mine.py, line"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused_by_name(name, message):
    with pytest.raises(ValueError, match=message):
        _drawn(name)


def test_a_variant_of_a_file_is_made_and_another_thing_refused():
    made = variants.make("mine.py:variant", SPACE, (("strength", 2.0),))
    assert made.penalty({}, {}) == 2
    with pytest.raises(ValueError, match="no_variant' made a NoneType, not a TrainingVariant"):
        variants.make("mine.py:no_variant", SPACE)


def _swept(directory, name, **fields):
    fields = {**trainings.SMALL, "sweep.num_candidates": 8, "sweep.score": name, **fields}
    built = trainings.built_with(tiny.get_config(), fields)
    if evaluator_names.takes_weights(name):
        supernet.train(trainings.run_of(*built, directory))
    return trainings.swept(*built, directory)


def test_an_evaluator_of_a_file_scores_without_a_supernet(tmp_path):
    fields = {"sweep.strategy": "mine.py:Climb", "sweep.options": (("first", 3),)}
    rows = _swept(tmp_path, "mine.py:few_options", **fields)
    assert len(rows) == 8
    for row in rows:  # minus the options that are on
        arch = SPACE.from_str(row["arch"])
        assert row["value"] == -sum(np.sum(mask) for mask in jax.tree.leaves(arch))
        assert row["one_shot_accuracy"] is None
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.system
def test_an_evaluator_of_a_file_is_given_the_weights_of_each_checkpoint(tmp_path):
    rows = _swept(tmp_path, "mine.py:first_weight", **{"sweep.num_checkpoints": 2})
    assert len({row["value"] for row in rows}) == 1
    assert np.isfinite(rows[0]["value"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_few", r"'mine.py:too_few' gave values of shape \[1\] for 8 arch.*must be \[8\]"),
        ("words", "'mine.py:words' gave a list, not numbers"),
        ("no_evaluator", r"made a float; an evaluator is called with masks \[N, k\]"),
    ],
)
def test_an_evaluator_that_does_not_fit_is_refused_by_name(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        _swept(tmp_path, f"mine.py:{name}")
    fields = {**trainings.SMALL, "sweep.score": f"mine.py:{name}"}
    with pytest.raises(ValueError, match=message):  # before the run, too
        nas_jax.check(tiny.__file__, workdir=tmp_path / "run", fields=fields)


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("sweep.score", "acuracy", "sweep.score='acuracy' is none of .*nearest: 'accuracy'"),
        ("supernet.sampler", "fare", "nearest: 'fair'"),
        ("supernet.variant", "pbd", "nearest: 'pbt'"),
        ("sweep.strategy", "evolve", "nearest: 'evolution'"),
        ("sweep.strategy", "other.py:x", "there is no file .*other.py"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(field, name, message):
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny.get_config(), {field: name})


@pytest.mark.system
def test_a_strategy_of_a_file_draws_the_masks_of_the_supernet(tmp_path):
    """It is told macro F1, as the sweep's values are."""
    (tmp_path / "drawing.py").write_text(
        "from nas_jax.strategies import evolution\n"
        "def mine(space, *, population: int = 4):\n"
        "    return evolution.make(space, population=population, tournament=2)\n"
    )
    fields = {"sweep.strategy": "drawing.py:mine", "supernet.sampler": "strategy"}
    fields |= {"metric": "macro_f1", "supernet.train.num_steps": 10}
    rows = _swept(tmp_path, "accuracy", **fields)
    assert len(rows) == 8
    assert all(0 <= row["value"] <= 1 for row in rows)
