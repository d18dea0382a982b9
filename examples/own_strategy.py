"""Search by a strategy of your own: python own_strategy.py

The same by the command: nas-jax --config=digits --config.sweep.strategy=own_strategy.py:Climb
"""

import jax
import jax.numpy as jnp
import numpy as np

import nas_jax

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "supernet.train.num_steps": 50,
    "sweep.num_candidates": 64,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


class Climb:
    """Asks for the best so far, each of its Choices drawn anew with probability 1 - `share`."""

    on_host = True  # plain Python; else JAX compiles the functions

    def __init__(self, space, *, share: float = 0.5):
        self.space, self.share = space, share

    def init(self, key):
        """Make the first state: no architecture."""
        return None, -np.inf

    def ask(self, key, state, n):
        """Return masks [n, k]."""
        best, _ = state
        random = self.space.sample(key, (n,))
        if best is None:
            return random
        masks, treedef = jax.tree.flatten(random)
        kept = jax.random.bernoulli(key, self.share, (len(masks), n, 1))
        mixed = map(jnp.where, kept, jax.tree.leaves(best), masks)
        return treedef.unflatten(list(mixed))

    def tell(self, state, archs, scores):
        """Keep the best of masks [n, k] with scores [n], the higher the better."""
        first = int(np.nanargmax(scores)) if np.isfinite(scores).any() else None
        if first is None or scores[first] <= state[1]:
            return state
        return jax.tree.map(lambda mask: mask[first], archs), scores[first]


if __name__ == "__main__":
    fields = QUICK | {"sweep.strategy": f"{__file__}:Climb", "sweep.options": (("share", 0.7),)}
    found = nas_jax.search("digits", workdir="runs/own_strategy", fields=fields)
    print(repr(found.best), found.paths["report"], sep="\n")
