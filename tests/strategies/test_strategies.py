"""Search strategies: what all must do (a new file is found and tested), and each one's truth."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from configs import enas as enas_config
from nas_jax import spaces, strategies
from nas_jax.runtime import rng
from nas_jax.spaces import choices
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.strategies import evolution, exhaustive

pytestmark = pytest.mark.system

WORST_DIES, AS_PUBLISHED = "evolution, the worst dies", "enas, as published"
NAMES = sorted([*strategies.STRATEGIES, WORST_DIES, AS_PUBLISHED])
TOY = spaces.make("nasbench_macro", stages=(2, 2))  # four Choices of three; 81 architectures
WIDE = spaces.make("nasbench_macro", stages=(8, 8))  # no two members of a population are alike
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


# -- evolution ------------------------------------------------------------------------------------


def _told(strategy, state, scores):
    archs = TOY.sample(jax.random.key(len(scores) + int(state["told"])), (len(scores),))
    return strategy.tell(state, archs, np.asarray(scores)), np.asarray(TOY.to_decisions(archs))


def test_the_oldest_dies_however_good():
    strategy = evolution.make(TOY, population=4, tournament=2)
    state, first = _told(strategy, strategy.init(jax.random.key(0)), [9.0, 1, 2])
    state, second = _told(strategy, state, [3.0, np.nan, 4])
    np.testing.assert_array_equal(state["scores"], [4, 1, 2, 3])  # 9 was the oldest
    np.testing.assert_array_equal(state["decisions"], [second[2], *first[1:], second[0]])
    state, third = _told(strategy, state, [5.0, 6, 7, 8, 9, 10])  # more than there is room for
    np.testing.assert_array_equal(state["scores"], [8, 9, 10, 7])  # 7 follows 4
    np.testing.assert_array_equal(state["decisions"], third[[3, 4, 5, 2]])


def test_children_differ_from_the_best_of_a_tournament_in_one_choice():
    """A tournament far larger than the population is won by the best of all."""
    strategy = strategies.compiled(evolution.make(TOY, population=4, tournament=200))
    state, told = _told(strategy, strategy.init(jax.random.key(0)), [1.0, 2, 9, 3])
    children = np.asarray(TOY.to_decisions(strategy.ask(jax.random.key(1), state, 50)))
    assert ((children != told[2]).sum(-1) == 1).all()
    assert len(np.unique(children, axis=0)) == 8  # all neighbours


def test_a_tournament_is_won_by_its_best():
    """Of two members drawn with replacement the better is the parent in three cases of four."""
    made = evolution.make(TOY, population=2, tournament=2)
    parents = TOY.from_decisions(np.asarray([[0] * 4, [2] * 4]))
    state = made.tell(made.init(jax.random.key(0)), parents, np.asarray([0.2, 0.1]))
    children = strategies.compiled(made).ask(jax.random.key(1), state, 1000)
    is_best = (np.asarray(TOY.to_decisions(children)) == 0).sum(-1) >= 3
    assert abs(is_best.mean() - 3 / 4) < 0.06


def test_founders_are_those_of_random_search():
    """As long as the population is not full; then there are children alone."""
    strategy = strategies.compiled(evolution.make(TOY, population=4))
    random, key = _made("random_search"), jax.random.key(1)
    state, _ = _told(strategy, strategy.init(jax.random.key(0)), [1.0, 2, 3])
    founders = random.ask(key, (), 50)
    assert _same(strategy.ask(key, state, 50), founders)
    state, _ = _told(strategy, state, [4.0])
    assert not _same(strategy.ask(key, state, 50), founders)


def test_the_worse_of_two_dies_and_the_better_has_a_child():
    """In a population of two both take part: the worse dies, even for a child that is worse yet."""
    made = evolution.make(TOY, population=2, tournament=2, removal="worst")
    state, first = _told(made, made.init(jax.random.key(0)), [0.2, 0.4])
    children = strategies.compiled(made).ask(jax.random.key(1), state, 50)
    assert ((np.asarray(TOY.to_decisions(children)) != first[1]).sum(-1) == 1).all()
    state, second = _told(made, state, [0.1])
    np.testing.assert_array_equal(state["scores"], np.float32([0.1, 0.4]))
    np.testing.assert_array_equal(state["decisions"], [second[0], first[1]])
    state, third = _told(made, state, [np.nan, 0.5, 0.3])  # 0.1 dies for 0.5, 0.4 for 0.3
    np.testing.assert_array_equal(state["scores"], np.float32([0.5, 0.3]))
    np.testing.assert_array_equal(state["decisions"], third[1:])
    assert int(state["told"]) == 5


def test_who_dies_is_drawn_for_each_child():
    """Of three members, two in a tournament: never the best, the worst in two cases of three."""
    made = evolution.make(TOY, population=3, tournament=2, removal="worst")
    archs = TOY.sample(jax.random.key(0), (4,))
    tell = jax.jit(made.tell)
    dead = []
    for seed in range(300):
        state = tell(made.init(jax.random.key(seed)), archs, np.float32([0.3, 0.1, 0.2, 0]))
        dead.append(int(np.argmin(state["scores"])))
    assert dead.count(0) == 0
    assert abs(dead.count(1) / 300 - 2 / 3) < 0.1
    at_once = tell(made.init(jax.random.key(0)), archs, np.float32([0.3, 0.1, 0.2, 0]))
    one_by_one = made.init(jax.random.key(0))
    for number, score in enumerate(np.float32([0.3, 0.1, 0.2, 0])):
        one = jax.tree.map(lambda mask, number=number: mask[number : number + 1], archs)
        one_by_one = tell(one_by_one, one, score[None])
    assert _same(at_once, one_by_one)


def test_who_dies_does_not_depend_on_the_default_of_keys():
    """An environment may set another implementation, whose keys are longer."""
    made = evolution.make(TOY, population=3, tournament=2, removal="worst")
    archs = TOY.sample(jax.random.key(0), (8,))
    scores, first = np.arange(8) / 8, made.init(rng.key(0))
    usual = made.tell(first, archs, scores)
    with jax.default_prng_impl("rbg"):
        assert _same(made.tell(first, archs, scores), usual)


@pytest.mark.parametrize(
    ("options", "size", "of_a_tournament"),
    [
        ({}, 50, 10),
        ({"population": 1000, "tournament": 2, "removal": "worst"}, 1000, 2),  # 2017, section 3.1
        ({"population": 100, "tournament": 25}, 100, 25),  # AAAI 2019, methods
    ],
)
def test_the_papers_constants_and_the_defaults(options, size, of_a_tournament):
    """Of as many distinct scores as there are members, the best of few is the parent.

    That it beats all but a share q has the chance 1 - (1 - q)^t; here q = 1/10.
    """
    made = strategies.compiled(evolution.make(WIDE, **options))
    founders = WIDE.sample(jax.random.key(0), (size,))
    state = made.tell(made.init(rng.key(0)), founders, np.arange(size, dtype=np.float32))
    assert state["scores"].shape == (size,)
    assert sorted(state["scores"]) == [*range(size)]
    children = np.asarray(WIDE.to_decisions(made.ask(jax.random.key(1), state, 2000)))
    apart = (children[:, None] != np.asarray(state["decisions"])).sum(-1)
    parents = np.where(apart == 1, 1, 0).argmax(-1)  # founders differ in more than one Choice
    assert (apart == 1).sum(-1).max() == 1
    expected = 1 - 0.9**of_a_tournament
    assert abs((parents >= 0.9 * size).mean() - expected) < 0.05


def test_crossover_mixes_two_parents():
    """Parents 0000 and 2222: a child has both, but for the one Choice that mutates."""
    made = evolution.make(TOY, population=2, tournament=1, crossover=1.0)
    strategy = strategies.compiled(made)
    parents = TOY.from_decisions(np.asarray([[0] * 4, [2] * 4]))
    state = strategy.tell(strategy.init(jax.random.key(0)), parents, np.asarray([1.0, 1]))
    children = np.asarray(TOY.to_decisions(strategy.ask(jax.random.key(1), state, 200)))
    twos = (children == 2).sum(-1)
    assert ((children == 1).sum(-1) <= 1).all()
    # Of two equal parents (half the cases) a child has three or four of a kind.
    assert 0.1 < (twos == 2).mean() < 0.4


# -- exhaustive, Optuna, names and options --------------------------------------------------------


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
