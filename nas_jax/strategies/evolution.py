"""Regularised evolution (Real et al., AAAI 2019): tournaments, mutation, and the oldest dies.

A population is a ring: the next member takes the place of the oldest, however good the oldest is.
"""

import dataclasses

import jax
import jax.numpy as jnp

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range


def make(
    space: Space, *, population: int = 50, tournament: int = 10, crossover: float = 0.0
) -> Strategy:
    """Make regularised evolution: mutate the best of random tournaments.

    Until the population is full, random architectures join it.

    Args:
      space: to search in.
      population: members P; a search of P or fewer candidates is a random one.
      tournament: members that are drawn with replacement; the best is the parent.
      crossover: share of children that take each Choice from one of two parents, then mutate.

    State: decision vectors int32 [P, D], float32 scores [P] (minus infinity for a place that is
    still empty), and the number of architectures told, int32.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, population=population, tournament=tournament)
    check_range(0, 1, crossover=crossover)

    evolution = _Evolution(space, population, tournament, crossover)
    return Strategy(evolution.init, evolution.ask, evolution.tell)


@dataclasses.dataclass(frozen=True)
class _Evolution:
    """The functions of the strategy; `make` explains the fields."""

    space: Space
    population: int
    tournament: int
    crossover: float

    def init(self, key):
        num_choices = len(jax.tree.leaves(self.space.choices))
        return {
            "decisions": jnp.zeros((self.population, num_choices), jnp.int32),
            "scores": jnp.full(self.population, -jnp.inf),
            "told": jnp.int32(0),
        }

    def ask(self, key, state, n):
        keys = jax.random.split(key, 5)
        start = self._parents(keys[0], state, n)
        if self.crossover:
            mixed = jax.random.bernoulli(keys[1], self.crossover, (n, 1))
            others = self._parents(keys[2], state, n)
            both = jax.vmap(self.space.crossover)(jax.random.split(keys[3], n), start, others)
            start = jax.tree.map(lambda a, b: jnp.where(mixed, a, b), both, start)
        children = jax.vmap(self.space.mutate)(jax.random.split(keys[4], n), start)
        founders = self.space.sample(key, (n,))  # as random search draws them
        is_full = state["told"] >= self.population
        return jax.tree.map(lambda a, b: jnp.where(is_full, a, b), children, founders)

    def _parents(self, key, state, n):
        """Return masks [n, k] of the winners of n tournaments."""
        alive = jnp.minimum(state["told"], self.population)
        members = jax.random.randint(key, (n, self.tournament), 0, alive)
        best = jnp.argmax(state["scores"][members], -1, keepdims=True)
        winners = jnp.take_along_axis(members, best, -1)[..., 0]
        return self.space.from_decisions(state["decisions"][winners])

    def tell(self, state, archs, scores):
        scores = jnp.asarray(scores, jnp.float32)
        lives = ~jnp.isnan(scores)
        order = jnp.cumsum(lives)
        lasts = lives & (order > order[-1] - self.population)  # else two would share a place
        places = jnp.where(lasts, (state["told"] + order - 1) % self.population, self.population)
        decisions = self.space.to_decisions(archs)
        return {
            "decisions": state["decisions"].at[places].set(decisions, mode="drop"),
            "scores": state["scores"].at[places].set(scores, mode="drop"),
            "told": state["told"] + order[-1].astype(jnp.int32),
        }
