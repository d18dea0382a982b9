"""Learning rates, SGD and L2, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import enas
from nas_jax.training import optim


def rates(name, steps, **fields):
    fields = {"base_lr": 0.1, "batch_size": 1024, "num_steps": 100, "warmup_share": 0.0} | fields
    learning_rate = optim.schedule(name, **fields)
    return [float(learning_rate(jnp.int32(step))) for step in steps]


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        # .05 (1 + cos(pi step / 100)): cos(pi / 3) = 1/2, so .1 * 3/4 after a third.
        ("cosine", [0, 50, 100], [0.1, 0.05, 0.0]),
        # Of 100 steps the first cosine has 3, the others begin at 10, 23 and 48; half-way
        # through the last, at 74, (.1 + .002) / 2.
        ("warm_restarts", [0, 3, 10, 23, 48, 74, 100], [*[0.1] * 5, 0.051, 0.002]),
        ("constant", [0, 50, 100], [0.1, 0.1, 0.1]),
        ("step", [0, 49, 50, 74, 75, 99], [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
    ],
)
def test_schedules(name, steps, expected):
    assert name in optim.SCHEDULES
    np.testing.assert_allclose(rates(name, steps), expected, rtol=1e-5, atol=1e-8)


def test_cosine_after_a_third():
    np.testing.assert_allclose(rates("cosine", [30], num_steps=90), [0.075], rtol=1e-5)


def test_enas_s_rate_restarts_after_10_30_70_and_150_epochs():
    """Pham et al., section 3.2: from 0.05 to 0.001 in 10 epochs, then in twice as many, .."""
    config = enas.get_config().supernet.train
    of_epochs = {name: config[name] for name in ("base_lr", "batch_size", "warmup_share")}
    of_epochs |= {"num_steps": int(config.num_epochs) * 100}
    starts = [0, 1000, 3000, 7000, 15_000]
    np.testing.assert_allclose(rates(config.schedule, starts, **of_epochs), [0.05] * 5, rtol=1e-6)
    lasts = [999, 2999, 6999, 14_999, 31_000]
    np.testing.assert_allclose(rates(config.schedule, lasts, **of_epochs), [0.001] * 5, rtol=1e-3)
    halves = [500, 2000, 5000, 11_000, 23_000]
    np.testing.assert_allclose(rates(config.schedule, halves, **of_epochs), [0.0255] * 5, rtol=1e-5)


@pytest.mark.parametrize("name", optim.SCHEDULES)
@pytest.mark.parametrize(("batch_size", "peak"), [(1024, 0.1), (256, 0.025), (4096, 0.4)])
def test_peak_is_linear_in_the_batch(name, batch_size, peak):
    np.testing.assert_allclose(rates(name, [0], batch_size=batch_size), [peak], rtol=1e-6)


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_warmup(name):
    # A tenth of 100 steps: .01, .02, ... .1 at steps 0..9; the schedule itself from step 10 on.
    expected = [0.01, 0.02, 0.05, 0.1, 0.1]
    np.testing.assert_allclose(rates(name, [0, 1, 4, 9, 10], warmup_share=0.1), expected, rtol=1e-5)


def test_the_rest_follows_the_warmup():
    # 90 steps remain: half of them are over at 10 + 45.
    np.testing.assert_allclose(
        rates("cosine", [55, 100], warmup_share=0.1), [0.05, 0], rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(
        rates("step", [54, 55, 76, 77], warmup_share=0.1), [0.1, 0.01, 0.01, 0.001], rtol=1e-5
    )


def test_one_step_of_warmup_is_at_the_peak():
    np.testing.assert_allclose(rates("constant", [0, 1], warmup_share=0.01), [0.1, 0.1], rtol=1e-6)


def descend(gradients, **fields):
    """Weights after each step from 0 on."""
    fields = {"momentum": 0.9, "nesterov": True, "clip_norm": None} | fields
    optimiser = optim.sgd(0.1, **fields)
    weights = jnp.zeros_like(jnp.asarray(gradients[0]))
    state, path = optimiser.init(weights), []
    for gradient in gradients:
        updates, state = optimiser.update(jnp.asarray(gradient), state, weights)
        weights = optax.apply_updates(weights, updates)
        path.append(np.asarray(weights))
    return path


def test_nesterov_by_hand():
    # m = g + .9 m: 1, then 2.9; step g + .9 m: 1.9, then 4.61; w -= .1 step.
    np.testing.assert_allclose(descend([1.0, 2.0]), [-0.19, -0.651], rtol=1e-6)


def test_heavy_ball_by_hand():
    # w -= .1 m with the same m.
    np.testing.assert_allclose(descend([1.0, 2.0], nesterov=False), [-0.1, -0.39], rtol=1e-6)


@pytest.mark.parametrize(
    ("clip_norm", "gradient"), [(None, [3, 4]), (1.0, [0.6, 0.8]), (2.5, [1.5, 2]), (9.0, [3, 4])]
)
def test_clipping_keeps_the_direction(clip_norm, gradient):
    (weights,) = descend([[3.0, 4.0]], momentum=0.0, nesterov=False, clip_norm=clip_norm)
    np.testing.assert_allclose(weights, -0.1 * np.asarray(gradient), rtol=1e-6)


def test_learning_rate_is_read_at_each_step():

    @jax.jit
    def step(rate, state):
        optimiser = optim.sgd(rate, momentum=0.0, nesterov=False, clip_norm=None)
        return optimiser.update(jnp.float32(1), state)

    state, steps = (
        optim.sgd(1.0, momentum=0.9, nesterov=True, clip_norm=1.0).init(jnp.zeros(())),
        [],
    )
    for number in range(3):
        update, state = step(0.1 * (number + 1), state)
        steps.append(float(update))
    assert step._cache_size() == 1  # one program for all rates
    np.testing.assert_allclose(steps, [-0.1, -0.2, -0.3], rtol=1e-6)


PARAMS = {
    "a": {"kernel": jnp.asarray([[1.0, 2.0]]), "scale": jnp.asarray([3.0])},  # 5 and 9
    "b": {"kernel": jnp.full((1, 1, 2, 2), 2.0)},  # 16
}
USAGE = {"a": {"kernel": 0.5, "scale": 0.5}, "b": {"kernel": 0.0}}


@pytest.mark.parametrize(
    ("usage", "norm_params", "expected"),
    [
        (None, False, 21),  # kernels only: 5 + 16
        (None, True, 30),
        (USAGE, False, 2.5),  # half of 5
        (USAGE, True, 7),  # half of 5 and 9
    ],
)
def test_l2(usage, norm_params, expected):
    usage = usage and jax.tree.map(jnp.float32, usage)
    assert float(optim.l2(PARAMS, usage, norm_params=norm_params)) == expected


def test_l2_pulls_by_usage():
    """Gradient 2 u w: none at all on what no group uses."""
    usage = jax.tree.map(jnp.float32, USAGE)
    pull = jax.grad(optim.l2)(PARAMS, usage, norm_params=False)
    np.testing.assert_array_equal(pull["a"]["kernel"], [[1, 2]])
    np.testing.assert_array_equal(pull["a"]["scale"], [0])
    assert np.all(pull["b"]["kernel"] == 0)
