"""1x1 convolutions, of one array and of a concat of channels."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nas_jax.nn.kernels import residuals


@functools.partial(jax.jit, inline=True)
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve 1x1, [.., C] x [C, D] -> [.., D], as one flat matrix product.

    With more axes XLA:CPU would transpose both operands for the kernel's gradient.
    """
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    return residuals.saved(flat.reshape(*x.shape[:-1], kernel.shape[-1]))


@jax.custom_vjp
def pointwise_of_concat(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """Convolve the concat of channels 1x1; on a CPU the concat is not made.

    Args:
      parts: k arrays [G or 1, n, H, W, C_j].
      kernel: [sum of C_j, D].

    Returns:
      [G, n, H, W, D].
    """
    return lax.platform_dependent(parts, kernel, cpu=_sum_of_products, default=_product_of_concat)


def _sum_of_products(parts, kernel):
    starts = np.cumsum([part.shape[-1] for part in parts])[:-1]
    return sum(map(pointwise, parts, jnp.split(kernel, starts)))


def _product_of_concat(parts, kernel):
    return pointwise(concat(parts), kernel)


def _pointwise_of_concat_bwd(saved, g):
    def by(form):
        return lambda parts, kernel, g: jax.vjp(form, parts, kernel)[1](g)

    return lax.platform_dependent(
        *saved, g, cpu=by(_sum_of_products), default=by(_product_of_concat)
    )


pointwise_of_concat.defvjp(
    lambda parts, kernel: (pointwise_of_concat(parts, kernel), (parts, kernel)),
    _pointwise_of_concat_bwd,
)


def concat(parts: Sequence[jax.Array]) -> jax.Array:
    """Concatenate channels; parts shared by all groups ([1, ...]) are broadcast to [G, ...]."""
    if len(parts) == 1:
        return parts[0]
    groups = max(part.shape[0] for part in parts)
    return jnp.concatenate([jnp.broadcast_to(p, (groups, *p.shape[1:])) for p in parts], -1)
