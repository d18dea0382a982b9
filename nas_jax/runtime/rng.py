"""Named random streams: a key is a function of (root, name, step), and none is kept in a state."""

import zlib

import jax


def key(seed: jax.Array | int) -> jax.Array:
    """The root key of a seed, an integer from 0 on (traced or not).

    Its kind is always threefry: with JAX's default, which the environment can change, a seed would
    mean other numbers, and with kinds that `vmap` does not split alike also on other devices.
    """
    return jax.random.key(seed, impl="threefry2x32")


def named(root: jax.Array, name: str) -> jax.Array:
    """The key of stream `name`, the same for all steps."""
    return jax.random.fold_in(root, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def stream(root: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of stream `name` at `step` (an int or an int32 scalar, traced or not)."""
    return jax.random.fold_in(named(root, name), step)


def each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """One key per number, int [N] -> keys [N]; a number's key does not depend on the others."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
