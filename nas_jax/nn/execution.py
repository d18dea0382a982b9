"""Ways to compute a sum of options, most of which are off. They differ in speed only.

Each computes  sum over j of weights[:, j] * functions[j](params[j], inputs[j])  for G groups. An
option whose weight is zero counts as zero. Letters as in `layers`.

masked    compute every option for every group, and multiply by the weights. Fastest where launching
          work is cheap and branches are dear.
switch    skip an option whose weight is zero, by a conditional per option. For one group only.
dispatch  gather the groups that use an option, compute it for them, and put the results back by
          another gather, as a mixture of experts does. The number of groups is rounded up to a
          few fixed ones, of which a branch takes one. "dispatch:6" has room for 6 groups of each
          option, and no branch: the caller, who knows the masks, sees to it that no option is used
          by more. A group that finds no room gets NaN.

"relaxed" is no other way: it is "masked" with a gradient by the weights, for searches that learn
them (DARTS). In the others weights are constants, since "switch" could not keep what is off.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nas_jax import naming
from nas_jax.nn import kernels, skipping

NAMES = ("masked", "switch", "dispatch")
RELAXED = "relaxed"
# What the gradient of an option computes again instead of keeping it: nothing; batch norms and
# ReLUs; all of the option. "switch" does the second anyway.
REMAT = ("none", "norms", "ops")
_remat = contextvars.ContextVar("remat", default="none")
_SHARES = (1 / 4, 1 / 2, 1)  # of the groups: the sizes for which "dispatch" has a program
# The same where the masks are known before: few programs, since each is compiled; then "masked".
_ROOMS = (3 / 8, 7 / 16, 1 / 2)


def with_room(users: int, groups: int) -> str:
    """Name the execution "dispatch" that has room for `users` of the groups of each option.

    It is one of a few, of which the last is "masked": it has room for all.
    """
    rooms = (math.ceil(share * groups) for share in _ROOMS)
    return next((f"dispatch:{room}" for room in rooms if users <= room < groups), "masked")


def split(name: str) -> tuple[str, int | None]:
    """Split "dispatch:6" into the name and the capacity; None: it has none.

    Raises: ValueError if there is no such execution.
    """
    first, _, capacity = name.partition(":")
    if first == "dispatch" and capacity.isdecimal() and int(capacity):
        return first, int(capacity)
    naming.check("execution", name, (*NAMES, RELAXED))
    return name, None


def resolve(name: str, platform: str) -> str:
    """Return one of `NAMES`; "auto" stands for "switch" on the platform "cpu", else for "masked".

    Raises: ValueError if there is no execution of that name.
    """
    naming.check("execution", name, ("auto", *NAMES))
    if name != "auto":
        return name
    return "switch" if platform == "cpu" else "masked"


@contextlib.contextmanager
def rematerialising(what: str) -> Iterator[None]:
    """Let gradients of options that are traced in the block compute again `what`, of `REMAT`."""
    naming.check("remat", what, REMAT)
    token = _remat.set(what)
    try:
        yield
    finally:
        _remat.reset(token)


def rematerialised(function: Callable) -> Callable:
    """Return the function of an option, whose gradient computes again what it should."""
    if _remat.get() == "none":
        return function
    norms = jax.checkpoint_policies.save_only_these_names(kernels.SAVED)
    return jax.checkpoint(function, policy=norms if _remat.get() == "norms" else None)


def weighted_sum(
    execution: str,
    functions: Sequence[Callable[[Any, Any], jax.Array]],
    params: Sequence[Any],
    inputs: Sequence[Any],
    weights: jax.Array,
) -> jax.Array:
    """Compute the weighted sum of k options.

    Args:
      execution: one of `NAMES`, of `with_room`, or `RELAXED`.
      functions: of each option, (params, input) -> [G, ...], all of one shape and dtype. Pure and
        hashable: "switch" traces a sum once for equal functions.
      params: of each option, a tree of arrays.
      inputs: of each option, a tree of arrays [G or 1, ...].
      weights: float32 [G, k]; no gradient flows to them, but under `RELAXED`.

    Returns:
      [G, ...].

    Raises:
      ValueError: "switch" has more than one group, or there is no such execution.
    """
    name, capacity = split(execution)
    weights = differentiated(name, weights)
    compute = {"switch": _switch, "dispatch": _dispatch}.get(name, _masked)
    if capacity is not None:
        compute = functools.partial(_dispatch_to_room, capacity)
    return compute(tuple(functions), tuple(params), tuple(inputs), weights)


def differentiated(execution: str, weights: jax.Array) -> jax.Array:
    """Return the weights as they are for `RELAXED`, and as constants for other executions."""
    return weights if execution == RELAXED else lax.stop_gradient(weights)


def scaled(y: jax.Array, weight: jax.Array) -> jax.Array:
    """Multiply y [G or 1, ...] by weight [G]."""
    return y * weight.reshape(-1, *[1] * (y.ndim - 1)).astype(y.dtype)


def _masked(functions, params, inputs, weights):
    outputs = (f(p, x) for f, p, x in zip(functions, params, inputs))
    return sum(map(scaled, of_one_shape(outputs), weights.T))


class _Unequal(ValueError):
    """Options of a sum differ in shape or dtype."""


@contextlib.contextmanager
def of_choice(choice: str) -> Iterator[None]:
    """Name the Choice whose options are summed in the block, if they cannot be."""
    try:
        yield
    except _Unequal as error:
        raise ValueError(f"Choice {choice!r}: {error}") from error


def of_one_shape(outputs: Iterable[jax.Array]) -> Iterator[jax.Array]:
    """Yield the outputs of options [G or 1, n, H, W, C], which are to be summed.

    Raises: ValueError if their shapes or dtypes differ.
    """
    first = None
    for j, y in enumerate(outputs):
        given = f"{y.dtype} {y.shape[1:]}"
        first = first or given
        if given != first:
            raise _Unequal(
                "ops that are summed must give one shape and dtype (images, height, width, "
                f"channels), but the first gives {first}, and that at place {j} (from 0) {given}"
            )
        yield y


def _switch(functions, params, inputs, weights):
    if weights.shape[0] != 1:
        raise ValueError(f"execution 'switch' runs one group at a time, not {weights.shape[0]}")
    return skipping.weighted_sum(functions, params, inputs, weights[0])


def _dispatch(functions, params, inputs, weights):
    return sum(map(_dispatch_one, functions, params, inputs, weights.T, _ranks(weights).T))


def _ranks(weights):
    """Return the place of each group for each option, int32 [G, k]; those that use it are first."""
    on = weights != 0
    users, others = (lax.cumsum(which.astype(jnp.int32)) for which in (on, ~on))
    return jnp.where(on, users, users[-1] + others) - 1


def _first(rank, capacity):
    """Return the groups of the first places, int32 [capacity]; without sorting, which is slow."""
    return jnp.argmax(rank == jnp.arange(capacity, dtype=jnp.int32)[:, None], 1)


def _is_shared(x, num_groups):
    """Say whether the groups share an input, so that an option is computed once for all."""
    return {leaf.shape[0] for leaf in jax.tree.leaves(x)} != {num_groups}


def _dispatch_to_room(capacity, functions, params, inputs, weights):
    """Compute each option for `capacity` groups, which is room for those that use it."""
    ranks = _ranks(weights)

    def one(function, params, x, weight, rank):
        if _is_shared(x, len(weight)):
            return scaled(function(params, x), weight)
        chosen = _first(rank, capacity)
        picked = jax.tree.map(lambda leaf: _pick(leaf, chosen, rank), x)
        return scaled(_place(function(params, picked), chosen, rank), weight)

    total = sum(map(one, functions, params, inputs, weights.T, ranks.T))
    lost = jnp.any((weights != 0) & (ranks >= capacity), 1)
    return jnp.where(lost.reshape(-1, *[1] * (total.ndim - 1)), jnp.nan, total)


def _dispatch_one(function, params, x, weight, rank):
    """Compute one option for the groups that use it, by the smallest program that holds them."""
    num_groups = weight.shape[0]
    if _is_shared(x, num_groups):
        return scaled(function(params, x), weight)
    out = jax.eval_shape(function, params, x)
    capacities = sorted({math.ceil(share * num_groups) for share in _SHARES})

    def off(params, x):
        return jnp.zeros((num_groups, *out.shape[1:]), out.dtype)

    def run(capacity, params, x):
        chosen = _first(rank, capacity)
        picked = jax.tree.map(lambda leaf: _pick(leaf, chosen, rank), x)
        return _place(function(params, picked), chosen, rank)

    branches = [off, *(functools.partial(run, capacity) for capacity in capacities)]
    index = jnp.searchsorted(jnp.asarray([0, *capacities]), jnp.sum(weight != 0))
    return scaled(lax.switch(index, branches, params, x), weight)


@jax.custom_vjp
def _pick(x, chosen, rank):
    """Pick the chosen groups, [G, ...] -> [capacity, ...]. Its gradient is `_place`, no scatter."""
    return x[chosen]


@jax.custom_vjp
def _place(y, chosen, rank):
    """Put rows back, [capacity, ...] -> [G, ...]; groups that were not chosen get zeros."""
    rows = y[jnp.minimum(rank, y.shape[0] - 1)]
    return jnp.where((rank < y.shape[0]).reshape(-1, *[1] * (y.ndim - 1)), rows, 0)


_pick.defvjp(
    lambda x, chosen, rank: (x[chosen], (chosen, rank)),
    lambda saved, g: (_place(g, *saved), None, None),
)
_place.defvjp(
    lambda y, chosen, rank: (_place(y, chosen, rank), (chosen, rank)),
    lambda saved, g: (_pick(g, *saved), None, None),
)
