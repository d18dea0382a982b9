"""Path dropout: which paths a training step drops (paper, section 3.2).

A node of the paper's cells may lose all its inputs, since a cell's own inputs always reach its
output. In a chain nothing passes beside a layer. So a Choice says whether it may lose all; where it
may not and all would be dropped, one stays, each with the same probability.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.runtime import rng

MOST = 0.99  # a factor lets r rise to it
SCHEDULES = ("linear", "constant", "none")


def rates(choices: Any, r: float) -> Any:
    """Final drop rate r^(1/k) of each option, a float per Choice; k is its number of paths.

    So a node loses all its inputs with probability r, whatever its fan-in (paper, section 3.2). A
    node that may not keeps one of them then: each path stays more often, by r / k.
    """
    return jax.tree.map(lambda choice: r ** (1 / len(choice.paths)), choices)


def times_factor(r: float, factor: jax.Array) -> jax.Array:
    """r times a factor, float32 at most 0.99, of the factor's shape."""
    return jnp.minimum(r * factor, MOST)


def ramp(step: jax.Array | int, num_steps: int, schedule: str) -> jax.Array:
    """Share of the final rate at `step` (0 .. num_steps - 1), float32 in [0, 1].

    "linear" is 0 at the first step and 1 at the last; "constant" is 1; "none" is 0.

    Raises: ValueError if there is no schedule of that name.
    """
    naming.check("schedule", schedule, SCHEDULES)
    if schedule == "linear":
        return jnp.clip(jnp.asarray(step, jnp.float32) / max(num_steps - 1, 1), 0, 1)
    return jnp.float32({"constant": 1, "none": 0}[schedule])


def sample(
    key: jax.Array,
    choices: Any,
    groups: jax.Array,
    *,
    r: float,
    share: jax.Array | float,
    rescale: bool = False,
) -> Any:
    """Draw the masks of ghost batches; cells share them, unless the space has Choices of each.

    Args:
      key: consumed.
      choices: the space's tree of Choices.
      groups: int32 [G], global numbers of the ghost batches; a group's masks depend on its own
        number only, not on how groups are spread over devices.
      r: probability with which a node loses all its inputs at the end, or all but one if it may not
        lose all; in [0, 1).
      share: of the final rates, in [0, 1]; see `ramp`.
      rescale: divide what is kept by the probability of keeping it (the paper does not say).

    Returns:
      Masks float32 [G, num_options] at each leaf.
    """
    leaves, treedef = jax.tree.flatten(choices)
    total = sum(choice.num_options for choice in leaves)
    uniform = jax.vmap(lambda k: jax.random.uniform(k, (total,)))(rng.each(key, groups))
    masks, start = [], 0
    for choice, rate in zip(leaves, jax.tree.leaves(rates(choices, r))):
        draw = uniform[:, start : start + choice.num_options]
        is_kept, probability = _kept(choice, draw, rate * share)
        keep = is_kept.astype(jnp.float32)
        masks.append(keep / probability if rescale else keep)
        start += choice.num_options
    return treedef.unflatten(masks)


def _kept(choice, draw, rate):
    """Which options stay, bool as their uniform draws [G, num_options]; how probably paths do."""
    if choice.may_lose_all:
        return draw >= rate, 1 - rate
    k = len(choice.paths)
    # Of paths that would all be dropped, each has the largest draw with the same probability.
    limit = jnp.minimum(rate, jnp.max(draw[:, np.asarray(choice.paths)], -1, keepdims=True))
    return draw >= limit, 1 - rate + rate**k / k
