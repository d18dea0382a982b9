"""Scores of architectures: accuracy of a candidate with the supernet's weights.

Letters: D devices, g candidates of a device, n images of a batch, K classes.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import parallel


def one_shot_accuracy(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    prepare: Callable[[jax.Array], jax.Array],
    calibration: np.ndarray | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[Any], np.ndarray]:
    """Build the scorer: masks [N, k] -> accuracy float [N] in [0, 1]; N a multiple of D.

    A candidate whose logits are not all finite scores NaN.

    Paths are zeroed by the masks. Batch norm's statistics come from the images of a batch, as in
    training (paper, section 3.3); or, if there are `calibration` images, for each candidate from
    these; or from `variables`, if they have `batch_stats`. All candidates see the same batches,
    none is padded.

    Args:
      net: supernet with bn="batch".
      variables: its variables.
      images: uint8 [M, H, W, C].
      labels: int32 [M].
      batch_size: images n per forward pass; divides M.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
      calibration: uint8 [c, n, H, W, C], c batches of training images, or None.
      devices: None for all.

    Raises:
      ValueError: `batch_size` does not divide M (padding would change the statistics).
    """
    if len(images) % batch_size:
        raise ValueError(
            f"sweep.num_images={len(images)} is not a multiple of sweep.batch_size={batch_size}"
        )
    num_devices = parallel.num_local(devices)
    fixed = calibration is not None or "batch_stats" in variables
    scored = net.clone(bn="running") if fixed else net

    def correct(variables, own, images, labels, archs):
        logits = candidate_logits(scored, variables, prepare(images), archs, own)
        count = jnp.sum(jnp.argmax(logits, -1) == labels, -1)
        return jnp.where(jnp.all(jnp.isfinite(logits), (-2, -1)), count, jnp.nan)

    def calibrated(variables, batches, archs):
        def of_one(arch):
            same = jax.tree.map(lambda mask: jnp.stack([mask] * len(batches)), arch)
            return statistics(net, variables["params"], batches, same, prepare)

        return {"batch_stats": jax.lax.map(of_one, archs)}

    split = (False, True, False, False, True)
    counted = parallel.pmap(correct, split=split, split_out=True, devices=devices)
    own_of = parallel.pmap(calibrated, split=(False, False, True), split_out=True, devices=devices)
    variables = parallel.replicate(variables, devices)
    batches = [
        parallel.replicate((images[i : i + batch_size], labels[i : i + batch_size]), devices)
        for i in range(0, len(images), batch_size)
    ]
    if calibration is not None:
        calibration = parallel.replicate(calibration, devices)

    def score(archs):
        archs = parallel.shard(archs, num_devices)
        own = {} if calibration is None else own_of(variables, calibration, archs)
        counts = [counted(variables, own, *batch, archs) for batch in batches]
        return np.sum(jax.device_get(counts), 0).reshape(-1) / len(images)

    return score


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
    # Of these a last value is the mean of nothing else; and only "masked" writes them.
    net = net.clone(bn="running", bn_momentum=0.0, execution="masked")
    one = jax.tree.map(lambda mask: mask[0], archs)
    shapes = jax.eval_shape(net.init, jax.random.key(0), prepare(batches[0]), one)["batch_stats"]
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def of_batch(batch):
        images, arch = batch
        variables = {"params": params, "batch_stats": empty}
        _, found = net.apply(variables, prepare(images), arch, mutable=["batch_stats"])
        return found["batch_stats"]

    every = jax.lax.map(of_batch, (batches, archs))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), every)


def candidate_logits(
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


def accuracy(
    net: nn.Module,
    variables: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    prepare: Callable[[jax.Array], jax.Array],
) -> float:
    """Accuracy in [0, 1] of a stand-alone network with running statistics.

    Args:
      net: module that `Space.standalone` made with bn="running".
      variables: its params and batch_stats.
      batches: (images uint8 [n, H, W, C], labels int32 [n]), read one at a time. A smaller one is
        padded to the size of the first, which running statistics do not notice.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
    """
    predict = jax.jit(lambda variables, x: jnp.argmax(net.apply(variables, prepare(x)), -1))
    correct, total, size = 0, 0, 0
    for images, labels in batches:
        size = size or len(images)
        padded = np.pad(images, [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1))
        predicted = np.asarray(predict(variables, padded))[: len(images)]
        correct += int(np.sum(predicted == labels))
        total += len(images)
    return correct / total
