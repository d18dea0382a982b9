"""Ways to compute a sum of options of which most are off: equal in result, not in speed.

All compute  sum over j of weights[:, j] * functions[j](inputs[j])  for G groups, where an option
whose weight is zero counts as zero. Letters as in `ops`.

masked    every option for every group, multiplied by its weight. Fastest where launching work is
          cheap and branching is not.
switch    an option is skipped if its weight is zero: one group only, a conditional per option.
dispatch  the groups that use an option are gathered, up to a few fixed numbers of groups, and the
          result is scattered back, as experts are served in a mixture of experts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

NAMES = ("masked", "switch", "dispatch")
_SHARES = (1 / 4, 1 / 2, 1)  # of the groups: for so many is an option's work done in dispatch


def weighted_sum(
    execution: str,
    functions: Sequence[Callable[[Any], jax.Array]],
    inputs: Sequence[Any],
    weights: jax.Array,
) -> jax.Array:
    """The weighted sum of the options.

    Args:
      execution: one of `NAMES`.
      functions: per option, from its input to [G, ...]; all of one shape and dtype.
      inputs: per option, a tree of arrays [G or 1, ...].
      weights: float32 [G, k].

    Returns:
      [G, ...].

    Raises:
      ValueError: "switch" for more than one group.
    """
    how = {"masked": _masked, "switch": _switch, "dispatch": _dispatch}[execution]
    return how(functions, inputs, weights)


def scaled(y: jax.Array, weight: jax.Array) -> jax.Array:
    """y [G or 1, ...] times weight [G]."""
    return y * weight.reshape(-1, *[1] * (y.ndim - 1)).astype(y.dtype)


def _masked(functions, inputs, weights):
    return sum(scaled(f(x), weights[:, j]) for j, (f, x) in enumerate(zip(functions, inputs)))


def _switch(functions, inputs, weights):
    if weights.shape[0] != 1:
        raise ValueError(f"execution 'switch' runs one group at a time, not {weights.shape[0]}")
    # What a function closes over (parameters) must be an argument to be differentiated.
    pure, closed = zip(*(jax.closure_convert(f, x) for f, x in zip(functions, inputs)))
    return _skipping(tuple(pure), tuple(inputs), closed, weights[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _skipping(functions, inputs, closed, weights):
    """A loop over the options that are on; no zero array is ever made or added."""
    out = jax.eval_shape(functions[0], inputs[0], *closed[0])
    branches = [
        lambda args, j=j, f=f: f(args[0][j], *args[1][j]) * args[2][j].astype(out.dtype)
        for j, f in enumerate(functions)
    ]
    on = weights != 0
    order = jnp.argsort(~on, stable=True)

    def add(i, total):
        return total + lax.switch(order[i], branches, (inputs, closed, weights))

    return lax.fori_loop(0, jnp.sum(on), add, jnp.zeros(out.shape, out.dtype))


def _conditional(functions, inputs, closed, weights):
    """The same as a conditional per option, which can be differentiated."""

    def option(f, x, consts, weight):
        out = jax.eval_shape(f, x, *consts)
        return lax.cond(
            weight != 0,
            lambda x, consts: f(x, *consts) * weight.astype(out.dtype),
            lambda x, consts: jnp.zeros(out.shape, out.dtype),
            x,
            consts,
        )

    return sum(map(option, functions, inputs, closed, weights))


_skipping.defvjp(
    lambda functions, *args: jax.vjp(functools.partial(_conditional, functions), *args),
    lambda functions, pull, g: pull(g),
)


def _dispatch(functions, inputs, weights):
    raise NotImplementedError
