"""Candidate operations and ghost batch norm.

Letters: G groups (ghost batches or candidates; 1 where they share), n images of a group,
H height, W width, C channels in, D channels out. Activations are [G, n, H, W, C]; batch norm
normalises each group over (n, H, W).

The depthwise convolution and the poolings have a form of their own on CPU, where XLA's grouped
convolution and window reductions are many times slower than shifted multiply-adds;
`lax.platform_dependent` keeps it off accelerators.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def he_normal(fan_in: int):
    """Initialiser of kernels: normal, variance 2 / fan_in (the paper names none)."""
    return nn.initializers.normal((2.0 / fan_in) ** 0.5)


def he_scale(fan_in: int):
    """Constant standard deviation of `he_normal`: see `supernet.init`."""
    return nn.initializers.constant((2.0 / fan_in) ** 0.5)


class BatchNorm(nn.Module):
    """Ghost batch norm: per-group statistics over (n, H, W), then scale and offset.

    policy "batch" is stateless: statistics of the images at hand, always. "running" keeps a moving
    mean over groups in the collection `batch_stats`; it is updated, and the images' own statistics
    are used, exactly where that collection is mutable (training); elsewhere it is read.
    """

    policy: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> [G, n, H, W, C]."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        offset = self.param("offset", nn.initializers.zeros, (channels,), jnp.float32)
        mean, var = self._statistics(x)
        factor = scale * lax.rsqrt(var + self.epsilon)
        return (x * factor + (offset - mean * factor)).astype(self.dtype)

    def _statistics(self, x):
        if self.policy == "batch":
            return _moments(x)
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not self.is_mutable_collection("batch_stats") or self.is_initializing():
            return mean.value, var.value
        now = _moments(x)
        for kept, value in zip((mean, var), now):
            average = jnp.mean(value, (0, 1, 2, 3))
            kept.value = self.momentum * kept.value + (1 - self.momentum) * average
        return now


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance per group and channel in float32, each [G, 1, 1, 1, C], in one pass."""
    x = x.astype(jnp.float32)
    axes = (1, 2, 3)
    mean = jnp.mean(x, axes, keepdims=True)
    mean_square = jnp.mean(jnp.square(x), axes, keepdims=True)
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0)


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution [.., C] x [C, D] -> [.., D], as one flat matrix product.

    On arrays of more axes XLA:CPU transposes both operands for the kernel's gradient.
    """
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution, SAME padding: [G, n, H, W, C] x [kh, kw, C, D] -> [G, n, H/s, W/s, D]."""
    flat = x.reshape(-1, *x.shape[2:])
    y = lax.conv_general_dilated(
        flat,
        kernel.astype(x.dtype),
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


# -- depthwise convolution ------------------------------------------------------------------------


@jax.custom_vjp
def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise convolution, SAME: [N, H, W, C] x [k, k, 1, C], k odd -> [N, H, W, C]."""
    return lax.platform_dependent(x, kernel, cpu=_depthwise_shifts, default=_depthwise_lax)


def _depthwise_lax(x, kernel):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _pad(x, radius, value=0.0):
    config = [(0, 0, 0), (radius, radius, 0), (radius, radius, 0), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


def _depthwise_shifts(x, kernel):
    size, (_, height, width, _) = kernel.shape[0], x.shape
    padded = _pad(x, size // 2)
    return sum(
        padded[:, i : i + height, j : j + width] * kernel[i, j, 0]
        for i in range(size)
        for j in range(size)
    )


def _depthwise_fwd(x, kernel):
    return depthwise(x, kernel), (x, kernel)


def _depthwise_bwd(saved, g):
    return lax.platform_dependent(*saved, g, cpu=_depthwise_grads_cpu, default=_depthwise_grads)


def _depthwise_grads(x, kernel, g):
    return jax.vjp(_depthwise_lax, x, kernel)[1](g)


def _depthwise_grads_cpu(x, kernel, g):
    """Input gradient: the same shifts, kernel flipped. Kernel gradient: one tap after the other.

    Each tap is a step of its own (`lax.map`): fused into one loop the k*k reductions take ten times
    as long. W and C are merged so that a reduction over (N, H) runs along contiguous memory.
    """
    size, (num, height, width, channels) = kernel.shape[0], x.shape
    padded = _pad(x, size // 2).reshape(num, height + size - 1, -1)
    flat_g = g.reshape(num, height, width * channels)

    def tap(ij):
        start = (0, ij // size, (ij % size) * channels)
        window = lax.dynamic_slice(padded, start, flat_g.shape)
        return jnp.sum(jnp.sum(window * flat_g, (0, 1)).reshape(width, channels), 0)

    taps = lax.map(tap, jnp.arange(size * size, dtype=jnp.int32))
    return _depthwise_shifts(g, kernel[::-1, ::-1]), taps.reshape(kernel.shape)


depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


# -- pooling --------------------------------------------------------------------------------------


def _pool_shifts(x, combine, value):
    """3x3, stride 1, as two separable passes of shifted slices over [N, H, W, C]."""
    height, width = x.shape[1:3]
    padded = _pad(x, 1, value)
    rows = functools.reduce(combine, (padded[:, i : i + height] for i in range(3)))
    return functools.reduce(combine, (rows[:, :, j : j + width] for j in range(3)))


def _pool_lax(x, combine, value):
    window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
    return lax.reduce_window(x, np.asarray(value, x.dtype), combine, window, strides, "SAME")


def _pool(x, combine, value):
    by_shifts = functools.partial(_pool_shifts, combine=combine, value=value)
    by_lax = functools.partial(_pool_lax, combine=combine, value=value)
    flat = x.reshape(-1, *x.shape[2:])
    return lax.platform_dependent(flat, cpu=by_shifts, default=by_lax).reshape(x.shape)


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum, stride 1, SAME: [G, n, H, W, C] -> the same shape."""
    return _pool(x, lax.max, -jnp.inf)


def avg_pool(x: jax.Array) -> jax.Array:
    """3x3 mean over the pixels inside the image, stride 1: [G, n, H, W, C] -> the same shape."""
    ones = jnp.ones((1, 1, *x.shape[2:4], 1), x.dtype)
    return _pool(x, lax.add, 0.0) / _pool(ones, lax.add, 0.0)


def halve(x: jax.Array) -> jax.Array:
    """2x2 mean, stride 2, of even height and width: [G, n, H, W, C] -> [G, n, H/2, W/2, C]."""
    groups, num, height, width, channels = x.shape
    split = x.reshape(groups, num, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(split, (3, 5))


# -- candidate operations: BN, ReLU, convolution --------------------------------------------------


class Conv(nn.Module):
    """BN, ReLU, convolution [kh, kw]: [G, n, H, W, C] -> [G, n, H, W, features]."""

    features: int
    kernel_size: tuple[int, int]
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> [G, n, H, W, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        init = self.kernel_init(math.prod(shape[:-1]))
        kernel = self.param("kernel", init, shape, jnp.float32)
        x = nn.relu(self.norm(name="norm")(x))
        if self.kernel_size == (1, 1):
            return pointwise(x, kernel[0, 0])
        return conv(x, kernel)


class SeparableConv(nn.Module):
    """BN, ReLU, depthwise k x k, 1x1; no BN between the two (one per separable convolution)."""

    features: int
    kernel_size: int
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> [G, n, H, W, features]."""
        size, channels = self.kernel_size, x.shape[-1]
        spatial, across = (size, size, 1, channels), (1, 1, channels, self.features)
        per_channel = self.param("depthwise", self.kernel_init(size**2), spatial, jnp.float32)
        kernel = self.param("pointwise", self.kernel_init(channels), across, jnp.float32)
        x = nn.relu(self.norm(name="norm")(x))
        flat = depthwise(x.reshape(-1, *x.shape[2:]), per_channel.astype(x.dtype))
        return pointwise(flat.reshape(x.shape), kernel[0, 0])


class Pair(nn.Module):
    """Two units, one after the other; `builders` make them."""

    builders: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> [G, n, H, W, features]."""
        for i, builder in enumerate(self.builders):
            x = builder(name=f"unit{i}")(x)
        return x


class Stem(nn.Module):
    """3x3 convolution of the images, without BN or ReLU before it."""

    features: int
    stride: int = 1
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> [G, n, H/stride, W/stride, features]."""
        shape = (3, 3, x.shape[-1], self.features)
        init = self.kernel_init(math.prod(shape[:-1]))
        return conv(x, self.param("kernel", init, shape, jnp.float32), self.stride)
