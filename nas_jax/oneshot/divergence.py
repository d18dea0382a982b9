"""KL divergence between predictions of candidates and of nearly all paths of the supernet.

Letters: D devices, g candidates of a device, N candidates in all, n images, K classes,
R references.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.oneshot import schedule
from nas_jax.runtime import distributed


class KLDivergence:
    """Evaluates masks [N, k]: divergences float [N], 0 or more; N is a multiple of D.

    A divergence is D_KL(p||q) + D_KL(q||p) in nats, averaged over images and references (paper,
    figures 6 and 7). p are a candidate's predictions, q those of a reference, both with the
    supernet's weights. No label is read.

    Args:
      net: supernet with bn="batch".
      variables: its variables.
      images: uint8 [n, H, W, C], one batch, which is normalised with its statistics.
      references: masks [R, k] of the networks to compare with.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.
      devices: None for all devices.
    """

    def __init__(
        self,
        net: nn.Module,
        variables: Any,
        images: np.ndarray,
        references: Any,
        *,
        prepare: Callable[[jax.Array], jax.Array],
        devices: Sequence[jax.Device] | None = None,
    ):
        def log_predictions(variables, images, archs):
            return jax.nn.log_softmax(net.logits_of_each(variables, prepare(images), archs))

        def divergence(variables, images, targets, archs):
            log_p = log_predictions(variables, images, archs)[:, None]
            log_q = targets[None]
            both = jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), -1)  # [g, R, n]
            return jnp.mean(both, (1, 2))

        targets = jax.jit(log_predictions)(variables, images, references)
        self._common = distributed.replicate((variables, images, targets), devices)
        self._devices = devices
        self._divergence = distributed.pmap(
            divergence, split={"archs"}, split_out=True, devices=devices
        )

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]."""
        return schedule.evaluate_sorted(self._evaluate, archs)

    def _evaluate(self, archs):
        divergences = self._divergence(*self._common, distributed.part(archs, self._devices))
        return distributed.whole(divergences, self._devices).astype(np.float64)
