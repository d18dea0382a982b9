"""Calibration: batch-norm statistics of an architecture before its evaluation; not in the paper.

Letters: n images of a batch, c batches.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax.runtime import rng


def gather(
    net: nn.Module,
    params: Any,
    batches: jax.Array,
    archs: Any,
    prepare: Callable[[jax.Array], jax.Array],
) -> Any:
    """Gather `batch_stats`, means over c batches.

    Args:
      net: supernet.
      params: its parameters.
      batches: uint8 [c, n, H, W, C].
      archs: masks [c, k], an architecture for each batch.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
    """
    # With momentum 0 running averages are the statistics of the batch; only "masked" writes them.
    net = net.clone(bn="running", bn_momentum=0.0, execution="masked")
    one = jax.tree.map(lambda mask: mask[0], archs)
    shapes = jax.eval_shape(net.init, rng.key(0), prepare(batches[0]), one)["batch_stats"]
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def of_batch(batch):
        images, arch = batch
        variables = {"params": params, "batch_stats": empty}
        _, changed = net.apply(variables, prepare(images), arch, mutable=["batch_stats"])
        return changed["batch_stats"]

    every = jax.lax.map(of_batch, (batches, archs))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), every)


def gather_each(
    net: nn.Module,
    params: Any,
    batches: jax.Array,
    archs: Any,
    prepare: Callable[[jax.Array], jax.Array],
) -> Any:
    """Gather `batch_stats` [g, ...] of each of g architectures (masks [g, k]) on all batches.

    The other arguments are those of `gather`.
    """

    def of_one(arch):
        same = jax.tree.map(lambda mask: jnp.stack([mask] * len(batches)), arch)
        return gather(net, params, batches, same, prepare)

    return jax.lax.map(of_one, archs)
