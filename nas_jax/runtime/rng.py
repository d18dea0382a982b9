"""Named random streams: a key is a function of (root, name, step), so no state keeps one."""

import zlib

import jax

_IMPL = "threefry2x32"


def key(seed: jax.Array | int) -> jax.Array:
    """Make the root key of a seed, an integer of 0 or more (traced or not).

    The key's implementation is always threefry. The environment can change JAX's default, and then
    a seed would give other numbers. Under some implementations `vmap` also changes the numbers, so
    they would depend on the number of devices.
    """
    return jax.random.key(seed, impl=_IMPL)


def from_data(data: jax.Array) -> jax.Array:
    """Make the key again of which `jax.random.key_data` gave these numbers, uint32 [2]."""
    return jax.random.wrap_key_data(data, impl=_IMPL)


def named(root: jax.Array, name: str) -> jax.Array:
    """Return the key of stream `name`, the same for all steps."""
    return jax.random.fold_in(root, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def stream(root: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """Return the key of stream `name` at `step` (an int or an int32 scalar, traced or not)."""
    return jax.random.fold_in(named(root, name), step)


def each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """Derive a key for each of `numbers`, int [N] -> keys [N], independent of the other numbers."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
