"""Pooling: 3x3 maximum and mean, 2x2 mean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nas_jax.nn.kernels import windows


def _pool_shifts(x, combine, value):
    """Pool [N, H, W, C] 3x3, stride 1, in two separable passes over shifted slices."""
    height, width = x.shape[1:3]
    padded = windows.pad(x, 1, value)
    rows = functools.reduce(combine, (padded[:, i : i + height] for i in range(3)))
    return functools.reduce(combine, (rows[:, :, j : j + width] for j in range(3)))


def _pool_lax(x, combine, value):
    window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
    return lax.reduce_window(x, np.asarray(value, x.dtype), combine, window, strides, "SAME")


def _pool_any(x, combine, value):
    by_shifts = functools.partial(_pool_shifts, combine=combine, value=value)
    by_lax = functools.partial(_pool_lax, combine=combine, value=value)
    flat = x.reshape(-1, *x.shape[-3:])
    forms = {"cpu": by_shifts, "cuda": by_shifts}  # the gradient of a window's maximum is slow
    return lax.platform_dependent(flat, **forms, default=by_lax).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pool(x, combine, value):
    return _pool_any(x, combine, value)


def _pool_bwd(combine, value, x, g):
    """Recompute from x alone: otherwise eight arrays of comparisons would be saved."""
    return jax.vjp(lambda x: _pool_any(x, combine, value), x)[1](g)


_pool.defvjp(lambda x, combine, value: (_pool(x, combine, value), x), _pool_bwd)


@functools.partial(jax.jit, inline=True)
def max_pool(x: jax.Array) -> jax.Array:
    """Take the 3x3 maximum, stride 1, SAME: [.., H, W, C] -> the same shape."""
    return _pool(x, lax.max, -jnp.inf)


@functools.partial(jax.jit, inline=True)
def avg_pool(x: jax.Array) -> jax.Array:
    """Take the 3x3 mean over pixels of the image, stride 1: [.., H, W, C] -> the same shape."""
    ones = jnp.ones((*x.shape[-3:-1], 1), x.dtype)
    return _pool(x, lax.add, 0.0) / _pool(ones, lax.add, 0.0)


@functools.partial(jax.jit, inline=True)
def halve(x: jax.Array) -> jax.Array:
    """Take the 2x2 mean, stride 2: [.., H, W, C], H and W even -> [.., H/2, W/2, C]."""
    *leading, height, width, channels = x.shape
    rows = x.reshape(*leading, height // 2, 2, width, channels)
    rows = rows[..., 0, :, :] + rows[..., 1, :, :]
    pairs = rows.reshape(*leading, height // 2, width // 2, 2, channels)
    return (pairs[..., 0, :] + pairs[..., 1, :]) / 4
