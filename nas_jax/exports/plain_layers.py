"""Layers in plain Flax. A file model.py gets the source of those that its network uses.

They know neither groups nor masks. An activation is [B, H, W, C]: images, height, width, channels.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def norm_relu(norm: Any, x: jax.Array) -> jax.Array:
    """Apply batch norm, then ReLU."""
    return nn.relu(norm(name="norm")(x))


def relu_norm(norm: Any, x: jax.Array) -> jax.Array:
    """Apply ReLU, then batch norm."""
    return norm(name="norm")(nn.relu(x))


def max_pool(x: jax.Array) -> jax.Array:
    """Take the 3x3 maximum, stride 1."""
    return nn.max_pool(x, window_shape=(3, 3), strides=(1, 1), padding="SAME")


def avg_pool(x: jax.Array) -> jax.Array:
    """Take the 3x3 mean over pixels of the image, stride 1."""
    window = {"window_shape": (3, 3), "strides": (1, 1), "padding": "SAME"}
    return nn.avg_pool(x, **window, count_include_pad=False)


def halve(x: jax.Array) -> jax.Array:
    """Take the 2x2 mean, stride 2."""
    return nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))


def conv(
    features: int, kernel: tuple[int, int], strides: int = 1, groups: int = 1, name: str = "conv"
) -> nn.Conv:
    """Make a convolution without bias, padded by half its kernel."""
    padding = [(side // 2, side // 2) for side in kernel]
    options = {"padding": padding, "feature_group_count": groups, "use_bias": False}
    return nn.Conv(features, kernel, (strides, strides), **options, name=name)


class ConcatConv(nn.Module):
    """Concat of tensors, batch norm, ReLU, 1x1 convolution."""

    features: int
    norm: Any

    @nn.compact
    def __call__(self, tensors: list[jax.Array], height: int = 0) -> jax.Array:
        """Map tensors [B, H, W, C_i] -> [B, H, W, features], or halved down to `height`."""
        x = norm_relu(self.norm, jnp.concatenate(tensors, -1))
        while height and x.shape[1] > height:
            x = halve(x)
        return conv(self.features, (1, 1))(x)


class SeparableUnit(nn.Module):
    """Batch norm, ReLU, depthwise convolution, 1x1 convolution."""

    features: int
    kernel: tuple[int, int]
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H, W, features]."""
        x, channels = norm_relu(self.norm, x), x.shape[-1]
        x = conv(channels, self.kernel, groups=channels, name="depthwise")(x)
        return conv(self.features, (1, 1), name="pointwise")(x)


class SeparableConv(nn.Module):
    """Two separable units, one after the other."""

    hidden: int
    features: int
    kernel: tuple[int, int]
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H, W, features]."""
        x = SeparableUnit(self.hidden, self.kernel, self.norm, name="unit0")(x)
        return SeparableUnit(self.features, self.kernel, self.norm, name="unit1")(x)


class ConvUnit(nn.Module):
    """Batch norm, ReLU, convolution."""

    features: int
    kernel: tuple[int, int]
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H, W, features]."""
        return conv(self.features, self.kernel)(norm_relu(self.norm, x))


class FactoredConv7x7(nn.Module):
    """A 1x7 and a 7x1 unit, one after the other."""

    hidden: int
    features: int
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H, W, features]."""
        x = ConvUnit(self.hidden, (1, 7), self.norm, name="unit0")(x)
        return ConvUnit(self.features, (7, 1), self.norm, name="unit1")(x)


class ConvNorm(nn.Module):
    """Convolution, batch norm, and a ReLU if `relu`."""

    features: int
    kernel: tuple[int, int]
    norm: Any
    strides: int = 1
    relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H / strides, W / strides, features]."""
        x = conv(self.features, self.kernel, self.strides)(x)
        return norm_relu(self.norm, x) if self.relu else self.norm(name="norm")(x)


class DepthwiseNormRelu(nn.Module):
    """Depthwise convolution, batch norm, ReLU."""

    kernel: tuple[int, int]
    norm: Any
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H / strides, W / strides, C]."""
        channels = x.shape[-1]
        x = conv(channels, self.kernel, self.strides, channels, name="depthwise")(x)
        return norm_relu(self.norm, x)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1, depthwise, 1x1, and a shortcut where the shape stays the same."""

    hidden: int
    features: int
    kernel: tuple[int, int]
    norm: Any
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H / strides, W / strides, features]."""
        y = ConvNorm(self.hidden, (1, 1), self.norm, relu=True, name="expand")(x)
        y = DepthwiseNormRelu(self.kernel, self.norm, self.strides, name="depthwise")(y)
        y = ConvNorm(self.features, (1, 1), self.norm, name="project")(y)
        return x + y if x.shape == y.shape else y


class ReluConvNorm(nn.Module):
    """Batch norm of a convolution of what a ReLU gives."""

    features: int
    kernel: tuple[int, int]
    norm: Any
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H / strides, W / strides, features]."""
        x = conv(self.features, self.kernel, self.strides)(nn.relu(x))
        return self.norm(name="norm")(x)


class Reduction(nn.Module):
    """Residual block of two 3x3 convolutions, which halves height and width."""

    features: int
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] -> [B, H / 2, W / 2, features]."""
        y = ReluConvNorm(self.features, (3, 3), self.norm, strides=2, name="conv1")(x)
        y = ReluConvNorm(self.features, (3, 3), self.norm, name="conv2")(y)
        return y + conv(self.features, (1, 1))(halve(x))
