"""What leaves the conditional of an option, and the identity of leaves that it rests on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax.nn import kernels, layers, masked, skipping
from tests.spaces.test_cell import random_variables

X = np.random.default_rng(0).normal(size=(1, 2, 8, 8, 4)).astype(np.float32)
UNIT = layers.partial(layers.SeparableConv, 4, 3)
MODULES = layers.Pair((UNIT, UNIT)), layers.Conv(4, (3, 3))


def conditionals(jaxpr):
    """All of a jaxpr, in order."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            yield equation
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                yield from conditionals(inner.jaxpr)


def test_switch_keeps_of_a_separable_pair_three_activations():
    """Beside its result both depthwise outputs and the first unit's: not its input, BN or ReLU."""
    x, mask = np.ones((1, 2, 8, 8, 4), np.float32), np.ones((1, 1), np.float32)
    net = masked.MixedOp([layers.partial(layers.Pair, (UNIT, UNIT))], [0], execution="switch")
    variables = jax.eval_shape(net.init, jax.random.key(0), x, mask)
    gradient = jax.grad(lambda variables: net.apply(variables, x, mask).sum())
    forward = next(conditionals(jax.make_jaxpr(gradient)(variables).jaxpr))
    assert sorted(out.aval.size for out in forward.outvars) == 4 * [4] + 4 * [x.size]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rematerialised", [False, True])
def test_leaves_of_a_pullback_that_are_inputs_keep_their_identity(traced, rematerialised):
    """The assumption: here p and x are the residuals 0 and 1, and sin's cosine is of its own."""

    def function(p, x):
        return jnp.sin(kernels.conv(x, p))

    if rematerialised:
        policy = jax.checkpoint_policies.save_only_these_names(kernels.SAVED)
        function = jax.checkpoint(function, policy=policy, prevent_cse=False)
    found = []

    def pull(*given):
        leaves = jax.tree.leaves(jax.vjp(function, *given)[1])
        found.extend(skipping._input_numbers(leaves, given))

    (jax.jit(pull) if traced else pull)(jnp.ones((3, 3, 4, 4)), jnp.asarray(X[0]))
    assert sorted(n for n in found if n is not None) == [0, 1]
    assert None in found


@functools.cache
def program(identities):
    """(Sizes of what leaves the first option's conditional; the sum and its gradients.)

    `identities`: names the programs apart.
    """
    # New functions each time, since a sum of functions that are equal is not traced again.
    functions = tuple(lambda variables, x, m=m: m.apply(variables, x) for m in MODULES)

    def run(variables, x, weights):
        value, pull = jax.vjp(
            lambda *given: skipping.weighted_sum(functions, *given, weights), variables, (x, x)
        )
        return value, pull(jnp.cos(value))

    given = tuple(random_variables(module, X) for module in MODULES), X
    forward = next(conditionals(jax.make_jaxpr(run)(*given, np.ones(2, np.float32)).jaxpr))
    compiled = jax.jit(run).lower(*given, np.ones(2, np.float32)).compile()
    return sorted(out.aval.size for out in forward.outvars), functools.partial(compiled, *given)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
def test_without_identities_values_and_gradients_are_the_same(weights, monkeypatch):
    """Then every leaf leaves the conditional: more is written, nothing else changes."""
    weights = np.float32(weights)
    sizes, run = program(identities=True)
    monkeypatch.setattr(skipping, "_input_numbers", lambda leaves, inputs: [None] * len(leaves))
    more, run_without = program(identities=False)
    assert sum(more) >= sum(sizes) + X.size  # the input too
    jax.tree.map(np.testing.assert_array_equal, run_without(weights), run(weights))
