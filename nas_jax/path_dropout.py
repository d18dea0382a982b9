"""Path dropout: which paths a training step drops (paper, section 3.2)."""

from typing import Any

import jax
import jax.numpy as jnp

from nas_jax import rng

MOST = 0.99  # a factor lets r rise to it
SCHEDULES = ("linear", "constant", "none")


def rates(choices: Any, r: float) -> Any:
    """Final drop rate r^(1/k) of each path, a float per Choice; k is its number of options.

    So a node loses all its inputs with probability r, whatever its fan-in (paper, section 3.2).
    """
    return jax.tree.map(lambda choice: r ** (1 / choice.num_options), choices)


def tuned(r: float, factor: jax.Array) -> jax.Array:
    """r times a factor, float32 at most 0.99, of the factor's shape."""
    return jnp.minimum(r * factor, MOST)


def ramp(step: jax.Array | int, num_steps: int, schedule: str) -> jax.Array:
    """Share of the final rate at `step` (0 .. num_steps - 1), float32 in [0, 1].

    "linear" is 0 at the first step and 1 at the last; "constant" is 1; "none" is 0.
    """
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
      r: probability with which a node loses all its inputs at the end, in [0, 1).
      share: of the final rates, in [0, 1]; see `ramp`.
      rescale: divide what is kept by the probability of keeping it (the paper does not say).

    Returns:
      Masks float32 [G, num_options] at each leaf. A node may lose all its inputs.
    """
    leaves, treedef = jax.tree.flatten(choices)
    total = sum(choice.num_options for choice in leaves)
    uniform = jax.vmap(lambda k: jax.random.uniform(k, (total,)))(rng.each(key, groups))
    masks, start = [], 0
    for choice, rate in zip(leaves, jax.tree.leaves(rates(choices, r))):
        draw = uniform[:, start : start + choice.num_options]
        keep = (draw >= rate * share).astype(jnp.float32)
        masks.append(keep / (1 - rate * share) if rescale else keep)
        start += choice.num_options
    return treedef.unflatten(masks)
