"""Measured latency of an architecture's stand-alone network on this machine's first device."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import supernet
from nas_jax.spaces import Space


class Latency(NamedTuple):
    """Milliseconds of one forward pass: median and quartiles over `repeats` passes."""

    median: float
    low: float
    high: float
    batch_size: int
    repeats: int


def measure(
    space: Space,
    arch: Any,
    *,
    filters: int,
    image_size: int,
    num_classes: int = 10,
    channels: int = 3,
    batch_size: int = 1,
    warm_up: int = 3,
    repeats: int = 20,
    **options: Any,
) -> Latency:
    """Time the network of one architecture, random weights, running statistics.

    Args:
      space: its space.
      arch: a canonical string or masks [num_options].
      filters: F.
      image_size: H = W, pixels.
      num_classes: K.
      channels: of an image.
      batch_size: images of a pass; 1 is what a user waits for, many is throughput.
      warm_up: passes before the first that counts; the first of them compiles.
      repeats: passes that count.
      **options: of `Space.standalone`, such as dtype.
    """
    net = space.standalone(arch, num_classes=num_classes, filters=filters, bn="running", **options)
    images = jnp.zeros((batch_size, image_size, image_size, channels), jnp.float32)
    variables = jax.device_put(supernet.init(jax.random.key(0), net, images), jax.devices()[0])
    predict, times = jax.jit(net.apply), []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        jax.block_until_ready(predict(variables, images))
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = np.quantile(times[warm_up:], (0.25, 0.5, 0.75)).tolist()
    return Latency(median, low, high, batch_size, repeats)
