"""The two halves of batch norm: sums over each group's pixels, and scale and shift."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from nas_jax.nn.kernels import residuals


def _channel_sums(*factors):
    """Sum the product of arrays [G, n, H, W, C] over (n, H, W) -> [G, 1, 1, 1, C]."""
    return lax.platform_dependent(*factors, cpu=_channel_sums_cpu, default=_channel_sums_any)


def _channel_sums_any(*factors):
    return jnp.sum(math.prod(factors), (1, 2, 3), keepdims=True)


def _channel_sums_cpu(*factors):
    """Sum over each image first: a running sum over all pixels of a large batch loses digits.

    The arrays are multiplied before they are reshaped: XLA:CPU's library needs that to be fast.
    """
    product = math.prod(factors)
    groups, num, *_, channels = product.shape
    sums = jnp.sum(product.reshape(groups, num, -1, channels), 2)
    return jnp.sum(sums, 1)[:, None, None, None]


@functools.partial(jax.jit, inline=True)
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the means of x and of its square per group and channel.

    x is [G, n, H, W, C]; the means are float32 [G, 1, 1, 1, C].
    """
    return residuals.saved(_moments(x))


@jax.custom_vjp
def _moments(x):
    x = x.astype(jnp.float32)
    count = math.prod(x.shape[1:4])
    return _channel_sums(x) / count, _channel_sums(x, x) / count


def _moments_bwd(x, cotangents):
    mean, mean_square = (cotangent / math.prod(x.shape[1:4]) for cotangent in cotangents)
    return ((mean + 2 * x * mean_square).astype(x.dtype),)


_moments.defvjp(lambda x: (_moments(x), x), _moments_bwd)


@jax.custom_vjp
def recorded(x: jax.Array, values: jax.Array, kept: jax.Array) -> jax.Array:
    """Return x. The gradient with respect to `kept` is `values`, whatever the loss.

    So values made in a forward pass leave it by the backward pass, through branches and loops that
    have no other output.

    Args:
      x: any array that the loss depends on.
      values: what is recorded; no gradient flows to it.
      kept: an array like `values`.
    """
    return x


def _recorded_bwd(values, g):
    return g, jnp.zeros_like(values), values


recorded.defvjp(lambda x, values, kept: (x, values), _recorded_bwd)


@functools.partial(jax.jit, static_argnums=3, inline=True)
def scale_shift(x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool) -> jax.Array:
    """Compute x * factor + shift, then a ReLU if `relu`. The gradient recomputes the sign.

    Args:
      x: [G, n, H, W, C].
      factor: float32 [G, 1, 1, 1, C].
      shift: float32 [G, 1, 1, 1, C].
      relu: whether negative values become zero.

    Returns:
      [G, n, H, W, C] of x's dtype.
    """
    return _scale_shift(x, factor, shift, relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _scale_shift(x, factor, shift, relu):
    y = x * factor + shift
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


def _scale_shift_bwd(relu, saved, g):
    x, factor, shift = saved
    g = g.astype(jnp.float32)
    if relu:
        g = jnp.where(x * factor + shift > 0, g, 0)
    return (g * factor).astype(x.dtype), _channel_sums(g, x), _channel_sums(g)


_scale_shift.defvjp(
    lambda x, factor, shift, relu: (_scale_shift(x, factor, shift, relu), (x, factor, shift)),
    _scale_shift_bwd,
)
