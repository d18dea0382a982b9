"""Evolution: who dies, who has a child, and how a child differs from its parents, by hand."""

import jax
import numpy as np
import pytest

from nas_jax import spaces, strategies
from nas_jax.runtime import rng
from nas_jax.strategies import evolution
from tests import trainings

TOY = spaces.make("nasbench_macro", stages=(2, 2))  # four Choices of three; 81 architectures
WIDE = spaces.make("nasbench_macro", stages=(8, 8))  # no two members of a population are alike

pytestmark = pytest.mark.system


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
    random = strategies.compiled(strategies.make("random_search", TOY))
    key = jax.random.key(1)
    state, _ = _told(strategy, strategy.init(jax.random.key(0)), [1.0, 2, 3])
    founders = random.ask(key, (), 50)
    trainings.assert_equal(strategy.ask(key, state, 50), founders)
    state, _ = _told(strategy, state, [4.0])
    children = strategy.ask(key, state, 50)
    assert (TOY.to_decisions(children) != TOY.to_decisions(founders)).any()


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
    trainings.assert_equal(at_once, one_by_one)


def test_who_dies_does_not_depend_on_the_default_of_keys():
    """An environment may set another implementation, whose keys are longer."""
    made = evolution.make(TOY, population=3, tournament=2, removal="worst")
    archs = TOY.sample(jax.random.key(0), (8,))
    scores, first = np.arange(8) / 8, made.init(rng.key(0))
    usual = made.tell(first, archs, scores)
    with jax.default_prng_impl("rbg"):
        trainings.assert_equal(made.tell(first, archs, scores), usual)


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
