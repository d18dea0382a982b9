"""The architectures of a space: the combinations of its Choices, or those that keep to a rule.

A space without a rule is not slowed by what keeps to one.
"""

import abc
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.runtime import rng
from nas_jax.spaces import choices as choices_lib

Arch = choices_lib.Arch
TRIES = 1000  # draws, of which none keeps to the rule, after which the last is taken
MOST_COUNTED = 1_000_000  # combinations that are looked at one by one


class Combinations(abc.ABC):
    """What follows from a tree of Choices, and from a rule across them, if there is one.

    All but `choices` and `allows` is final. Keys are consumed.
    """

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        final = {name for name in vars(Combinations) if not name.startswith("_")}
        for name in vars(cls).keys() & final - {"choices", "allows"}:
            raise TypeError(
                f"{cls.__name__}.{name} is final: what is drawn, counted or legal follows from the "
                "Choices; a rule that ties them is the method `allows`"
            )

    @property
    @abc.abstractmethod
    def choices(self) -> Any:
        """The tree of `Choice` records; their names are the scopes of their parameters."""

    def allows(self, arch: Arch) -> jax.Array | bool:
        """Say whether one architecture, masks [num_options], keeps to the rule: bool [].

        JAX traces it. By default there is no rule.
        """
        return True

    @property
    def has_rule(self) -> bool:
        """Whether a rule ties its Choices."""
        return type(self).allows is not Combinations.allows

    def kept(self, archs: Arch) -> np.ndarray:
        """Say which of masks [..., num_options] keep to the rule: bool [...]."""
        shape = np.shape(jax.tree.leaves(archs)[0])[:-1]
        if not self.has_rule:
            return np.ones(shape, bool)
        flat = jax.tree.map(lambda mask: np.reshape(mask, (-1, np.shape(mask)[-1])), archs)
        return np.asarray(_allowing(self)(flat)).reshape(shape)

    def contains(self, arch: Arch) -> bool:
        """Say whether `arch`, masks [..., num_options], has legal masks that keep to the rule."""
        return choices_lib.contains(self.choices, arch) and bool(np.all(self.kept(arch)))

    def count(self) -> int:
        """Count the architectures; with a rule, a bound if over a million combinations exist."""
        if self._is_counted:
            return sum(map(len, self.enumerate_decisions()))
        return choices_lib.count(self.choices)

    def size(self) -> str:
        """Say how many architectures there are, in words."""
        bound = self.has_rule and not self._is_counted
        return f"{'at most ' if bound else ''}{self.count():,} architectures"

    @property
    def _is_counted(self):
        return self.has_rule and choices_lib.count(self.choices) <= MOST_COUNTED

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> Arch:
        """Draw uniform architectures, masks [*shape, num_options]."""
        if not self.has_rule:
            return choices_lib.sample(key, self.choices, shape)

        def one(key):
            return self._drawn(key, lambda key: choices_lib.sample(key, self.choices))

        drawn = jax.vmap(one)(rng.each(key, jnp.arange(math.prod(shape))))
        return jax.tree.map(lambda mask: mask.reshape(*shape, mask.shape[-1]), drawn)

    def mutate(self, key: jax.Array, arch: Arch) -> Arch:
        """Draw one Choice anew, never the same; masks [num_options].

        `arch` is returned if there is no other, or no draw keeps to the rule.
        """
        return self._changed(key, lambda key: choices_lib.mutate(key, self.choices, arch), arch)

    def crossover(self, key: jax.Array, a: Arch, b: Arch) -> Arch:
        """Take each Choice from `a` or from `b`, or all from `a` if no draw keeps to the rule."""
        return self._changed(key, lambda key: choices_lib.crossover(key, a, b), a)

    def neighbours(self, arch: Arch) -> Arch:
        """List all architectures that differ in one Choice, masks [N, num_options]."""
        archs = choices_lib.neighbours(self.choices, arch)
        if not self.has_rule:
            return archs
        where = np.flatnonzero(self.kept(archs))
        return jax.tree.map(lambda mask: mask[where], archs)

    def enumerate_decisions(self, batch: int = 4096) -> Iterator[np.ndarray]:
        """Yield every architecture once, as decision vectors int32 [<= batch, D]."""
        for rows in choices_lib.enumerate_decisions(self.choices, batch):
            kept = rows[self.kept(self.from_decisions(rows))] if self.has_rule else rows
            if len(kept):
                yield kept

    def to_decisions(self, arch: Arch) -> jax.Array:
        """Return decision vectors int32 [..., D]; -1 where a Choice's mask is not legal."""
        return choices_lib.to_decisions(self.choices, arch)

    def from_decisions(self, decisions: jax.Array) -> Arch:
        """Return masks [..., num_options] of decision vectors [..., D]."""
        return choices_lib.from_decisions(self.choices, decisions)

    def all_on(self) -> Arch:
        """Return the masks [num_options] in which every option is on."""
        return choices_lib.all_on(self.choices)

    def _drawn(self, key, draw):
        """Draw until the rule is kept, `TRIES` times at most."""

        def again(state):
            number, arch = state
            return (number < TRIES) & ~jnp.asarray(self.allows(arch), bool)

        def body(state):
            return state[0] + 1, draw(jax.random.fold_in(key, state[0]))

        return jax.lax.while_loop(again, body, (1, draw(key)))[1]

    def _changed(self, key, draw, arch):
        if not self.has_rule:
            return draw(key)
        drawn = self._drawn(key, draw)
        kept = jnp.asarray(self.allows(drawn), bool)
        return jax.tree.map(lambda new, old: jnp.where(kept, new, old), drawn, arch)


@functools.lru_cache
def _allowing(space: Combinations) -> Callable[[Arch], jax.Array]:
    """Compile a space's rule for masks [n, num_options]; compiled once for equal spaces."""
    return jax.jit(jax.vmap(lambda arch: jnp.asarray(space.allows(arch), bool)))
