"""Regularised evolution (Real et al., AAAI 2019): tournaments, mutation, and the oldest dies.

A population is a ring: who is told next takes the place of the oldest, however good that was.
"""

import jax
import jax.numpy as jnp

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range


def make(
    space: Space, *, population: int = 50, tournament: int = 10, crossover: float = 0.0
) -> Strategy:
    """Children of the best of random tournaments, once the population is full of random ones.

    Args:
      space: to search in.
      population: members P; a search of no more candidates is a random one.
      tournament: members drawn with replacement, of whom the best is the parent.
      crossover: share of children that take each Choice from one of two parents before they mutate.

    State: decision vectors int32 [P, D], float32 scores [P] (minus infinity where there is nobody
    yet), and how many were told, int32.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, population=population, tournament=tournament)
    check_range(0, 1, crossover=crossover)

    def init(key):
        return {
            "decisions": jnp.zeros((population, len(jax.tree.leaves(space.choices))), jnp.int32),
            "scores": jnp.full(population, -jnp.inf),
            "told": jnp.int32(0),
        }

    def parents(key, state, n):
        """Masks [n, k] of the winners of as many tournaments."""
        alive = jnp.minimum(state["told"], population)
        members = jax.random.randint(key, (n, tournament), 0, alive)
        best = jnp.argmax(state["scores"][members], -1, keepdims=True)
        winners = jnp.take_along_axis(members, best, -1)[..., 0]
        return space.from_decisions(state["decisions"][winners])

    def ask(key, state, n):
        keys = jax.random.split(key, 5)
        start = parents(keys[0], state, n)
        if crossover:
            mixed = jax.random.bernoulli(keys[1], crossover, (n, 1))
            others = parents(keys[2], state, n)
            both = jax.vmap(space.crossover)(jax.random.split(keys[3], n), start, others)
            start = jax.tree.map(lambda a, b: jnp.where(mixed, a, b), both, start)
        children = jax.vmap(space.mutate)(jax.random.split(keys[4], n), start)
        founders = space.sample(key, (n,))  # those of random search
        is_full = state["told"] >= population
        return jax.tree.map(lambda a, b: jnp.where(is_full, a, b), children, founders)

    def tell(state, archs, scores):
        scores = jnp.asarray(scores, jnp.float32)
        lives = ~jnp.isnan(scores)
        order = jnp.cumsum(lives)
        lasts = lives & (order > order[-1] - population)  # else two would take one place
        places = jnp.where(lasts, (state["told"] + order - 1) % population, population)
        decisions = space.to_decisions(archs)
        return {
            "decisions": state["decisions"].at[places].set(decisions, mode="drop"),
            "scores": state["scores"].at[places].set(scores, mode="drop"),
            "told": state["told"] + order[-1].astype(jnp.int32),
        }

    return Strategy(init, ask, tell)
