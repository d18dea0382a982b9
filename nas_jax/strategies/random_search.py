"""Sampling from the space's fixed, uniform distribution: the paper's own strategy (section 3.3)."""

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy


def make(space: Space) -> Strategy:
    """Independent uniform architectures; scores change nothing."""
    return Strategy(
        init=lambda key: (),
        ask=lambda key, state, n: space.sample(key, (n,)),
        tell=lambda state, archs, scores: state,
    )
