"""Every architecture once, in order: of the whole space, or of a benchmark's table."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from nas_jax.spaces import Space, combinations
from nas_jax.strategies.base import Strategy

MAX_ARCHS = combinations.MOST_COUNTED


def check_count(space: Space) -> None:
    """Check that the space has at most a million architectures, else raise a ValueError."""
    if space.count() > MAX_ARCHS:
        raise ValueError(
            f"sweep.strategy='exhaustive': the space has {space.count():,} architectures, more "
            f"than {MAX_ARCHS:,}; choose another, or give a table"
        )


def every(space: Space) -> np.ndarray:
    """List the decision vectors int32 [N, D] of the whole space; errors as of `check_count`."""
    check_count(space)
    return np.concatenate(list(space.enumerate_decisions()))


def first_state(decisions: np.ndarray) -> Any:
    """Make the state of a search among some architectures, decision vectors int32 [N, D].

    They are sorted, so that architectures with the same first decisions follow each other.
    """
    decisions = np.asarray(decisions)
    return {"among": jnp.asarray(decisions[np.lexsort(decisions.T[::-1])]), "next": jnp.int32(0)}


def make(space: Space) -> Strategy:
    """Make exhaustive search: ask for all architectures of the state, one after the other.

    `init` makes a state of the whole space, `first_state` one of chosen architectures. After the
    last architecture the first comes again. State: {"among": int32 [N, D], "next": int32 []}.
    """

    def ask(key, state, n):
        among = state["among"]
        return space.from_decisions(among[(state["next"] + jnp.arange(n)) % len(among)])

    def tell(state, archs, scores):
        return state | {"next": state["next"] + len(scores)}

    return Strategy(lambda key: first_state(every(space)), ask, tell)
