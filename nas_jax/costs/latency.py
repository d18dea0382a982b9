"""Measured latency on this machine's first device: of one network, and of every option."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, stats

from nas_jax.nn.init import init
from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.spaces.image_size import ImageSize, height_and_width
from nas_jax.storage import file_paths, json_files, schemas

logger = logging.getLogger(__name__)

# Estimates beyond these are poor. With an error of a quarter, a network of 4 ms passes for one of
# 3 ms. At a rank correlation of a half, one of three pairs of networks is in the wrong order.
MOST_ERROR = 25.0  # per cent, the median
LEAST_SPEARMAN = 0.5
REMEDY = "raise sweep.latency.num_archs, and time on a machine that does nothing else"


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
    image_size: ImageSize,
    num_classes: int = 10,
    channels: int = 3,
    batch_size: int = 1,
    warm_up: int = 3,
    repeats: int = 20,
    **options: Any,
) -> Latency:
    """Time the network of one architecture, with random weights and running statistics.

    Args:
      space: of the architecture.
      arch: a canonical string or masks [num_options].
      filters: F.
      image_size: pixels, (height, width) or the side of a square.
      num_classes: K.
      channels: of an image.
      batch_size: images of a pass; 1 measures how long a user waits, many measure throughput.
      warm_up: passes before those that count; the first of them compiles.
      repeats: passes that count.
      **options: of `Space.standalone`, such as dtype.

    Raises: ValueError if no pass counts, if there is no image, or if the network cannot reduce
      images of that size evenly.
    """
    for name, given, least in (
        ("batch_size", batch_size, 1),
        ("warm_up", warm_up, 0),
        ("repeats", repeats, 1),
    ):
        if given < least:
            raise ValueError(f"{name}={given} must be {least} or more")
    space.check_image_size(image_size)
    net = space.standalone(arch, num_classes=num_classes, filters=filters, bn="running", **options)
    images = jnp.zeros((batch_size, *height_and_width(image_size), channels), jnp.float32)
    variables = jax.device_put(init(rng.key(0), net, images), jax.local_devices()[0])
    predict, times = jax.jit(net.apply), []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        jax.block_until_ready(predict(variables, images))
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = np.quantile(times[warm_up:], (0.25, 0.5, 0.75)).tolist()
    return Latency(median, low, high, batch_size, repeats)


def per_option(
    space: Space,
    path: Path,
    *,
    num_archs: int,
    batch_size: int,
    filters: int,
    image_size: ImageSize,
    num_classes: int,
    channels: int,
    dtype: Any = jnp.float32,
) -> dict[str | None, np.ndarray]:
    """Estimate the milliseconds of each option; their sum estimates any architecture's latency.

    The stand-alone networks of random architectures are timed (and compiled, which takes most of
    the time). Least squares share their times out among options, none below zero. A quarter of the
    architectures is kept apart to measure the error. The estimates are written to `path`; if the
    file exists, they are read from it, so that a later process of a search has the same. A warning
    says if they are poor (`is_poor`).

    Args:
      space, batch_size, filters, image_size, num_classes, channels, dtype: as of `measure`.
      path: latency.json.
      num_archs: architectures to time.

    Returns:
      {name of a Choice: [num_options]}, and [] by None for the part that all architectures have.

    Raises: ValueError if the file is of images of another size.
    """
    path, sides = file_paths.local(path, "path"), list(height_and_width(image_size))
    if not path.exists():
        archs = jax.device_get(space.sample(rng.key(0), (num_archs,)))
        size = {"filters": filters, "image_size": image_size, "batch_size": batch_size}
        size |= {"num_classes": num_classes, "channels": channels, "dtype": dtype}
        times = []
        for text in space.to_strs(archs):
            times.append(measure(space, text, **size).median)
            logger.info("latency  %d/%d  %.3f ms  %s", len(times), num_archs, times[-1], text)
        estimates = _estimate(space, archs, np.asarray(times))
        device = jax.local_devices()[0].device_kind
        estimates |= {"image_size": sides, "batch_size": batch_size, "filters": filters}
        estimates |= {"device": device}
        json_files.write_json(path, estimates)
    estimates = json_files.read_json(path, schemas.LATENCY)
    _check_images(path, estimates, sides)
    logger.info("latency  estimates have a %s", quality(estimates))
    if is_poor(estimates):
        logger.warning("%s holds poor estimates, %s: %s", path, quality(estimates), REMEDY)
    named = {name: np.asarray(row) for name, row in estimates["options_ms"].items()}
    return {None: np.asarray(estimates["base_ms"]), **named}


def quality(estimates: Mapping[str, Any]) -> str:
    """Say in words how far the estimates of a latency.json are from the times kept apart."""
    error = f"median error of {estimates['error_percent']:.1f} %"
    if "spearman" not in estimates:
        return error
    ranks = "none" if estimates["spearman"] is None else f"{estimates['spearman']:.2f}"
    return f"{error} and a rank correlation (Spearman) of {ranks}"


def is_poor(estimates: Mapping[str, Any]) -> bool:
    """Say whether the estimates of a latency.json are too poor to search by.

    The rank correlation is None if all estimates or all times are equal.
    """
    ranks = estimates.get("spearman", LEAST_SPEARMAN)
    return estimates["error_percent"] > MOST_ERROR or ranks is None or ranks < LEAST_SPEARMAN


def _check_images(path, estimates, sides):
    """Check the image size of a latency.json; older files lack it, and are of square images."""
    (height, width), (timed, across) = sides, estimates.get("image_size") or sides[:1] * 2
    if (height, width) != (timed, across):
        raise ValueError(
            f"{path} has latencies on images of {timed}x{across} pixels, not {height}x{width}; "
            "delete it to time them"
        )


def _estimate(space, archs, times):
    choices = jax.tree.leaves(space.choices)
    features = np.concatenate([np.ones((len(times), 1)), *jax.tree.leaves(archs)], -1)
    kept = max(1, len(times) // 4)
    guess = features[:kept] @ optimize.nnls(features[kept:], times[kept:])[0]
    base, *options = optimize.nnls(features, times)[0].tolist()
    ends = np.cumsum([choice.num_options for choice in choices])[:-1]
    return {
        "num_archs": len(times),
        "error_percent": float(100 * np.median(np.abs(guess / times[:kept] - 1))),
        "spearman": float(stats.spearmanr(guess, times[:kept]).statistic),
        "base_ms": base,
        "options_ms": {
            choice.name: row.tolist() for choice, row in zip(choices, np.split(options, ends))
        },
    }
