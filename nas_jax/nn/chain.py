"""Networks that are a chain of layers under masks: neighbouring architectures share beginnings."""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax.nn import masked, network, observed


class ChainNetwork(network.Network):
    """The base of networks `enter`, `layer` 0, `layer` 1, .., `leave`.

    `space.choices` is a sequence of one Choice for each layer. The links are methods, since
    `one_after_the_other` calls them one by one.
    """

    @abc.abstractmethod
    def enter(self, images: jax.Array) -> jax.Array:
        """Map images [G or 1, n, H, W, C] to the first layer's input, which all share."""

    @abc.abstractmethod
    def layer(self, number: int, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Map x [G or 1, n, H, W, C] under mask [G, num_options] to that layer's output."""

    @abc.abstractmethod
    def leave(self, x: jax.Array) -> jax.Array:
        """Map the last layer's output to logits float32 [G, n, K]."""

    def __call__(self, images: jax.Array, arch: Any = None) -> jax.Array:
        """Map images [B, H, W, C] or [G or 1, n, H, W, C] to logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images, arch)
        x = observed.block(self, 0, self.enter(images))
        for i in range(len(self.space.choices)):
            x = self.layer(i, x, None if masks is None else masks[i])
            x = observed.block(self, i + 1, x)
        return self.leave(x).reshape(*leading, -1)

    @nn.nowrap
    def one_after_the_other(
        self, variables: Any, images: jax.Array, archs: Sequence[jax.Array]
    ) -> jax.Array:
        """Return logits as `network.Network.one_after_the_other`, sharing the first layers.

        A layer is computed again only if its mask, or that of an earlier layer, differs from the
        architecture before. So give sorted architectures.
        """

        def call(method, *args):
            return self.apply(variables, *args, method=method)

        changed = jnp.stack([jnp.any(mask[1:] != mask[:-1], -1) for mask in archs], -1)
        first = jnp.argmax(changed, -1).astype(jnp.int32)
        first = jnp.concatenate([jnp.zeros(1, jnp.int32), first])
        start = call("enter", images[None])

        def layer(i, x, mask, old=None):
            return call("layer", i, x, mask)

        def outputs(arch):
            kept = [start]
            for i, mask in enumerate(arch):
                kept.append(layer(i, kept[-1], mask[None]))
            return kept[1:]

        def next_arch(before, given):
            arch, first = given
            kept = [start]
            for i, mask in enumerate(arch):
                inputs = kept[-1], mask[None], before[i]
                anew = functools.partial(layer, i)
                kept.append(jax.lax.cond(i >= first, anew, lambda x, mask, old: old, *inputs))
            return kept[1:], call("leave", kept[-1])[0]

        shapes = jax.eval_shape(outputs, jax.tree.map(lambda mask: mask[0], archs))
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(next_arch, nothing, (archs, first))[1]
