"""Every architecture once, in random order: of a benchmark's table, or of the whole space."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy

MAX_ARCHS = 1_000_000


def make(space: Space, among: np.ndarray | None = None) -> Strategy:
    """All decision vectors `among` int32 [N, D]; None: all of the space. After N they come again.

    Raises: ValueError if the space has more than a million.
    """
    if among is None:
        if space.count() > MAX_ARCHS:
            raise ValueError(
                f"sweep.strategy='exhaustive': the space has {space.count():,} architectures, more "
                f"than {MAX_ARCHS:,}; choose another, or give a table"
            )
        among = np.concatenate(list(itertools.chain(space.enumerate_decisions())))
    among = jnp.asarray(among)

    def init(key: jax.Array) -> Any:
        return {"order": jax.random.permutation(key, len(among)), "next": jnp.int32(0)}

    def ask(key, state, n):
        places = (state["next"] + jnp.arange(n)) % len(among)
        return space.from_decisions(among[state["order"][places]])

    def tell(state, archs, scores):
        return state | {"next": state["next"] + len(scores)}

    return Strategy(init, ask, tell)
