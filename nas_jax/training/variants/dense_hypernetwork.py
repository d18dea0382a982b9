"""SMASH's hypernetwork as it was published: a DenseNet without batch norm.

Its numbers are those of the published code (github.com/ajbrock/SMASH).

Letters: G groups, P rows (units), L columns (positions), C channels, see `places`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax.nn import kernels, layers
from nas_jax.runtime import rng
from nas_jax.training.variants import places
from nas_jax.training.variants.hypernetwork import HyperNetwork

SCOPE = "hypernetwork"  # of its parameters
FIRST = 7  # channels that the first convolution adds
GROWTH = 10  # channels that each further layer adds
BLOCKS = (8, 10, 4)  # layers; after the first two blocks the number of channels is halved
SLOPE = 0.02  # of LeakyReLU, below zero
_SEED = 0  # of the embedding, which is the same for all trainings


class WeightNormConv(nn.Module):
    """A convolution without bias whose kernel is divided by its norm, the root of all squares."""

    features: int
    size: int = 3
    kernel_init: Any = layers.he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, P, L, C] -> [G, P, L, features]."""
        fan_in = self.size**2 * x.shape[-1]
        init = self.kernel_init(2 * fan_in)  # as large as the rows of an orthogonal matrix
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32)
        return kernels.conv(x, kernel * jax.lax.rsqrt(jnp.sum(jnp.square(kernel))))


class DenseNet(nn.Module):
    """Three dense blocks of weight-normalised 3x3 convolutions, then a 1x1 convolution.

    Attributes:
      features: channels of the output.
      blocks: layers of each block.
      kernel_init: from the fan-in to an initialiser.
    """

    features: int
    blocks: tuple[int, ...] = BLOCKS
    kernel_init: Any = layers.he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, P, L, C] -> [G, P, L, features]."""

        def after(x, features, name, size=3):
            return self._conv(features, name, size)(nn.leaky_relu(x, SLOPE))

        x = jnp.concatenate([x, self._conv(FIRST, "first")(x)], -1)
        for number, depth in enumerate(self.blocks):
            for layer in range(depth):
                y = after(x, GROWTH, f"block{number}_layer{layer}")
                x = jnp.concatenate([x, y], -1)
            if number < len(self.blocks) - 1:
                x = after(x, x.shape[-1] // 2, f"transition{number}")
        return after(x, self.features, "last", size=1)

    def _conv(self, features, name, size=3):
        return WeightNormConv(features, size, self.kernel_init, name=name)


class DenseHyperNetwork(HyperNetwork):
    """The supernet with the kernels that a `DenseNet` emits, place by place.

    Generated are the 1x1 kernels that belong to an option; they are no parameters.

    Attributes:
      blocks: of the `DenseNet`.
    """

    blocks: tuple[int, ...] = BLOCKS

    @nn.nowrap
    def stored(self, scales, channels):
        """Leave out the generated kernels."""
        generated = set(self.placed(channels).paths)
        return {path: scale for path, scale in scales.items() if path not in generated}

    def of_groups(self, images, masks):
        """Emit the kernels [G, 1, 1, channels in, channels out], by path."""
        laid = self.placed(images.shape[-1])
        features = places.COMPRESSION * places.TILE**2
        net = DenseNet(features, self.blocks, self.kernel_init, name=SCOPE)
        condition = laid.conditional(masks)
        embedding = jax.random.normal(rng.key(_SEED), (laid.rows, laid.columns, 1))
        embedding = jnp.broadcast_to(embedding, (*condition.shape[:3], 1))
        emitted = net(jnp.concatenate([embedding, condition], -1))
        return laid.kernels(emitted, masks)

    @nn.nowrap
    def whole(self, shared, of_group, channels):
        """Add the generated kernels."""
        return shared | of_group

    @nn.nowrap
    def placed(self, channels: int) -> places.Places:
        """Return where the kernels lie, for images of `channels`."""
        return places.of(self.space, self.filters, self.num_classes, channels)
