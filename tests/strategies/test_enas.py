"""ENAS: what the controller draws, and what scores teach it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import enas as enas_config
from nas_jax import run, strategies
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


# -- the published form ---------------------------------------------------------------------------


def test_the_paper_s_values_and_those_of_its_code():
    """Pham et al., sections 2.2 and 3.2; the code's Adam and baseline."""
    options = dict(enas_config.PAPER)
    assert (options["hidden"], options["learning_rate"]) == (100, 0.00035)
    assert (options["temperature"], options["bound"], options["init_range"]) == (5.0, 2.5, 0.1)
    assert (options["entropy"], options["reward_entropy"]) == (0.0, 0.1)
    code = {"baseline": "each", "baseline_decay": 0.99, "adam": "published"}
    assert dict(enas_config.CODE) == code


@pytest.mark.parametrize("variant", ["", "digits"])
def test_the_config_has_the_paper_s_schedule(variant):
    """An architecture for a batch; the controller learns after each epoch, and the best of ten on
    one batch is picked."""
    config = enas_config.get_config(variant)
    train, supernet, sweep = config.supernet.train, config.supernet, config.sweep
    assert train.batch_size == train.ghost_batch_size
    assert (sweep.num_candidates, sweep.candidates_per_batch) == (10, 10)  # none is told between
    assert sweep.num_images == sweep.batch_size == 128
    assert supernet.sampler == "strategy"
    if not variant:
        turns = run.turns_of(config, 45_000)
        assert turns == (351, 200, 4992)
        assert turns.rounds * sweep.candidates_per_batch == 2000
        assert train.base_lr * train.batch_size / 1024 == 0.05
        assert (train.l2_unused, train.l2_norm_params) == (True, True)  # as in the code
        assert (train.num_epochs, train.momentum, train.nesterov, train.l2) == (
            310,
            0.9,
            True,
            1e-4,
        )


def test_an_epoch_and_its_rounds_follow_from_split_and_batch_size():
    config = enas_config.get_config("digits")
    config.supernet.strategy_rounds, config.supernet.train.batch_size = 0, 64
    config.supernet.strategy_images, config.sweep.batch_size = 0, 100
    config.sweep.num_images = 300
    assert run.turns_of(config, 1000) == (15, 3, 300)  # 15.6 batches of 64; 3 of 100
    config.supernet.strategy_every = 4
    assert run.turns_of(config, 1000).every == 4


def _published(space, **options):
    options = dict(enas_config.PAPER + enas_config.CODE) | {"init_range": 0.0} | options
    strategy = strategies.compiled(enas.make(space, **options))
    return strategy, strategy.init(jax.random.key(0))


def test_a_step_of_the_published_form_by_hand():
    """Of two arms at zero logits: probabilities of 1/2, an entropy of log 2.

    Rewards are 0.5 + 0.1 log 2, 0.9 + 0.1 log 2. The baseline rises from 0 by a hundredth of the
    difference, twice; each reward is weighed by the baseline that it has moved. The logit of an arm
    is 2.5 tanh(bias / 5), so its slope in the bias is 1/2.
    """
    space = Bandit(2)
    strategy, state = _published(space)
    arms = space.from_decisions(jnp.asarray([[0], [1]]))
    told = strategy.tell(state, arms, np.asarray([0.5, 0.9]))
    rewards = np.asarray([0.5, 0.9]) + 0.1 * math.log(2)
    first = 0.01 * rewards[0]
    second = first + 0.01 * (rewards[1] - first)
    assert told["baseline"] == pytest.approx(second, rel=1e-5)
    advantages = rewards - [first, second]
    np.testing.assert_allclose(advantages[0], 0.99 * rewards[0], rtol=1e-6)
    # d log p(0) / d bias(0) = 1/2 (1 - 1/2), d log p(1) / d bias(0) = -1/2 1/2; the mean of two.
    slope = 0.25 * (advantages[0] - advantages[1]) / 2
    # TensorFlow's Adam: after a step the mean square is 0.001 slope^2. It is not corrected before
    # epsilon is added; the step is, by sqrt(1 - 0.999).
    correction = math.sqrt(0.001)
    step = 0.00035 * correction * slope / (correction * abs(slope) + 0.001)
    bias = told["params"]["Dense_0"]["bias"]
    np.testing.assert_allclose(bias, [step, -step], rtol=1e-4)
    assert int(told["told"]) == 1


def test_three_steps_of_the_published_adam_by_hand():
    """As TensorFlow's documentation has them: the epsilon of the paper's "epsilon hat" form."""
    adam, rate, mean, weight = enas.ADAMS["published"](0.1), 0.1, 0.0, 2.0
    params = jnp.float32(weight)
    state = adam.init(params)
    for t, gradient in enumerate((0.5, -0.001, 0.02), 1):
        updates, state = adam.update(jnp.float32(gradient), state, params)
        params = optax.apply_updates(params, updates)
        mean = 0.999 * mean + 0.001 * gradient**2
        weight -= rate * math.sqrt(1 - 0.999**t) * gradient / (math.sqrt(mean) + 0.001)
        np.testing.assert_allclose(params, weight, rtol=1e-5)


def test_the_reward_s_entropy_favours_what_is_uncertain():
    """All score alike, and the baseline is the mean reward of the round.

    So what begins with the arm after which the second one is less certain becomes likelier; with
    the sign turned it would become rarer.
    """
    space = Bandit(2, 2)
    options = {"entropy": 0.0, "reward_entropy": 0.1, "baseline": "round", "learning_rate": 0.01}
    strategy, state = _biased(space, **options)
    probabilities = _policy(space, state).reshape(2, 2)
    given = probabilities / probabilities.sum(1, keepdims=True)
    entropies = -(given * np.log(given)).sum(1)
    assert np.ptp(entropies) > 0.01
    uncertain = int(np.argmax(entropies))
    told = strategy.tell(state, space.from_decisions(_every((2, 2))), np.full(4, 0.7))
    after = _policy(space, told).reshape(2, 2).sum(1)
    assert after[uncertain] > probabilities.sum(1)[uncertain] + 1e-4


def test_the_published_baseline_skips_failures():
    space = Bandit(2)
    strategy, state = _published(space)
    arms = space.from_decisions(jnp.asarray([[0], [1], [0]]))
    told = strategy.tell(state, arms, np.asarray([np.nan, 0.8, np.nan]))
    reward = 0.8 + 0.1 * math.log(2)
    assert told["baseline"] == pytest.approx(0.01 * reward, rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(told))
    bias = np.asarray(told["params"]["Dense_0"]["bias"])
    assert bias[1] > 0 > bias[0]


def test_what_scores_below_the_published_baseline_becomes_rarer():
    """However good it is: without its baseline every score would make an arm likelier."""
    space = Bandit(2)
    strategy, state = _published(space, learning_rate=0.01)
    arm = space.from_decisions(jnp.asarray([[0]]))
    for score, sign in ((0.5, -1), (0.9, 1)):
        start = state | {"baseline": jnp.float32(0.7 + 0.1 * math.log(2))}
        told = strategy.tell(start, arm, np.asarray([score]))
        assert np.sign(told["params"]["Dense_0"]["bias"][0]) == sign


def test_the_first_parameters_are_in_their_range():
    _, state = _published(Bandit(5, 4), init_range=0.1)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state["params"])])
    assert 0.099 < abs(leaves).max() <= 0.1
    assert abs(leaves.mean()) < 0.002
    np.testing.assert_allclose(leaves.std(), 0.1 / math.sqrt(3), rtol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "none"}, "sweep.options: baseline='none'"),
        ({"reward_entropy": -0.1}, "reward_entropy=-0.1 must be 0 or more"),
        ({"adam": "none"}, "sweep.options: adam='none'"),
    ],
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        enas.make(Bandit(2), **options)
