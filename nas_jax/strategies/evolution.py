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

    def parent(key, state):
        members = jax.random.randint(key, (tournament,), 0, jnp.minimum(state["told"], population))
        best = members[jnp.argmax(state["scores"][members])]
        return space.from_decisions(state["decisions"][best])

    def child(key, state):
        keys = jax.random.split(key, 5)
        one, other = parent(keys[0], state), parent(keys[1], state)
        mixed = jax.random.bernoulli(keys[2], crossover)
        both = space.crossover(keys[3], one, other)
        start = jax.tree.map(lambda a, b: jnp.where(mixed, a, b), both, one)
        return space.mutate(keys[4], start)

    def ask(key, state, n):
        children = jax.vmap(child, (0, None))(jax.random.split(key, n), state)
        founders = space.sample(key, (n,))
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
