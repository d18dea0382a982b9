"""One-shot accuracy: accuracy of architectures with the supernet's weights (paper, section 3.3).

Letters: D devices, g candidates of a device, N candidates in all, M images, n images of a batch,
K classes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.oneshot import batch_statistics, class_metrics, schedule
from nas_jax.runtime import distributed


class OneShotAccuracy:
    """Evaluates masks [N, k]: accuracies float [N] in [0, 1]; N is a multiple of D.

    A candidate whose logits are not all finite gets NaN. All candidates see the same batches, and
    no batch is padded. Batch-norm statistics come from one of three sources:

    - `calibration` images, for each candidate, if they are given;
    - else `batch_stats` of `variables`, if there are any;
    - else the images of the batch, as in training.

    Args:
      net: supernet with bn="batch".
      variables: its variables.
      images: uint8 [M, H, W, C].
      labels: int32 [M].
      batch_size: images n per forward pass; divides M.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
      calibration: uint8 [c, n, H, W, C], c batches of training images, or None.
      devices: None for all devices.
      metric: one of `class_metrics.METRICS`, or `MINUS_LOSS`, which values are instead of
        accuracies.

    Raises: ValueError if `batch_size` does not divide M: padding would change the statistics.
    """

    def __init__(
        self,
        net: nn.Module,
        variables: Any,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        prepare: Callable[[jax.Array], jax.Array],
        calibration: np.ndarray | None = None,
        devices: Sequence[jax.Device] | None = None,
        metric: str = "accuracy",
    ):
        if len(images) % batch_size:
            raise ValueError(
                f"sweep.num_images={len(images)} is not a multiple of sweep.batch_size={batch_size}"
            )
        self._devices, self._num_images, self._metric = devices, len(images), metric
        fixed = calibration is not None or "batch_stats" in variables
        evaluated = net.clone(bn="running") if fixed else net
        options = {"prepare": prepare, "devices": devices, "metric": metric}
        self._correct = functools.partial(compiled_correct, **options)
        self._net, self._is_planned = evaluated, calibration is None
        self._variables = distributed.replicate(variables, devices)
        self._batches = [
            distributed.replicate((images[i : i + batch_size], labels[i : i + batch_size]), devices)
            for i in range(0, len(images), batch_size)
        ]
        self._calibrate = _no_calibration
        if calibration is not None:
            self._calibrate = _calibration(net, prepare, self._variables, calibration, devices)

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]."""
        if not self._is_planned:  # each candidate has variables of its own
            return schedule.evaluate_sorted(functools.partial(self._evaluate, self._net), archs)
        num_devices = distributed.num_global(self._devices)
        order, net = schedule.plan(self._net, jax.device_get(archs), num_devices)
        return schedule.in_order(order, functools.partial(self._evaluate, net), archs)

    def _evaluate(self, net, archs):
        archs, correct = distributed.part(archs, self._devices), self._correct(net)
        calibrated = self._calibrate(archs)
        counts = [correct(self._variables, calibrated, *batch, archs) for batch in self._batches]
        total = np.sum(jax.device_get(counts), 0)
        answers = distributed.whole(total, self._devices)
        return class_metrics.of_answers(self._metric, answers, self._num_images)


def _no_calibration(archs):
    return {}


def _calibration(net, prepare, variables, batches, devices):
    """Make masks [D, g, k] -> the calibrated variables [D, g, ...] of the candidates."""

    def gather(variables, batches, archs):
        params = variables["params"]
        stats = batch_statistics.gather_each(net, params, batches, archs, prepare)
        return {"batch_stats": stats}

    gather = distributed.pmap(gather, split={"archs"}, split_out=True, devices=devices)
    batches = distributed.replicate(batches, devices)
    return lambda archs: gather(variables, batches, archs)


def correct(
    net: nn.Module, prepare: Callable[[jax.Array], jax.Array], metric: str = "accuracy"
) -> Callable[..., jax.Array]:
    """Make (variables, per_arch, images, labels, archs) -> correct answers float32 [g], pure.

    With `MINUS_LOSS` it is minus the sum of cross-entropies in nats; with a metric other than the
    accuracy, counts of each class, float32 [g, 3, K] (`class_metrics.class_counts`).

    A candidate whose logits are not all finite gets NaN. All candidates (masks [g, k]) see the same
    `images` uint8 [n, H, W, C] and `labels` int32 [n]. `per_arch` has the variables [g, ...] that
    differ between candidates, or is {}.
    """

    def count(variables, per_arch, images, labels, archs):
        logits = net.logits_of_each(variables, prepare(images), archs, per_arch)
        predicted, finite = jnp.argmax(logits, -1), jnp.all(jnp.isfinite(logits), (-2, -1))
        if metric == class_metrics.MINUS_LOSS:
            log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
            right = jnp.take_along_axis(log_p, labels[None, :, None], -1)
            return jnp.where(finite, jnp.sum(right, (-2, -1)), jnp.nan)
        if metric != "accuracy":
            counts = class_metrics.class_counts(predicted, labels, logits.shape[-1])
            return jnp.where(finite[:, None, None], counts, jnp.nan)
        return jnp.where(finite, jnp.sum(predicted == labels, -1), jnp.nan)

    return count


def compiled_correct(
    net: nn.Module,
    *,
    prepare: Callable[[jax.Array], jax.Array],
    devices: Sequence[jax.Device] | None = None,
    metric: str = "accuracy",
) -> Callable[..., jax.Array]:
    """Compile `correct` for all devices: masks, `per_arch` and the counts are [D, g, ...].

    Equal networks and preparations share the compiled function.
    """
    return _compiled(net, prepare, devices and tuple(devices), metric)


@functools.lru_cache(8)
def _compiled(net, prepare, devices, metric):
    split, answers = {"per_arch", "archs"}, correct(net, prepare, metric)
    return distributed.pmap(answers, split=split, split_out=True, devices=devices)
