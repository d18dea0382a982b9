"""Evolution: tournaments, mutation, and a member that dies for each child.

Who dies is the option `removal`. "oldest" is regularised evolution (Real et al., AAAI 2019,
algorithm 1): a population is a ring, and the next member takes the place of the oldest, however
good that is. "worst", with a tournament of two, is that of Real et al. (ICML 2017, section 3.1): of
two random members the worse dies, and the better has a child.

The ICML paper's children inherit the weights of their parent (section 3.6). On a supernet every
candidate has the shared weights, its parent's among them, so there is nothing more to inherit.
Where candidates are trained one by one (`sweep.score="trained"`) the field `sweep.inherit` does it.

Differs from the papers in:

- A whole round of children is asked for before the first is told. So who dies is drawn when a
  child is told, and is not the loser of its parent's tournament (2017). The papers' workers act
  one at a time on a population that others change meanwhile.
- A mutation changes one Choice. The 2017 paper also mutates the learning rate, and inserts and
  removes layers; its first population has networks of one layer, not random ones. A mutation of the
  AAAI paper may also leave an architecture as it is.
- The papers' constants are 1000 and 2 (2017), 100 and 25 (AAAI) for population and tournament. The
  defaults are for searches of some hundred candidates.
- Crossover is in neither.
"""

import dataclasses

import jax
import jax.numpy as jnp

from nas_jax import naming
from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range

REMOVALS = ("oldest", "worst")


def make(
    space: Space,
    *,
    population: int = 50,
    tournament: int = 10,
    crossover: float = 0.0,
    removal: str = "oldest",
) -> Strategy:
    """Make evolution: mutate the best of random tournaments.

    Until the population is full, random architectures join it.

    Args:
      space: to search in.
      population: members P; a search of P or fewer candidates is a random one.
      tournament: members that are drawn, of which the best is the parent; with replacement where
        the oldest dies, else all different.
      crossover: share of children that take each Choice from one of two parents, then mutate.
      removal: who dies for a child: the "oldest", or the "worst" of another tournament.

    State: decision vectors int32 [P, D], float32 values [P] (minus infinity for a place that is
    still empty), the number of architectures told, int32, and for "worst" a key, uint32 [2].

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, population=population, tournament=tournament)
    check_range(0, 1, crossover=crossover)
    naming.check("config.sweep.options: removal", removal, REMOVALS)
    if removal == "worst" and not 2 <= tournament <= population:
        raise ValueError(
            f"config.sweep.options: tournament={tournament} must be at least 2 and at most "
            f"population={population} where removal='worst', whose members are all different"
        )
    evolution = {"oldest": _Evolution, "worst": _WorstDies}[removal]
    made = evolution(space, population, tournament, crossover)
    return Strategy(made.init, made.ask, made.tell)


@dataclasses.dataclass(frozen=True)
class _Evolution:
    """The functions where the oldest dies; `make` explains the fields."""

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
        members = self._tournaments(key, state, n)
        best = jnp.argmax(state["scores"][members], -1, keepdims=True)
        winners = jnp.take_along_axis(members, best, -1)[..., 0]
        return self.space.from_decisions(state["decisions"][winners])

    def _tournaments(self, key, state, n):
        """Draw places [n, tournament] of members that are alive."""
        alive = jnp.minimum(state["told"], self.population)
        return jax.random.randint(key, (n, self.tournament), 0, alive)

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


class _WorstDies(_Evolution):
    """The functions where the worst of a tournament dies."""

    def init(self, key):
        return {**super().init(key), "key": jax.random.key_data(key)}

    def _tournaments(self, key, state, n):
        """Draw places [n, tournament] of a full population, different ones in each."""

        def draw(key):
            return jax.random.choice(key, self.population, (self.tournament,), replace=False)

        return jax.vmap(draw)(jax.random.split(key, n))

    def tell(self, state, archs, scores):
        children = self.space.to_decisions(archs), jnp.asarray(scores, jnp.float32)
        return jax.lax.scan(self._tell_one, state, children)[0]

    def _tell_one(self, state, child):
        decision, score = child
        key = jax.random.fold_in(rng.from_data(state["key"]), state["told"])
        [members] = self._tournaments(key, state, 1)
        loser = members[jnp.argmin(state["scores"][members])]
        place = jnp.where(state["told"] < self.population, state["told"], loser)
        place = jnp.where(jnp.isnan(score), self.population, place)  # no place: it is dropped
        return {
            **state,
            "decisions": state["decisions"].at[place].set(decision, mode="drop"),
            "scores": state["scores"].at[place].set(score, mode="drop"),
            "told": state["told"] + ~jnp.isnan(score),
        }, None
