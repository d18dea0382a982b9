"""Path dropout: a training step drops paths at random (paper, section 3.2).

A node of the paper's cells may lose all its inputs, since a cell's inputs always reach its output.
In a chain nothing passes beside a layer. So a Choice says whether it may lose all paths. If it may
not, and all would be dropped, one path stays; all are equally likely to stay.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.runtime import rng

SCHEDULES = ("linear", "constant", "none")


def rates(choices: Any, r: float) -> Any:
    """Compute the final drop rate r^(1/k) of the options of each Choice, which has k paths.

    So a node loses all its inputs with probability r, whatever its fan-in (paper, section 3.2). A
    node that may not lose all keeps one in that case: the probability that a path stays is higher
    by r / k.

    Args:
      choices: a tree of Choices.
      r: in [0, 1).

    Returns: a tree with a float at each leaf.
    """
    return jax.tree.map(lambda choice: r ** (1 / len(choice.paths)), choices)


def ramp(step: jax.Array | int, num_steps: int, schedule: str) -> jax.Array:
    """Compute the share of the final rate at `step` (0 .. num_steps - 1), float32 in [0, 1].

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
    """Draw the masks of ghost batches.

    Args:
      key: consumed.
      choices: the space's tree of Choices.
      groups: int32 [G], global numbers of the ghost batches. A ghost batch's masks depend on its
        number only, not on how ghost batches are spread over devices.
      r: in [0, 1): at the end of the ramp a node loses all its inputs with this probability (all
        but one, if it may not lose all).
      share: of the final rates, in [0, 1]; see `ramp`.
      rescale: whether kept options are divided by their keep probability (the paper does not say).

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
    """Return which options stay, bool as `draw` [G, num_options], and a path's keep probability."""
    if choice.may_lose_all:
        return draw >= rate, 1 - rate
    k = len(choice.paths)
    # If all paths would be dropped, the largest draw stays; each path has it equally often.
    limit = jnp.minimum(rate, jnp.max(draw[:, np.asarray(choice.paths)], -1, keepdims=True))
    return draw >= limit, 1 - rate + rate**k / k
