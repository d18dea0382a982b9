"""Every architecture once, in order: of the whole space, or of a benchmark's table."""

import jax.numpy as jnp
import numpy as np

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy

MAX_ARCHS = 1_000_000


def every(space: Space) -> np.ndarray:
    """Decision vectors int32 [N, D] of the whole space. Raises: ValueError: more than a million."""
    if space.count() > MAX_ARCHS:
        raise ValueError(
            f"sweep.strategy='exhaustive': the space has {space.count():,} architectures, more "
            f"than {MAX_ARCHS:,}; choose another, or give a table"
        )
    return np.concatenate(list(space.enumerate_decisions()))


def make(space: Space, *, among: np.ndarray | None = None) -> Strategy:
    """All decision vectors `among` int32 [N, D]; None: `every`. After N they come again.

    They come sorted, so that those with a common beginning follow each other.
    """
    among = every(space) if among is None else np.asarray(among)
    among = jnp.asarray(among[np.lexsort(among.T[::-1])])

    def ask(key, state, n):
        return space.from_decisions(among[(state["next"] + jnp.arange(n)) % len(among)])

    def tell(state, archs, scores):
        return state | {"next": state["next"] + len(scores)}

    return Strategy(lambda key: {"next": jnp.int32(0)}, ask, tell)
