"""The accuracy of stand-alone networks."""

from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def accuracy(
    net: nn.Module,
    variables: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    prepare: Callable[[jax.Array], jax.Array],
) -> float:
    """Return the accuracy in [0, 1] of a stand-alone network with running statistics.

    Args:
      net: module that `Space.standalone` made with bn="running".
      variables: its params and batch_stats.
      batches: (images uint8 [n, H, W, C], labels int32 [n]), read one at a time. A smaller batch is
        padded to the size of the first; padding does not change running statistics.
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
