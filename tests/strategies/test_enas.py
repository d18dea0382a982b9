"""ENAS: what the controller draws, and what scores teach it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import strategies
from nas_jax.spaces.base import Space
from nas_jax.spaces.choices import Choice
from nas_jax.strategies import enas

pytestmark = pytest.mark.system


class Bandit(Space):
    """Choices alone, without a network."""

    def __init__(self, *sizes):
        self._choices = [Choice(f"arm{i}", size, 1, 1) for i, size in enumerate(sizes)]

    choices = property(lambda self: self._choices)
    to_str = parse = network = reduction_at = option_names = reduction = None


def _every(sizes):
    return jnp.asarray(list(itertools.product(*map(range, sizes))), jnp.int32)


def test_reinforce_is_the_gradient_of_the_expected_score():
    """Exact: weights p(a) (score(a) - baseline) over all architectures, against finite differences
    of sum p(a) score(a) in several directions; whatever the baseline."""
    sizes = (3, 2, 4)
    controller = enas.Controller(sizes, 8, 1.0, 2.5)
    params = controller.init(jax.random.key(0), lambda d, logits: jnp.int32(0))["params"]
    keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
    noise = [0.5 * jax.random.normal(k, p.shape) for k, p in zip(keys, jax.tree.leaves(params))]
    params = jax.tree.unflatten(jax.tree.structure(params), noise)
    decisions = _every(sizes)
    scores = jax.random.uniform(jax.random.key(2), (len(decisions),))

    @jax.jit
    def probabilities(params):
        def one(row):
            return jnp.exp(controller.apply({"params": params}, lambda d, logits: row[d])[1])

        return jax.vmap(one)(decisions)

    def expected(params):
        return jnp.vdot(probabilities(params), scores)

    np.testing.assert_allclose(probabilities(params).sum(), 1, rtol=1e-5)
    weights = probabilities(params) * (scores - 0.7)
    reinforce = jax.jit(jax.grad(lambda p: enas.objective(p, controller, decisions, weights)[0]))
    gradient = reinforce(params)
    for number in range(4):
        keys = jax.random.split(jax.random.key(3 + number), len(noise))
        step = [jax.random.normal(k, p.shape) for k, p in zip(keys, noise)]
        step = jax.tree.unflatten(jax.tree.structure(params), step)
        ends = [jax.tree.map(lambda p, d, s=s: p + s * 1e-2 * d, params, step) for s in (1, -1)]
        slope = (expected(ends[0]) - expected(ends[1])) / 2e-2
        inner = sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(step)))
        np.testing.assert_allclose(inner, slope, rtol=0.02, atol=2e-4)


def _biased(space, **options):
    """(strategy, a state that was told nothing, with a policy that is far from uniform)."""
    strategy = enas.make(space, hidden=8, **options)
    state = strategy.init(jax.random.key(0))
    leaves, treedef = jax.tree.flatten(state["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [2 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)]
    return strategies.compiled(strategy), state | {"params": treedef.unflatten(noise)}


def _policy(space, state):
    """Probability of every architecture, in their order."""
    sizes = [choice.num_subsets for choice in space.choices]
    controller = enas.Controller(tuple(sizes), 8, 5.0, 2.5)

    def one(row):
        return controller.apply({"params": state["params"]}, lambda d, logits: row[d])[1]

    return np.exp(jax.vmap(one)(_every(sizes)))


def test_scores_are_weighed_against_their_moving_average():
    """What scores as ever teaches nothing; what scores below becomes rarer, however good it is."""
    space = Bandit(4)
    strategy, state = _biased(space, entropy=0.0)
    arms = space.from_decisions(jnp.asarray([[1], [2]]))
    told = strategy.tell(state, arms, np.asarray([0.7, 0.7]))
    jax.tree.map(np.testing.assert_array_equal, told["params"], state["params"])
    assert told["baseline"] == pytest.approx(0.7)
    before = _policy(space, told)
    for score in (0.5, 0.9):
        after = strategy.tell(told, jax.tree.map(lambda m: m[:1], arms), np.asarray([score]))
        assert after["baseline"] == pytest.approx(0.95 * 0.7 + 0.05 * score)
        assert np.sign(_policy(space, after)[1] - before[1]) == np.sign(score - 0.7)


def test_the_bonus_makes_a_policy_more_uniform():
    """Where all score alike, nothing else moves it."""
    space = Bandit(4)
    strategy, state = _biased(space, entropy=1.0)
    arms = space.from_decisions(jnp.asarray([[1], [2]]))
    told = strategy.tell(state, arms, np.asarray([0.7, 0.7]))
    before, after = (-np.sum(p * np.log(p)) for p in (_policy(space, s) for s in (state, told)))
    assert after > before + 0.001


def test_a_decision_depends_on_those_before():
    """The second arm's probabilities, given each of the first ones."""
    space = Bandit(3, 2)
    probabilities = _policy(space, _biased(space)[1]).reshape(3, 2)
    given = probabilities / probabilities.sum(1, keepdims=True)
    assert np.ptp(given[:, 0]) > 0.05


def test_architectures_are_drawn_as_often_as_the_controller_says():
    space = Bandit(3, 2)
    strategy, state = _biased(space)
    expected = _policy(space, state)
    archs = strategy.ask(jax.random.key(5), state, 4000)
    decisions = np.asarray(space.to_decisions(archs))
    counts = np.bincount(decisions[:, 0] * 2 + decisions[:, 1], minlength=6) / 4000
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(counts, expected, atol=4 * 0.5 / math.sqrt(4000))


@pytest.mark.parametrize(
    ("temperature", "bound", "logit"), [(5.0, 2.5, 2.5 * math.tanh(2)), (5.0, 0.0, 2.0)]
)
def test_logits_are_cooled_and_bounded(temperature, bound, logit):
    """A logit of ten, and none for the other arm."""
    controller, seen = enas.Controller((2,), 4, temperature, bound), []

    def choose(d, logits):
        seen.append(logits)
        return jnp.int32(0)

    params = controller.init(jax.random.key(0), choose)["params"]
    params["Dense_0"]["bias"] = jnp.asarray([10.0, 0.0])
    controller.apply({"params": params}, choose)
    np.testing.assert_allclose(seen[-1], [logit, 0], rtol=1e-5)


def test_the_first_architectures_are_uniform():
    space = Bandit(3, 2)
    strategy = strategies.compiled(enas.make(space))
    archs = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(0)), 3000)
    decisions = np.asarray(space.to_decisions(archs))
    counts = np.bincount(decisions[:, 0] * 2 + decisions[:, 1], minlength=6) / 3000
    np.testing.assert_allclose(counts, 1 / 6, atol=0.03)


def test_the_controller_converges_on_a_bandit():
    """The best arm of five is 0.9, the others 0.5; noise of 0.1."""
    space, noise = Bandit(5), np.random.default_rng(0)
    strategy = strategies.compiled(enas.make(space, learning_rate=0.03))
    state = strategy.init(jax.random.key(0))
    for number in range(150):
        archs = strategy.ask(jax.random.key(number), state, 16)
        arms = np.asarray(space.to_decisions(archs))[:, 0]
        scores = np.where(arms == 3, 0.9, 0.5) + 0.1 * noise.normal(size=16)
        state = strategy.tell(state, archs, scores)
    arms = np.asarray(space.to_decisions(strategy.ask(jax.random.key(999), state, 200)))
    assert (arms == 3).mean() > 0.7
    assert 0.7 < state["baseline"] < 1
