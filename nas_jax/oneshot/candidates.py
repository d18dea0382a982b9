"""Many candidates on the same images: their logits, and statistics of batch norm for them.

Letters: g candidates, n images of a batch, c batches, K classes.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax.runtime import rng


def logits(
    net: nn.Module, variables: Any, images: jax.Array, archs: Any, own: Any = ()
) -> jax.Array:
    """Logits [g, n, K] of g candidates on the same images, as the supernet's `execution` asks.

    `own` has variables [g, ...] that differ between candidates, none or a dict of collections.
    """

    def one(arch, own):
        return net.apply({**variables, **dict(own)}, images, arch)

    if net.execution == "switch" and hasattr(net, "layer") and not own:
        return _sharing_prefixes(net, variables, images, archs)
    if net.execution == "switch":  # one after the other; what no mask touches is done once
        return jax.lax.map(lambda candidate: one(*candidate), (archs, own))
    if net.execution == "dispatch" and not own:
        return net.apply(variables, images[None], archs)
    return jax.vmap(one)(archs, own)


def _sharing_prefixes(net, variables, images, archs):
    """Logits [g, n, K] of a chain: a layer is computed again only if it or one before it differs
    from the candidate before, so candidates should come sorted.

    `net` has the methods `enter`, `layer` and `leave` of a chain, `archs` a mask [g, k] per layer.
    """

    def call(method, *args):
        return net.apply(variables, *args, method=method)

    changed = jnp.stack([jnp.any(mask[1:] != mask[:-1], -1) for mask in archs], -1)
    first = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.argmax(changed, -1).astype(jnp.int32)])
    start = call("enter", images[None])

    def layer(i, x, mask, old=None):
        return call("layer", i, x, mask)

    def outputs(arch):
        found = [start]
        for i, mask in enumerate(arch):
            found.append(layer(i, found[-1], mask[None]))
        return found[1:]

    def next_candidate(kept, candidate):
        arch, first = candidate
        found = [start]
        for i, mask in enumerate(arch):
            inputs = found[-1], mask[None], kept[i]
            anew = functools.partial(layer, i)
            found.append(jax.lax.cond(i >= first, anew, lambda x, mask, old: old, *inputs))
        return found[1:], call("leave", found[-1])[0]

    shapes = jax.eval_shape(outputs, jax.tree.map(lambda mask: mask[0], archs))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(next_candidate, nothing, (archs, first))[1]


def statistics(
    net: nn.Module,
    params: Any,
    batches: jax.Array,
    archs: Any,
    prepare: Callable[[jax.Array], jax.Array],
) -> Any:
    """Batch norm's statistics of a supernet, means over batches: its `batch_stats`.

    Args:
      net: supernet.
      params: its parameters.
      batches: uint8 [c, n, H, W, C].
      archs: masks [c, k], the architecture that is run on each batch.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
    """
    # Running averages without memory are the batch's own statistics; only "masked" writes them.
    net = net.clone(bn="running", bn_momentum=0.0, execution="masked")
    one = jax.tree.map(lambda mask: mask[0], archs)
    shapes = jax.eval_shape(net.init, rng.key(0), prepare(batches[0]), one)["batch_stats"]
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def of_batch(batch):
        images, arch = batch
        variables = {"params": params, "batch_stats": empty}
        _, found = net.apply(variables, prepare(images), arch, mutable=["batch_stats"])
        return found["batch_stats"]

    every = jax.lax.map(of_batch, (batches, archs))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), every)
