"""Scores of architectures with the supernet's weights: their accuracy, or how far their predictions
are from those of nearly all paths.

Letters: D devices, g candidates of a device, n images of a batch, K classes, R references.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.oneshot import candidates
from nas_jax.runtime import distributed


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
    fixed = calibration is not None or "batch_stats" in variables
    scored = net.clone(bn="running") if fixed else net

    def calibrated(variables, batches, archs):
        def of_one(arch):
            same = jax.tree.map(lambda mask: jnp.stack([mask] * len(batches)), arch)
            return candidates.statistics(net, variables["params"], batches, same, prepare)

        return {"batch_stats": jax.lax.map(of_one, archs)}

    counted = counter(scored, prepare=prepare, devices=devices)
    own_of = distributed.pmap(
        calibrated, split=(False, False, True), split_out=True, devices=devices
    )
    variables = distributed.replicate(variables, devices)
    batches = [
        distributed.replicate((images[i : i + batch_size], labels[i : i + batch_size]), devices)
        for i in range(0, len(images), batch_size)
    ]
    if calibration is not None:
        calibration = distributed.replicate(calibration, devices)

    def score(archs):
        archs = distributed.part(archs, devices)
        own = {} if calibration is None else own_of(variables, calibration, archs)
        counts = [counted(variables, own, *batch, archs) for batch in batches]
        return distributed.whole(np.sum(jax.device_get(counts), 0), devices) / len(images)

    return score


def counter(
    net: nn.Module,
    *,
    prepare: Callable[[jax.Array], jax.Array],
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., jax.Array]:
    """Compile (variables, own, images, labels, archs) -> right answers float32 [D, g]; NaN where
    the logits are not all finite.

    `images` uint8 [n, H, W, C] and `labels` int32 [n] are the same for all candidates, masks
    [D, g, k]; `own` has variables [D, g, ...] that differ between them, or is {}.
    """

    split = (False, True, False, False, True)
    return distributed.pmap(right(net, prepare), split=split, split_out=True, devices=devices)


def right(net: nn.Module, prepare: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """What `counter` compiles, pure and without the axis of devices."""

    def correct(variables, own, images, labels, archs):
        logits = candidates.logits(net, variables, prepare(images), archs, own)
        count = jnp.sum(jnp.argmax(logits, -1) == labels, -1)
        return jnp.where(jnp.all(jnp.isfinite(logits), (-2, -1)), count, jnp.nan)

    return correct


def kl_divergence(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    references: Any,
    *,
    prepare: Callable[[jax.Array], jax.Array],
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[Any], np.ndarray]:
    """Build the scorer: masks [N, k] -> divergence float [N], 0 or more; N a multiple of D.

    D_KL(p||q) + D_KL(q||p) in nats between a candidate's predictions p and a reference's q, both
    with the same weights, averaged over images and references (paper, figures 6 and 7).
    No label is read.

    Args:
      net: supernet with bn="batch".
      variables: its variables.
      images: uint8 [n, H, W, C], one batch, whose statistics normalise it.
      references: masks [R, k] of the networks to compare with.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
      devices: None for all.
    """

    def log_predictions(variables, images, archs):
        return jax.nn.log_softmax(candidates.logits(net, variables, prepare(images), archs))

    def divergence(variables, images, targets, archs):
        log_p, log_q = log_predictions(variables, images, archs)[:, None], targets[None]
        both = jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), -1)  # [g, R, n]
        return jnp.mean(both, (1, 2))

    targets = jax.jit(log_predictions)(variables, images, references)
    common = distributed.replicate((variables, images, targets), devices)
    split = (False, False, False, True)
    compared = distributed.pmap(divergence, split=split, split_out=True, devices=devices)

    def score(archs):
        divergences = compared(*common, distributed.part(archs, devices))
        return distributed.whole(divergences, devices).astype(np.float64)

    return score


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
