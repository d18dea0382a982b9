"""Choices, and everything that follows from them alone: masks, decision vectors, sampling.

A search space is an ordered pytree of `Choice` records. An architecture is the same tree with a
float32 mask array in place of each Choice (leaf shape [..., num_options], 1 where an option is on).
Its dense twin is the decision vector, int32 [..., D]: for each of the D Choices the number of the
chosen subset. An entry of a mask counts as on if it is not zero.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arch = Any  # the tree of Choices with an array [..., num_options] at each leaf
MAX_OPTIONS = 16  # subsets are tabulated, and 2^16 rows are still a small table


@dataclasses.dataclass(frozen=True)
class Choice:
    """A decision: between `min_on` and `max_on` of `num_options` options are on.

    Attributes:
      name: unique in the space.
      num_options: 1 to `MAX_OPTIONS`.
      min_on, max_on: bounds of the number of options that are on.
      may_lose_all: whether path dropout may drop all paths, since others of the network remain;
        else it keeps one.
      empty: options that are no paths for path dropout, as nothing passes them.
    """

    name: str
    num_options: int
    min_on: int
    max_on: int
    may_lose_all: bool = False
    empty: tuple[int, ...] = ()

    def __post_init__(self):
        if not 1 <= self.num_options <= MAX_OPTIONS:
            raise ValueError(
                f"Choice {self.name!r}: num_options={self.num_options} is not in 1..{MAX_OPTIONS}"
            )
        if not 0 <= self.min_on <= self.max_on <= self.num_options:
            raise ValueError(
                f"Choice {self.name!r}: need 0 <= min_on <= max_on <= num_options, "
                f"not {self.min_on}, {self.max_on}, {self.num_options}"
            )
        if not self.paths or not set(self.empty) < set(range(self.num_options)):
            raise ValueError(
                f"Choice {self.name!r}: empty={self.empty} must be some of its options, not all"
            )

    @property
    def paths(self) -> tuple[int, ...]:
        """The options that are not empty."""
        return tuple(j for j in range(self.num_options) if j not in self.empty)

    @property
    def num_subsets(self) -> int:
        """Sum of C(num_options, m) over m = min_on..max_on."""
        return sum(math.comb(self.num_options, m) for m in range(self.min_on, self.max_on + 1))


@functools.cache
def subsets(choice: Choice) -> np.ndarray:
    """List all legal masks of a Choice, float32 [num_subsets, num_options], small subsets first."""
    rows = [
        [float(j in on) for j in range(choice.num_options)]
        for m in range(choice.min_on, choice.max_on + 1)
        for on in itertools.combinations(range(choice.num_options), m)
    ]
    return np.asarray(rows, np.float32)


@functools.cache
def _subset_numbers(choice: Choice) -> np.ndarray:
    """Map the bits of a mask, read as a binary number, to the subset's number; -1: not legal."""
    numbers = np.full(2**choice.num_options, -1, np.int32)
    codes = subsets(choice).astype(np.int64) @ (1 << np.arange(choice.num_options))
    numbers[codes] = np.arange(choice.num_subsets)
    return numbers


def repeated_names(choices: Any) -> list[str]:
    """Return the names that several Choices have; costs and L2 find parameters by them."""
    names = [choice.name for choice in jax.tree.leaves(choices)]
    return sorted({name for name in names if names.count(name) > 1})


def count(choices: Any) -> int:
    """Count the architectures: the product of the Choices' subset counts (paper, section 3)."""
    return math.prod(choice.num_subsets for choice in jax.tree.leaves(choices))


def from_decisions(choices: Any, decisions: jax.Array) -> Arch:
    """Return masks [..., num_options] of decision vectors, int [..., D] with entries in range.

    They are of NumPy if the decisions are.
    """
    leaves, treedef = jax.tree.flatten(choices)
    masks = [_look_up(subsets(c), decisions[..., d]) for d, c in enumerate(leaves)]
    return treedef.unflatten(masks)


def to_decisions(choices: Any, arch: Arch) -> jax.Array:
    """Return decision vectors int32 [..., D] of masks; -1 where a Choice's mask is not legal.

    They are of NumPy if all masks are.
    """
    masks = jax.tree.structure(choices).flatten_up_to(arch)
    decisions = [_decision(c, m) for c, m in zip(jax.tree.leaves(choices), masks)]
    of_jax = any(isinstance(decision, jax.Array) for decision in decisions)
    return (jnp if of_jax else np).stack(decisions, -1)


def sorted_order(archs: Arch) -> np.ndarray:
    """Sort masks of NumPy, [N, num_options], by the first Choice, then by the second, and so on.

    Returns:
      int [N], the number of the architecture at each place. Equal ones keep their order.
    """
    bits = np.concatenate(jax.tree.leaves(archs), -1) != 0
    return np.lexsort(bits.T[::-1])


def _decision(choice, mask):
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    bits = (mask != 0).astype(np.int32) << np.arange(choice.num_options, dtype=np.int32)
    return _look_up(_subset_numbers(choice), bits.sum(-1))


def _look_up(table, numbers):
    """Return rows of a table; on the host where the numbers are."""
    return (jnp.asarray(table) if isinstance(numbers, jax.Array) else table)[numbers]


def _num_subsets(choices: Any) -> jax.Array:
    return jnp.asarray([c.num_subsets for c in jax.tree.leaves(choices)], jnp.int32)


def sample(key: jax.Array, choices: Any, shape: tuple[int, ...] = ()) -> Arch:
    """Draw uniform legal architectures, masks [*shape, num_options]; the key is consumed."""
    leaves, treedef = jax.tree.flatten(choices)
    return treedef.unflatten(_sample(key, tuple(leaves), tuple(shape)))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _sample(key, leaves, shape):
    limits = _num_subsets(leaves)
    return from_decisions(leaves, jax.random.randint(key, (*shape, limits.size), 0, limits))


def mutate(key: jax.Array, choices: Any, arch: Arch) -> Arch:
    """Draw one Choice of a legal architecture anew, never the same; masks [num_options].

    Choices with a single subset are left alone. If the space has no others, `arch` is returned.
    """
    where_key, what_key = jax.random.split(key)
    limits = _num_subsets(choices)
    open_ = (limits > 1).astype(jnp.float32)
    where = jax.random.categorical(where_key, jnp.log(open_))
    decisions = jnp.asarray(to_decisions(choices, arch))
    step = jax.random.randint(what_key, (), 1, jnp.maximum(limits[where], 2))
    return from_decisions(
        choices, decisions.at[where].set((decisions[where] + step) % limits[where])
    )


def crossover(key: jax.Array, a: Arch, b: Arch) -> Arch:
    """Take each Choice from parent `a` or `b` with probability 1/2; masks [num_options]."""
    leaves_a, treedef = jax.tree.flatten(a)
    from_a = jax.random.bernoulli(key, shape=(len(leaves_a),))
    picked = [jnp.where(f, x, y) for f, x, y in zip(from_a, leaves_a, jax.tree.leaves(b))]
    return treedef.unflatten(picked)


def neighbours(choices: Any, arch: Arch) -> Arch:
    """List all legal architectures that differ from `arch` in one Choice: masks [N, num_options].

    N = sum over Choices of (num_subsets - 1).
    """
    decisions = np.asarray(to_decisions(choices, arch))
    rows = [
        np.concatenate([decisions[:d], [other], decisions[d + 1 :]])
        for d, choice in enumerate(jax.tree.leaves(choices))
        for other in range(choice.num_subsets)
        if other != decisions[d]
    ]
    return from_decisions(choices, np.reshape(rows, (-1, decisions.size)).astype(np.int32))


def enumerate_decisions(choices: Any, batch: int) -> Iterator[np.ndarray]:
    """Yield every decision vector once, int32 [<= batch, D] at a time, the last Choice fastest."""
    limits = [c.num_subsets for c in jax.tree.leaves(choices)]
    every = itertools.product(*(range(n) for n in limits))
    while rows := list(itertools.islice(every, batch)):
        yield np.asarray(rows, np.int32)


def to_indices(choices: Any, arch: Arch) -> Any:
    """Return the tree of Choices with a tuple of the options that are on at each leaf.

    Raises: ValueError if a mask is not [num_options], as with a batch axis.
    """

    def on(choice, mask):
        if np.shape(mask) != (choice.num_options,):
            raise ValueError(
                f"the mask of {choice.name!r} has shape {np.shape(mask)}, not "
                f"({choice.num_options},): give one architecture, without a batch axis"
            )
        return tuple(np.flatnonzero(mask).tolist())

    return jax.tree.map(on, choices, arch)


def from_indices(choices: Any, indices: Any) -> Arch:
    """Return the masks float32 [num_options] of options that are on: inverse of `to_indices`."""

    def mask(choice, on):
        bits = np.zeros(choice.num_options, np.float32)
        bits[list(on)] = 1
        return bits

    return jax.tree.map(mask, choices, indices)


def all_on(choices: Any) -> Arch:
    """Return masks with every option on: the supernet itself, mostly no legal architecture."""
    return jax.tree.map(lambda c: np.ones(c.num_options, np.float32), choices)


def unstack(archs: Arch) -> list[Arch]:
    """Split masks [n, k] into a list of n masks [k]."""
    count = len(jax.tree.leaves(archs)[0])
    return [jax.tree.map(lambda mask, i=i: mask[i], archs) for i in range(count)]


def contains(choices: Any, arch: Arch) -> bool:
    """Say whether every mask of `arch` (any batch axes) is legal."""
    return bool(np.all(np.asarray(to_decisions(choices, arch)) >= 0))


def shaped(choices: Any, archs: Any, n: int, what: str) -> Arch:
    """Check that masks from outside have the tree of `choices` and shapes [n, num_options].

    They may be traced; what is on is not read.

    Args:
      choices: the space's tree of Choices.
      archs: the masks.
      n: number of architectures.
      what: who gave the masks, for errors.

    Returns: the masks, float32.

    Raises: ValueError that names the Choice.
    """
    if jax.tree.structure(archs) != jax.tree.structure(choices):
        given = str(jax.tree.structure(archs)).removeprefix("PyTreeDef")
        raise ValueError(f"{what} {given}; masks have the tree of space.choices")
    for choice, mask in zip(jax.tree.leaves(choices), jax.tree.leaves(archs)):
        found, wanted = list(np.shape(mask)), [n, choice.num_options]
        if found != wanted:
            raise ValueError(f"{what} masks {found} of {choice.name!r}; they must be {wanted}")
    return jax.tree.map(lambda mask: jnp.asarray(mask, jnp.float32), archs)


# -- of the options that are left -----------------------------------------------------------------


def are_left(choices: Any, left: Any, archs: Any) -> np.ndarray:
    """Say whether architectures have only options that are left, bool [n].

    If the options that are left make no legal choice, all options of that Choice count as left.

    Args:
      choices: the space's tree of Choices.
      left: masks bool [k] of the options that are left.
      archs: masks [n, k].
    """
    found = np.ones(len(jax.tree.leaves(archs)[0]), bool)
    for choice, mask, chosen in zip(*map(jax.tree.leaves, (choices, left, archs))):
        if np.any(_subsets_left(choice, np.asarray(mask))):
            found &= ~np.any(np.asarray(chosen).astype(bool) & ~np.asarray(mask), -1)
    return found


def sample_left(key: jax.Array, choices: Any, left: Any, n: int) -> Any:
    """Draw n uniform architectures of the options that are left, masks [n, k]; see `are_left`."""
    decisions = []
    for d, (choice, mask) in enumerate(zip(*map(jax.tree.leaves, (choices, left)))):
        possible = _subsets_left(choice, mask)
        possible = possible | ~jnp.any(possible)
        logits = jnp.where(possible, 0.0, -jnp.inf)
        decisions.append(jax.random.categorical(jax.random.fold_in(key, d), logits, shape=(n,)))
    return from_decisions(choices, jnp.stack(decisions, -1))


def with_left_alone(key: jax.Array, choices: Any, left: Any, archs: Any) -> Any:
    """Draw every Choice anew where an architecture has options that are not left, masks [n, k].

    Of uniform architectures it makes uniform ones of the options that are left (`sample_left`).

    Args:
      key: consumed.
      choices: the space's tree of Choices.
      left: masks bool [k] of the options that are left.
      archs: masks [n, k], NumPy.
    """
    anew = sample_left(key, choices, left, len(jax.tree.leaves(archs)[0]))

    def of_choice(kept, chosen, drawn):
        is_kept = ~np.any(chosen.astype(bool) & ~np.asarray(kept), -1, keepdims=True)
        return np.where(is_kept, chosen, drawn)

    return jax.tree.map(of_choice, left, archs, jax.device_get(anew))


def _subsets_left(choice, mask):
    """Which subsets of a Choice have only options of a mask, bool [num_subsets]."""
    return ~(subsets(choice).astype(bool) & ~mask).any(-1)
