"""Random search: the paper's strategy (section 3.3)."""

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy


def make(space: Space) -> Strategy:
    """Make random search: ask for independent uniform architectures, whatever the scores are."""
    return Strategy(
        init=lambda key: (),
        ask=lambda key, state, n: space.sample(key, (n,)),
        tell=lambda state, archs, scores: state,
    )
