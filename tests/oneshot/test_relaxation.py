"""Relaxed masks: their values, their gradients, and what the largest alphas stand for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import execution, kernels, layers, masked
from nas_jax.oneshot import relaxation
from nas_jax.spaces.choices import Choice

EDGE = Choice("edge", 3, 1, 1)  # one op of three
PAIR = Choice("pair", 3, 1, 2)  # subsets 0, 1, 2, 01, 02, 12
LOGS = {"edge": np.log([0.5, 0.3, 0.2]), "pair": np.log([0.1, 0.1, 0.1, 0.2, 0.2, 0.3])}
CHOICES = {"edge": EDGE, "pair": PAIR}
ALPHAS = {name: (logs + 7).astype(np.float32) for name, logs in LOGS.items()}  # 7 changes nothing


def test_the_first_alphas_are_as_published():
    """Normal, times 1e-3: of 4,095 subsets the deviation is within 5 %."""
    many = Choice("many", 12, 1, 12)
    one, two = relaxation.first_alphas(jax.random.key(0), (many, many))
    assert float(jnp.std(one)) == pytest.approx(1e-3, rel=0.05)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.1


def test_a_relaxed_mask_is_the_mean_of_legal_masks():
    """By hand: option 0 of the pair is in the subsets 0, 01 and 02."""
    masks = relaxation.expected(CHOICES, ALPHAS)
    np.testing.assert_allclose(masks["edge"], [0.5, 0.3, 0.2], rtol=1e-5)
    np.testing.assert_allclose(masks["pair"], [0.5, 0.6, 0.6], rtol=1e-5)


def test_the_largest_alphas_are_a_legal_architecture():
    masks = relaxation.largest(CHOICES, ALPHAS)
    np.testing.assert_array_equal(masks["edge"], [1, 0, 0])
    np.testing.assert_array_equal(masks["pair"], [0, 1, 1])


def test_entropy_is_a_share_of_that_of_chance():
    even = {"edge": np.zeros(3, np.float32), "pair": np.ones(6, np.float32)}
    sure = {"edge": np.float32([0, 99, 0]), "pair": np.zeros(6, np.float32)}
    single = {"one": np.zeros(1, np.float32)}
    assert float(relaxation.entropy(even)) == pytest.approx(1, abs=1e-6)
    assert float(relaxation.entropy(sure | single)) == pytest.approx(0.5, abs=1e-6)
    assert relaxation.entropy(single) == 0


@jax.jit
def _drawn(keys, alphas, temperature):
    return jax.vmap(lambda key: relaxation.drawn(key, CHOICES, alphas, temperature))(keys)


def test_drawn_masks_are_legal_and_as_probable_as_the_alphas_say():
    """To the bit 0 or 1, at any temperature."""
    keys = jax.random.split(jax.random.key(0), 4000)
    masks = jax.device_get(_drawn(keys, ALPHAS, 5.0))
    assert {*np.unique(masks["edge"])} == {*np.unique(masks["pair"])} == {0, 1}
    np.testing.assert_allclose(masks["edge"].mean(0), [0.5, 0.3, 0.2], atol=0.03)
    np.testing.assert_allclose(masks["pair"].mean(0), [0.5, 0.6, 0.6], atol=0.03)
    assert {*masks["edge"].sum(-1)} == {1}


def test_the_gradient_of_a_draw_is_that_of_its_softmax_at_the_temperature():
    """Of c . mask by alpha: p (c - c . p) / T, since sums of log probabilities stay the same."""
    key, c, temperature = jax.random.key(3), np.float32([1, -2, 0.5]), 2.0

    def value(alpha, temperature):
        [mask] = relaxation.drawn(key, (EDGE,), (alpha,), temperature)
        return jnp.dot(c, mask)

    found = jax.jit(jax.grad(value))(ALPHAS["edge"], temperature)
    noise = jax.random.gumbel(jax.random.split(key, 1)[0], (3,), jnp.float32)
    p = np.asarray(jax.nn.softmax((LOGS["edge"] + noise) / temperature))
    through = p * (c - c @ p) / temperature  # by the log probabilities
    expected = through - np.exp(LOGS["edge"]) * through.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_a_ghost_batch_draws_by_its_number():
    space = spaces.make("nasbench201", num_cells=1)
    state = {"alphas": relaxation.first_alphas(jax.random.key(0), space.choices)}
    state["temperature"] = jnp.float32(1)
    sampler = relaxation.RelaxedSampler(space, "gumbel")
    draw = jax.jit(lambda groups: sampler(jax.random.key(1), 3, groups, state, None))
    whole, part = (jax.device_get(draw(np.arange(*r))) for r in ((0, 8), (2, 8)))
    jax.tree.map(lambda w, p: np.testing.assert_array_equal(w[2:], p), whole, part)
    assert len(np.unique(np.concatenate(jax.tree.leaves(whole), -1), axis=0)) > 1


# -- in a network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["op", "concat"])
def test_masks_have_a_gradient_where_they_are_relaxed(kind):
    """Both modules are linear in the mask: the gradient of sum(sin y) is sum(cos(y) y of j)."""
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 3)).astype(np.float32)
    if kind == "op":
        make = functools.partial(masked.MixedOp, (layers.partial(layers.Conv, 3, (3, 3)),) * 2)
        module, given = make((0, 1), execution.RELAXED), x
    else:
        module = masked.MaskedConcat(3, (0, 1), execution=execution.RELAXED)
        given = [(x, jax.jit(kernels.moments)(x))] * 2
    variables = jax.jit(module.init)(jax.random.key(0), given, np.ones((1, 2), np.float32))

    @jax.jit
    def output(mask):
        return module.apply(variables, given, mask)

    mask = np.float32([[0.3, 0.7]])
    gradient = jax.jit(jax.grad(lambda mask: jnp.sum(jnp.sin(output(mask)))))(mask)
    each = [output(np.eye(2, dtype=np.float32)[j : j + 1]) for j in range(2)]
    expected = [float(jnp.sum(jnp.cos(output(mask)) * y)) for y in each]
    assert min(map(abs, expected)) > 0.1
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-4)
