"""Search strategies: what all must do (a new file is found and tested), and each one's truth."""

import functools
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from configs import enas as enas_config
from nas_jax import spaces, strategies
from nas_jax.runtime import rng
from nas_jax.spaces import choices
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.strategies import exhaustive

pytestmark = pytest.mark.system

WORST_DIES, AS_PUBLISHED = "evolution, the worst dies", "enas, as published"
NAMES = sorted([*strategies.STRATEGIES, WORST_DIES, AS_PUBLISHED])
TOY = spaces.make("nasbench_macro", stages=(2, 2))  # four Choices of three; 81 architectures
NUM_ASKED, ROUNDS = 16, 20
OPTIONS = {  # full after two rounds
    "evolution": (("population", 20),),
    WORST_DIES: (("population", 20), ("tournament", 2), ("removal", "worst")),
    AS_PUBLISHED: enas_config.PAPER + enas_config.CODE,
}
BLIND = ("random_search", "exhaustive")  # they do not heed scores
SLOW = (AS_PUBLISHED,)  # at the paper's learning rate, in so few rounds


class Kept(NamedTuple):
    """What a checkpoint holds here."""

    policy: Any


def _make(name):
    return strategies.make(name.partition(",")[0], TOY, OPTIONS.get(name, ()))


@functools.cache
def _made(name):
    return strategies.compiled(_make(name))


def _scores(archs):
    """Separable, in [0, 1]: each Choice adds 0, 1/8 or 2/8."""
    ranks = np.argsort(np.random.default_rng(0).random((4, 3)), -1)
    decisions = np.asarray(TOY.to_decisions(archs))
    return ranks[np.arange(4), decisions].sum(-1) / 8


def _search(strategy, seed=0, rounds=ROUNDS):
    """Mean score of what is asked for in each round."""
    state, means = strategy.init(jax.random.key(seed)), []
    for number in range(rounds):
        archs = strategy.ask(jax.random.key(1000 * seed + number), state, NUM_ASKED)
        means.append(_scores(archs).mean())
        state = strategy.tell(state, archs, _scores(archs))
    return means


def _same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# -- what all must do -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_asks_for_legal_architectures_and_is_deterministic(name):
    strategy = _made(name)
    state = strategy.init(jax.random.key(0))
    first, again = (strategy.ask(jax.random.key(1), state, NUM_ASKED) for _ in range(2))
    assert TOY.contains(first)
    assert np.shape(jax.tree.leaves(first)[0])[0] == NUM_ASKED
    assert _same(first, again)
    told = [strategy.tell(state, first, _scores(first)) for _ in range(2)]
    assert _same(*told)
    other = strategy.ask(jax.random.key(2), told[0], NUM_ASKED)
    assert not _same(first, other)


@pytest.mark.parametrize("name", [name for name in NAMES if not _made(name).on_host])
def test_is_traced_once(name):
    """Neither the state's shapes nor its dtypes change."""
    strategy, traced = _make(name), []

    def ask(key, state, n):
        traced.append("ask")
        return strategy.ask(key, state, n)

    def tell(state, archs, scores):
        traced.append("tell")
        return strategy.tell(state, archs, scores)

    _search(strategies.compiled(strategy._replace(ask=ask, tell=tell)), rounds=3)
    assert sorted(traced) == ["ask", "tell"]


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_a_checkpoint_as_if_nothing_had_been(name, tmp_path):
    """With a strategy of its own, as in another process."""
    strategy, key = _made(name), jax.random.key(5)
    state = strategy.init(jax.random.key(0))
    for number in range(3):
        archs = strategy.ask(jax.random.key(number), state, NUM_ASKED)
        state = strategy.tell(state, archs, _scores(archs))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, Kept({"state": state, "step": np.int32(1)}))
    with Checkpoints(tmp_path) as checkpoints:
        saved = checkpoints.restore(1, Kept({"state": state, "step": np.int32(1)})).policy["state"]
    other = strategies.compiled(_make(name))
    asked = [s.ask(key, at, NUM_ASKED) for s, at in ((strategy, state), (other, saved))]
    assert _same(*asked)
    scores = _scores(asked[0])
    assert _same(strategy.tell(state, asked[0], scores), other.tell(saved, asked[1], scores))


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_score_is_never_kept(name):
    """A round of failures leaves no NaN; what is asked for then is as legal as before."""
    strategy = _made(name)
    state = strategy.init(jax.random.key(0))
    for number in range(3):
        archs = strategy.ask(jax.random.key(number), state, NUM_ASKED)
        scores = np.where(np.arange(NUM_ASKED) % 2, np.nan, _scores(archs))
        state = strategy.tell(state, archs, np.full(NUM_ASKED, np.nan) if number == 1 else scores)
    assert not any(np.isnan(np.asarray(leaf)).any() for leaf in jax.tree.leaves(state))
    assert TOY.contains(strategy.ask(jax.random.key(9), state, NUM_ASKED))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BLIND + SLOW])
def test_beats_random_search_where_choices_add_up(name):
    """The last quarter of a search of 320 scores higher than random ones do, on average."""
    found = [np.mean(_search(_made(name), seed)[-ROUNDS // 4 :]) for seed in (0, 1)]
    random = np.mean([_search(_made("random_search"), seed) for seed in (0, 1)])
    assert min(found) > random + 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_constraint_is_never_violated(name):
    """The last subset once at most: 48 of the 81."""

    def allows(archs):
        return (np.asarray(TOY.to_decisions(archs)) == 2).sum(-1) <= 1

    strategy = _made(name)
    state = strategy.init(jax.random.key(0))
    if name == "exhaustive":  # is told what is allowed
        every = exhaustive.every(TOY)
        state = exhaustive.first_state(every[allows(TOY.from_decisions(every))])
    for number in range(3):
        key = jax.random.key(number)
        archs = strategies.ask_allowed(key, strategy, state, NUM_ASKED, allows)
        assert np.shape(jax.tree.leaves(archs)[0])[0] == NUM_ASKED
        assert allows(archs).all()
        state = strategy.tell(state, archs, _scores(archs))


@pytest.mark.parametrize("name", ["evolution", "enas", "optuna"])
def test_any_strategy_begins_with_the_options_that_a_supernet_has_left(name):
    """Two ops of seven in each of four blocks: 3 of 28 subsets, so one in 7,600 has no other."""
    cells = spaces.make("cell")
    left = jax.tree.map(lambda choice: np.ones(choice.num_options, bool), cells.choices)
    for choice, mask in zip(jax.tree.leaves(cells.choices), jax.tree.leaves(left)):
        mask[2 if choice.num_options == 7 else 9 :] = False
    strategy = strategies.compiled(strategies.make(name, cells))
    state = strategy.init(rng.key(0))

    def asked(key, repair, n=8):
        allows = functools.partial(choices.are_left, cells.choices, left)
        return strategies.ask_allowed(key, strategy, state, n, allows, repair)

    def repair(key, archs):
        return choices.with_left_alone(key, cells.choices, left, archs)

    for number in range(2):
        archs = asked(jax.random.key(number), repair)
        assert cells.contains(archs)
        assert choices.are_left(cells.choices, left, archs).all()
        assert len({*cells.to_strs(archs)}) > 6
        state = strategy.tell(state, archs, np.arange(8) / 8)


def test_what_is_allowed_soon_is_not_repaired():
    strategy, key = _made("evolution"), jax.random.key(1)
    state = strategy.init(rng.key(0))

    def allows(archs):
        return (np.asarray(TOY.to_decisions(archs)) == 2).sum(-1) <= 1

    def repair(key, archs):
        raise AssertionError

    archs = strategies.ask_allowed(key, strategy, state, NUM_ASKED, allows, repair)
    assert _same(archs, strategies.ask_allowed(key, strategy, state, NUM_ASKED, allows))


def test_what_nothing_keeps_to_is_an_error():
    strategy = _made("random_search")
    with pytest.raises(ValueError, match=r"only 0 keep to config\.sweep\.constraints"):
        strategies.ask_allowed(
            jax.random.key(0), strategy, (), 8, lambda archs: np.zeros(len(archs[0]), bool)
        )


# -- exhaustive, Optuna, names and options --------------------------------------------------------


def test_a_surrogate_asks_for_what_it_was_not_told_and_begins_alike_for_any_number():
    strategy = _made("surrogate")
    archs = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0)), 40)
    state = strategy.tell(strategy.init(jax.random.key(0)), archs, _scores(archs))
    few, many = (strategy.ask(jax.random.key(1), state, n) for n in (8, 30))
    assert _same(few, jax.tree.map(lambda mask: mask[:8], many))
    told, asked = {*TOY.to_strs(archs)}, TOY.to_strs(many)
    assert not told & {*asked}
    assert len({*asked}) == 30
    every = TOY.from_decisions(np.concatenate([*TOY.enumerate_decisions()]))
    state = strategy.tell(state, every, _scores(every))
    assert TOY.contains(strategy.ask(jax.random.key(2), state, 8))  # none are left


def test_a_surrogate_knows_sizes():
    """Of scores that are the sizes, of which no mask says all."""
    sizes = {"params": lambda archs: 10.0 ** (4 * _scores(archs))}
    costs = lambda archs: {name: size(archs) for name, size in sizes.items()}  # noqa: E731
    names = ("params",)
    strategy = strategies.make("surrogate", TOY, costs=costs, cost_names=names)
    state = strategy.init(jax.random.key(0))
    archs = TOY.sample(jax.random.key(3), (24,))
    state = strategy.tell(state, archs, _scores(archs) ** 3)
    best = _scores(strategy.ask(jax.random.key(1), state, 4))
    assert best.mean() > np.quantile(_scores(TOY.sample(jax.random.key(4), (200,))), 0.9)


def test_a_surrogate_knows_proxies():
    """Of scores that are a proxy's, which fails for some, and evaluates each architecture once."""
    asked = []

    def proxy(name):
        def evaluate(archs):
            asked.extend(TOY.to_strs(archs))
            values = 1e6 * _scores(archs) ** 3
            return np.where(values < np.median(values) / 100, np.nan, values)

        return {"naswot": evaluate}[name]

    strategy = strategies.make("surrogate", TOY, (("proxies", ("naswot",)),), proxy=proxy)
    assert not asked
    archs = TOY.sample(jax.random.key(3), (24,))
    state = strategy.tell(strategy.init(jax.random.key(0)), archs, _scores(archs))
    best = _scores(strategy.ask(jax.random.key(1), state, 4))
    assert best.mean() > np.quantile(_scores(TOY.sample(jax.random.key(4), (200,))), 0.8)
    assert len(asked) == len({*asked}) > 60  # of 81


def test_a_surrogate_without_scikit_learn_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"needs scikit-learn: pip install -e '\.\[surrogate\]'"):
        strategies.make("surrogate", TOY)


def test_exhaustive_asks_for_each_architecture_once_and_in_order():
    space = spaces.make("nasbench_macro", stages=(1, 2))
    strategy = exhaustive.make(space)
    state, asked = strategy.init(jax.random.key(0)), []
    for _ in range(9):
        archs = strategy.ask(jax.random.key(0), state, 3)
        state = strategy.tell(state, archs, np.zeros(3))
        asked += space.to_decisions(archs).tolist()
    assert asked == sorted(asked)
    assert len({*map(tuple, asked)}) == space.count() == 27


def test_exhaustive_of_a_huge_space_is_refused():
    with pytest.raises(ValueError, match=r"has 6,002,115,840 architectures, more than 1,000,000"):
        strategies.make("exhaustive", spaces.make("cell")).init(jax.random.key(0))


def test_optuna_weighs_a_score_against_a_cost():
    """With a cost that grows with the score all are on the front, and none is favoured."""

    def costs(archs):
        return {"params": (8 * _scores(archs)).tolist()}

    options = (("sampler", "NSGAII"), ("sampler_options", (("population_size", 16),)))
    both = (*options, ("objectives", ("value", "params")))
    means = []
    for chosen in (options, both):
        strategy = strategies.make("optuna", TOY, chosen, costs=costs)
        state, asked = strategy.init(jax.random.key(0)), []
        for number in range(12):
            archs = strategy.ask(jax.random.key(number), state, NUM_ASKED)
            asked.append(np.mean(_scores(archs)))
            state = strategy.tell(state, archs, _scores(archs))
        means.append(np.mean(asked[-4:]))
    assert means[1] < means[0] - 0.15


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("randam_search", (), "'randam_search' is none of .*nearest: 'random_search'"),
        ("evolution", (("populatoin", 5),), "no option of evolution, .*nearest: population"),
        ("random_search", (("population", 5),), "no option of random_search, which has none"),
        ("evolution", (("population", "x"),), "population='x' must be int, such as its default 50"),
        ("evolution", ("population", 5), "'population' is no \\(option, value\\)"),
        ("evolution", (("population", 0),), "population=0 must be 1 or more"),
        ("evolution", (("crossover", 1.5),), "crossover=1.5 must be in \\[0, 1\\]"),
        ("evolution", (("removal", "worse"),), "removal='worse' is none of oldest, worst"),
        (
            "evolution",
            (("removal", "worst"), ("population", 9)),
            "tournament=10 must be at least 2",
        ),
        ("enas", (("learning_rate", -0.1),), "learning_rate=-0.1 must be 0 or more"),
        ("surrogate", (("first", 1),), "first=1 must be"),
        ("surrogate", (("among", 7),), "among=7 must be"),
        ("surrogate", (("proxies", ("nazwot",)),), "'nazwot' is none of .*nearest: 'naswot'"),
        ("optuna", (("sampler", "TPO"),), "sampler='TPO' is none of .*TPE"),
        ("optuna", (("sampler_options", (("sise", 1),)),), "sampler='TPE': .*sise"),
        ("optuna", (("sampler", "BruteForce"),), "use strategy 'exhaustive'"),
        ("optuna", (("objectives", ("params",)),), "must be 'value', then any of params, flops"),
        ("optuna", (("objectives", ("value", "value")),), "must be 'value', then any of params"),
    ],
)
def test_wrong_names_and_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        strategies.make(name, TOY, options)
