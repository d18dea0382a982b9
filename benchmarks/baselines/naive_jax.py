"""The JAX that one would write first: grouped convolutions, window reductions, 5-d products.

Masks and vmap are as in nas_jax; only the kernels differ, and their gradients are JAX's own.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax.numpy as jnp
from jax import lax

from nas_jax.nn import kernels, masked


def _conv(x, kernel, stride=1, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _window(x, start, combine):
    ones = (1,) * (x.ndim - 3)
    return lax.reduce_window(x, start, combine, (*ones, 3, 3, 1), (1,) * x.ndim, "SAME")


def _scale_shift(x, factor, shift, relu):
    y = x * factor + shift
    return jnp.maximum(y, 0) if relu else y


@contextlib.contextmanager
def kernels_replaced() -> Iterator[None]:
    """Inside it, what is traced uses the naive kernels, and nothing that was traced before."""
    axes = (1, 2, 3)
    naive = mock.patch.multiple(
        kernels,
        pointwise=lambda x, kernel: x @ kernel,
        pointwise_of_concat=lambda parts, kernel: kernels.concat(parts) @ kernel,
        moments=lambda x: (
            jnp.mean(x, axes, keepdims=True),
            jnp.mean(jnp.square(x), axes, keepdims=True),
        ),
        scale_shift=_scale_shift,
        conv=_conv,
        depthwise=lambda x, kernel, stride=1: _conv(x, kernel, stride, x.shape[-1]),
        max_pool=lambda x: _window(x, -jnp.inf, lax.max),
        avg_pool=lambda x: _window(x, 0.0, lax.add) / _window(jnp.ones_like(x), 0.0, lax.add),
    )
    with naive, mock.patch.object(masked, "_apply", masked._apply.__wrapped__):
        yield
