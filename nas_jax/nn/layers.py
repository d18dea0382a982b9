"""Candidate operations and ghost batch norm.

Letters: G groups (ghost batches or candidates; 1 where all share an array), n images of a group,
H height, W width, C channels in, D channels out. Activations are [G, n, H, W, C]. Batch norm
normalises each group over (n, H, W).
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nas_jax import naming
from nas_jax.nn import kernels, observed

Moments = tuple[jax.Array, jax.Array]  # of `kernels.moments`
STATISTICS = ("batch", "running", "recorded", "off")  # of batch norm

partial = functools.cache(functools.partial)
"""`functools.partial`, but equal for equal arguments. Modules made with it are then equal, too, and
`masked.MixedOp` traces them once."""


@functools.cache
def he_normal(fan_in: int):
    """Make an initialiser of kernels: normal, variance 2 / fan_in (the paper names none)."""
    return nn.initializers.normal((2.0 / fan_in) ** 0.5)


@functools.cache
def he_scale(fan_in: int):
    """Make an initialiser to the standard deviation of `he_normal`; see `nas_jax.nn.init`."""
    constant = nn.initializers.constant((2.0 / fan_in) ** 0.5)
    return lambda *args: constant(*args) * _multiplier.get()


_multiplier = contextvars.ContextVar("multiplier", default=1)


@contextlib.contextmanager
def scales_multiplied(by: jax.Array) -> Iterator[None]:
    """Multiply, in the block, what initialisers of `he_scale` give."""
    token = _multiplier.set(by)
    try:
        yield
    finally:
        _multiplier.reset(token)


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve with SAME padding: [G, n, H, W, C] x [kh, kw, C, D] -> [G, n, H/s, W/s, D].

    s is `stride`.
    """
    if kernel.shape[:2] == (1, 1):
        return kernels.pointwise(x[:, :, ::stride, ::stride], kernel[0, 0])
    y = kernels.conv(x.reshape(-1, *x.shape[2:]), kernel.astype(x.dtype), stride)
    return y.reshape(*x.shape[:2], *y.shape[1:])


class BatchNorm(nn.Module):
    """Ghost batch norm: per-group statistics over (n, H, W), then scale and offset.

    Attributes:
      statistics: "batch" takes those of the images at hand, always, and has no state. "running"
        takes the moving mean in the collection `batch_stats`; where that collection is mutable,
        it is updated, and batch norm takes the statistics of the images. "recorded" is for
        training: it takes the statistics of the images, and the gradient with respect to
        `batch_stats` is their mean over groups, with which the training step updates the moving
        mean. So nothing but a gradient leaves the network, and any execution may train it, as
        long as all groups have the same masks. "off" leaves its input as it is.
      momentum: of the moving mean.
      epsilon: added to the variance.
      relu_before: a ReLU comes before the statistics, in place of the one after; needs `relu`.
      relu: whether a ReLU follows.
    """

    statistics: str = "batch"
    momentum: float = 0.9
    epsilon: float = 1e-3
    relu_before: bool = False
    relu: bool = False

    def __call__(self, x: jax.Array, moments: Moments | None = None) -> jax.Array:
        """Normalise x [G or 1, n, H, W, C].

        `moments`: of x, if they have been computed already.
        """
        return self.of_concat([x], moments and [moments])[0]

    def of_concat(
        self, parts: Sequence[jax.Array], moments: Sequence[Moments] | None = None
    ) -> list[jax.Array]:
        """Normalise the parts [G or 1, n, H, W, C_j] of a concat, without making the concat.

        Scale, offset and running statistics are one array each, of all C channels.

        Args:
          parts: of the concat.
          moments: of each part, if they have been computed already.
        """
        if self.statistics == "off":
            return [jnp.maximum(part, 0) for part in parts] if self.relu else list(parts)
        if self.relu and self.relu_before:
            parts, moments = [jnp.maximum(part, 0) for part in parts], None
        pairs = self.factors(parts, moments)
        outputs = [kernels.scale_shift(x, *pair, self.is_fusible) for x, pair in zip(parts, pairs)]
        if self.relu:
            observed.relus(self, parts if self.relu_before else outputs)
        return outputs

    @property
    def is_fusible(self) -> bool:
        """Say whether it applies `factors`, then a ReLU, and nothing before."""
        return self.relu and not self.relu_before

    @nn.compact
    def factors(
        self, parts: Sequence[jax.Array], moments: Sequence[Moments] | None = None
    ) -> list[tuple[jax.Array, jax.Array]]:
        """Return factor and shift of each part, float32 [G or 1, 1, 1, 1, C_j]; as `of_concat`."""
        sizes = [part.shape[-1] for part in parts]
        scale = self.param("scale", nn.initializers.ones, (sum(sizes),), jnp.float32)
        offset = self.param("offset", nn.initializers.zeros, (sum(sizes),), jnp.float32)
        ends = np.cumsum(sizes)[:-1]
        moments = moments or list(map(kernels.moments, parts))
        scale, moments = self._means_and_variances(scale, moments, ends)
        observed.norm(self, [var for _, var in moments], self.epsilon)
        return [
            self._factor(x, *of_part)
            for x, *of_part in zip(parts, moments, jnp.split(scale, ends), jnp.split(offset, ends))
        ]

    def _factor(self, x, moments, scale, offset):
        mean, var = moments
        factor = scale * lax.rsqrt(var + self.epsilon)
        whole = (x.shape[0], 1, 1, 1, x.shape[-1])
        return tuple(jnp.broadcast_to(v, whole) for v in (factor, offset - mean * factor))

    def _means_and_variances(self, scale, moments, ends):
        """Return `scale`, and the mean and variance that normalise each part."""
        now = [(m, jnp.maximum(square - jnp.square(m), 0)) for m, square in moments]
        naming.check("statistics", self.statistics, STATISTICS)
        if self.statistics == "batch":
            return scale, now
        shape = (sum(m.shape[-1] for m, _ in now),)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        records, writes = self.statistics == "recorded", self.is_mutable_collection("batch_stats")
        if self.is_initializing() or not (records or writes):
            return scale, list(zip(*(jnp.split(kept.value, ends) for kept in (mean, var))))
        for kept, values in zip((mean, var), zip(*now)):
            average = jnp.concatenate([jnp.mean(value, (0, 1, 2, 3)) for value in values])
            if records:  # the loss depends on the scale wherever it depends on batch norm
                scale = kernels.recorded(scale, lax.stop_gradient(average), kept.value)
            else:
                kept.value = self.momentum * kept.value + (1 - self.momentum) * average
        return scale, now


# -- candidate operations: BN, ReLU, convolution --------------------------------------------------


class Conv(nn.Module):
    """BN, ReLU, convolution [kh, kw].

    Attributes:
      features: D.
      kernel_size: kh, kw.
      norm: builder of the batch norm.
      kernel_init: from the fan-in to an initialiser.
    """

    features: int
    kernel_size: tuple[int, int]
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H, W, D]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        init = self.kernel_init(math.prod(shape[:-1]))
        x = self.norm(relu=True, name="norm")(x)
        return conv(x, self.param("kernel", init, shape, jnp.float32))


class Projection(nn.Module):
    """Concat of arrays, BN, ReLU, 1x1 convolution.

    Attributes:
      features: D.
      halvings: how often a 2x2 mean follows. A 1x1 convolution and a mean over pixels commute, so
        the mean is taken first: the convolution then has a quarter of the work.
      norm: builder of the batch norm.
      kernel_init: from the fan-in to an initialiser.
    """

    features: int
    halvings: int = 0
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, inputs: Sequence[tuple[jax.Array, Moments]]) -> jax.Array:
        """Map arrays [G or 1, n, H, W, C_j] with moments -> [G, n, H/2^h, W/2^h, D], h halvings."""
        parts, moments = zip(*inputs)
        channels = sum(part.shape[-1] for part in parts)
        shape = (1, 1, channels, self.features)
        kernel = self.param("kernel", self.kernel_init(channels), shape, jnp.float32)
        norm = self.norm(relu=True, name="norm")
        if kernels.fuses() and norm.is_fusible and not self.halvings:
            factors, shifts = zip(*norm.factors(parts, moments))
            ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
            split = jnp.split(kernel[0, 0], ends)
            from nas_jax.nn.kernels import fused  # imports Pallas

            return fused.project(parts, factors, shifts, None, split)[0]
        parts = norm.of_concat(parts, moments)
        for _ in range(self.halvings):
            parts = list(map(kernels.halve, parts))
        return kernels.pointwise_of_concat(parts, kernel[0, 0])


class SeparableConv(nn.Module):
    """BN, ReLU, depthwise k x k, 1x1. A separable convolution has one BN: none lies inside it."""

    features: int
    kernel_size: int
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H, W, features]."""
        return self.with_moments(x)[0]

    @nn.compact
    def with_moments(
        self, x: jax.Array, moments: Moments | None = None
    ) -> tuple[jax.Array, Moments | None]:
        """Return the output, and its moments if they come with it; `moments` are those of x."""
        size, channels = self.kernel_size, x.shape[-1]
        spatial, across = (size, size, 1, channels), (1, 1, channels, self.features)
        per_channel = self.param("depthwise", self.kernel_init(size**2), spatial, jnp.float32)
        kernel = self.param("pointwise", self.kernel_init(channels), across, jnp.float32)
        norm = self.norm(relu=True, name="norm")
        if kernels.fuses() and norm.is_fusible:
            from nas_jax.nn.kernels import fused  # imports Pallas

            (pair,) = norm.factors([x], moments and [moments])
            y, *sums = fused.unit(x, *pair, per_channel, kernel[0, 0])
            return y, tuple(total / math.prod(y.shape[1:4]) for total in sums)
        x = norm(x, moments)
        flat = kernels.depthwise(x.reshape(-1, *x.shape[2:]), per_channel.astype(x.dtype))
        return kernels.pointwise(flat.reshape(x.shape), kernel[0, 0]), None


class Pair(nn.Module):
    """Two units, one after the other, made by `builders`."""

    builders: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H, W, features]."""
        moments = None
        for i, builder in enumerate(self.builders):
            unit = builder(name=f"unit{i}")
            if isinstance(unit, SeparableConv):
                x, moments = unit.with_moments(x, moments)
            else:
                x, moments = unit(x), None
        return x


class ConvNorm(nn.Module):
    """Convolution [kh, kw], BN: the order of most networks but the paper's.

    Attributes:
      features: D.
      kernel_size: kh, kw.
      stride: of the convolution.
      relu: whether a ReLU follows.
      relu_before: whether a ReLU comes first.
      norm: builder of the batch norm.
      kernel_init: from the fan-in to an initialiser.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    relu: bool = False
    relu_before: bool = False
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/stride, W/stride, D]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        init = self.kernel_init(math.prod(shape[:-1]))
        x = observed.relu(self, x) if self.relu_before else x
        x = conv(x, self.param("kernel", init, shape, jnp.float32), self.stride)
        return self.norm(relu=self.relu, name="norm")(x)


class DepthwiseNorm(nn.Module):
    """Depthwise convolution k x k, BN, and a ReLU if `relu`."""

    kernel_size: int
    stride: int = 1
    relu: bool = False
    norm: Any = BatchNorm
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/stride, W/stride, C]."""
        size, channels = self.kernel_size, x.shape[-1]
        init, shape = self.kernel_init(size**2), (size, size, 1, channels)
        kernel = self.param("depthwise", init, shape, jnp.float32).astype(x.dtype)
        y = kernels.depthwise(x.reshape(-1, *x.shape[2:]), kernel, self.stride)
        y = y.reshape(*x.shape[:2], *y.shape[1:])
        return self.norm(relu=self.relu, name="norm")(y)


class Stem(nn.Module):
    """3x3 convolution of the images, without BN or ReLU before it."""

    features: int
    stride: int = 1
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/stride, W/stride, features]."""
        shape = (3, 3, x.shape[-1], self.features)
        init = self.kernel_init(math.prod(shape[:-1]))
        return conv(x, self.param("kernel", init, shape, jnp.float32), self.stride)
