"""The architectures of a space: the combinations of its Choices, or those that keep to a rule.

A space without a rule is not slowed by what keeps to one.
"""

import abc
import functools
import math
from collections.abc import Iterator
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
        for name, member in vars(Combinations).items():
            is_open = name.startswith("_") or name in ("choices", "allows")
            if not is_open and getattr(cls, name) is not member:
                raise TypeError(
                    f"{cls.__name__}.{name} is final: what is drawn, counted or legal follows from "
                    "the Choices; a rule that ties them is the method `allows`"
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

    def contains(self, arch: Arch) -> bool:
        """Say whether `arch`, masks [..., num_options], has legal masks that keep to the rule."""
        return choices_lib.contains(self.choices, arch) and bool(np.all(kept(self, arch)))

    def count(self) -> int:
        """Count the architectures; with a rule, a bound if over a million combinations exist."""
        is_listed = has_rule(self) and is_exact(self)
        return _count(self) if is_listed else choices_lib.count(self.choices)

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> Arch:
        """Draw uniform architectures, masks [*shape, num_options]."""
        if not has_rule(self):
            return choices_lib.sample(key, self.choices, shape)
        drawn = _sample(self, rng.each(key, jnp.arange(math.prod(shape))))
        return jax.tree.map(lambda mask: mask.reshape(*shape, mask.shape[-1]), drawn)

    def mutate(self, key: jax.Array, arch: Arch) -> Arch:
        """Draw one Choice anew, never the same; masks [num_options].

        `arch` is returned if there is no other, or no draw keeps to the rule.
        """
        if not has_rule(self):
            return choices_lib.mutate(key, self.choices, arch)
        return _mutate(self, key, arch)

    def crossover(self, key: jax.Array, a: Arch, b: Arch) -> Arch:
        """Take each Choice from `a` or from `b`, or all from `a` if no draw keeps to the rule."""
        if not has_rule(self):
            return choices_lib.crossover(key, a, b)
        return _cross(self, key, a, b)

    def neighbours(self, arch: Arch) -> Arch:
        """List all architectures that differ in one Choice, masks [N, num_options]."""
        archs = choices_lib.neighbours(self.choices, arch)
        if not has_rule(self):
            return archs
        where = np.flatnonzero(kept(self, archs))
        return jax.tree.map(lambda mask: mask[where], archs)

    def enumerate_decisions(self, batch: int = 4096) -> Iterator[np.ndarray]:
        """Yield every architecture once, as decision vectors int32 [<= batch, D]."""
        for rows in choices_lib.enumerate_decisions(self.choices, batch):
            rows = rows[kept(self, self.from_decisions(rows))] if has_rule(self) else rows
            if len(rows):
                yield rows

    def to_decisions(self, arch: Arch) -> jax.Array:
        """Return decision vectors int32 [..., D]; -1 where a Choice's mask is not legal."""
        return choices_lib.to_decisions(self.choices, arch)

    def from_decisions(self, decisions: jax.Array) -> Arch:
        """Return masks [..., num_options] of decision vectors [..., D]."""
        return choices_lib.from_decisions(self.choices, decisions)

    def all_on(self) -> Arch:
        """Return the masks [num_options] in which every option is on."""
        return choices_lib.all_on(self.choices)


def has_rule(space: Combinations) -> bool:
    """Say whether a rule ties the Choices of a space."""
    return type(space).allows is not Combinations.allows


def kept(space: Combinations, archs: Arch) -> np.ndarray:
    """Say which of masks [..., num_options] keep to the space's rule: bool [...]."""
    shape = np.shape(jax.tree.leaves(archs)[0])[:-1]
    if not has_rule(space):
        return np.ones(shape, bool)
    flat = jax.tree.map(lambda mask: np.reshape(mask, (-1, np.shape(mask)[-1])), archs)
    with jax.ensure_compile_time_eval():  # also where a strategy's `init` is traced
        return np.asarray(_allowed(space, flat)).reshape(shape)


def in_words(space: Combinations) -> str:
    """Say how many architectures a space has."""
    return f"{'' if is_exact(space) else 'at most '}{space.count():,} architectures"


def is_exact(space: Combinations) -> bool:
    """Say whether `count` is the number of architectures, and no bound."""
    return not has_rule(space) or choices_lib.count(space.choices) <= MOST_COUNTED


@functools.lru_cache
def _count(space):
    return sum(map(len, space.enumerate_decisions()))


# -- compiled once for equal spaces ---------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def _allowed(space, archs):
    return jax.vmap(lambda arch: jnp.asarray(space.allows(arch), bool))(archs)


@functools.partial(jax.jit, static_argnums=0)
def _sample(space, keys):
    def draw(key):
        return choices_lib.sample(key, space.choices)

    return jax.vmap(lambda key: _drawn(space, key, draw)[1])(keys)


@functools.partial(jax.jit, static_argnums=0)
def _mutate(space, key, arch):
    return _changed(space, key, lambda key: choices_lib.mutate(key, space.choices, arch), arch)


@functools.partial(jax.jit, static_argnums=0)
def _cross(space, key, a, b):
    return _changed(space, key, lambda key: choices_lib.crossover(key, a, b), a)


def _changed(space, key, draw, arch):
    """Draw what takes the place of an architecture, which stays if no draw keeps to the rule."""
    is_kept, drawn = _drawn(space, key, draw)
    return jax.tree.map(lambda new, old: jnp.where(is_kept, new, old), drawn, arch)


def _drawn(space, key, draw):
    """Draw until the rule is kept, `TRIES` times at most; return whether it is, and the draw."""

    def tried(key):
        arch = draw(key)
        return jnp.asarray(space.allows(arch), bool), arch

    def again(state):
        return ~state[1][0] & (state[0] < TRIES)

    def body(state):
        return state[0] + 1, tried(jax.random.fold_in(key, state[0]))

    return jax.lax.while_loop(again, body, (1, tried(key)))[1]
