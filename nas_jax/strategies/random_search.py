"""Random search: the paper's strategy (section 3.3)."""

import jax

from nas_jax.spaces import Space, choices
from nas_jax.strategies.base import Strategy


def make(space: Space) -> Strategy:
    """Make random search: ask for independent uniform architectures, whatever the values are.

    State: (); or masks bool [k] of the options that are left, to draw of these alone.
    """

    def ask(key, state, n):
        if jax.tree.leaves(state):
            return choices.sample_left(key, space.choices, state, n)
        return space.sample(key, (n,))

    return Strategy(
        init=lambda key: (),
        ask=ask,
        tell=lambda state, archs, scores: state,
    )
