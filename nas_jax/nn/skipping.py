"""The execution "switch": an option whose weight is zero costs no time, forward or backward.

Without gradients the sum is a loop over the options that are on. With gradients each option is a
conditional. XLA writes every output of a conditional, even if the branch was not taken (then as
zeros). So a conditional has as few outputs as possible. The pullback of an option holds four kinds
of leaves:

    pullback of f at (p, x)       [ p     x     a       m    ]    p, x  inputs of the option
                                    |     |     |       |         a, m  made inside, `kernels.SAVED`
    leaves the conditional          .     .     a       m         BN, ReLU: not kept, computed again
                                    |     |     |       |
    given to the backward pass    [ p     x     a       m    ]
                                    ^     ^     ^       ^
                                    put back    from the conditional's outputs

Only `a` and `m` leave the conditional. The inputs `p` and `x` exist outside as well, and are put
back into the pullback by their number. An input is recognised by its identity: it is the leaf of
the pullback that is the same object (`_input_numbers`). `jax.vjp` keeps its residuals so, but does
not promise it. An input that is not recognised leaves the conditional: the gradient is the same,
only slower.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nas_jax.nn import kernels


@functools.partial(jax.jit, static_argnums=0)
def weighted_sum(
    functions: tuple[Callable[[Any, Any], jax.Array], ...],
    params: tuple[Any, ...],
    inputs: tuple[Any, ...],
    weights: jax.Array,
) -> jax.Array:
    """Compute the weighted sum of k options for one group; equal functions are traced once.

    Args:
      functions, params, inputs: of each option, as in `execution.weighted_sum`; inputs [1, ...].
      weights: float32 [k].

    Returns:
      [1, ...].
    """
    return _skipping(functions, params, inputs, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _skipping(functions, params, inputs, weights):
    """Loop over the options that are on; those that are off cost no array of zeros."""
    out = jax.eval_shape(functions[0], params[0], inputs[0])
    branches = [
        lambda params, inputs, j=j, f=f: f(params[j], inputs[j]) for j, f in enumerate(functions)
    ]
    on = weights != 0
    order = jnp.argsort(~on, stable=True)

    def add(i, total):
        y = lax.switch(order[i], branches, params, inputs)
        return total + y * weights[order[i]].astype(y.dtype)

    return lax.fori_loop(0, jnp.sum(on), add, jnp.zeros(out.shape, out.dtype))


def _skipping_fwd(functions, params, inputs, weights):
    """Compute each option by a conditional that also saves the residuals of its gradient."""
    parts, pulls = zip(*map(_option_fwd, functions, params, inputs, weights))
    return sum(parts), (pulls, weights)


def _skipping_bwd(functions, saved, g):
    grads = [_option_bwd(pull, weight, g) for pull, weight in zip(*saved)]
    params, inputs = zip(*grads)
    return params, inputs, None


_skipping.defvjp(_skipping_fwd, _skipping_bwd)


def _option_fwd(function, params, x, weight):
    """Return weight * function(params, x) and its pullback: zeros, at no cost, if it is off.

    See the picture above.
    """
    policy = jax.checkpoint_policies.save_only_these_names(kernels.SAVED)
    function = jax.checkpoint(function, policy=policy, prevent_cse=False)
    numbers, treedef = [], None  # of the pullback; set when `on` is traced

    def on(*given):
        nonlocal numbers, treedef
        y, pull = jax.vjp(function, *given)
        leaves, treedef = jax.tree.flatten(pull)
        numbers = _input_numbers(leaves, jax.tree.leaves(given))
        made = [leaf for leaf, number in zip(leaves, numbers) if number is None]
        return y * weight.astype(y.dtype), made

    y, made = _if_on(weight, on, params, x)
    made, given = iter(made), jax.tree.leaves((params, x))
    pull = treedef.unflatten([next(made) if i is None else given[i] for i in numbers])
    return y, pull


def _input_numbers(leaves: Sequence[Any], inputs: Sequence[Any]) -> list[int | None]:
    """Return for each leaf the number of the input that it is; None if it is not recognised.

    A leaf of None is saved, which is always right. So only the speed of the gradient relies on JAX
    keeping identities.
    """
    numbers = {id(x): i for i, x in enumerate(inputs)}
    return [numbers.get(id(leaf)) for leaf in leaves]


def _option_bwd(pull, weight, g):
    return _if_on(weight, lambda pull, g: pull(g * weight.astype(g.dtype)), pull, g)


def _if_on(weight, function, *args):
    """Return function(*args), or zeros if the weight is zero."""
    shapes = jax.eval_shape(function, *args)

    def off(*args):
        return jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), shapes)

    return lax.cond(weight != 0, function, off, *args)
