"""The accuracy of stand-alone networks, and their result.json."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.costs import params_flops, widths
from nas_jax.run import Run
from nas_jax.storage import json_files


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
      batches: (images uint8 [n, H, W, C], labels int32 [n]), read one at a time.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.

    Raises: ValueError if the network takes other statistics.
    """
    if net.bn != "running":
        raise ValueError(f"bn={net.bn!r} takes statistics of the images: evaluate with 'running'")
    predict = jax.jit(lambda variables, x: jnp.argmax(net.apply(variables, prepare(x)), -1))
    return float(accuracies(lambda images: predict(variables, images), batches))


def accuracies(
    predict: Callable[[np.ndarray], Any], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the accuracies [...] in [0, 1] of one or more networks.

    Args:
      predict: images uint8 [n, H, W, C] -> the most likely labels, int32 [..., n]. An image's label
        must not depend on the other images, since a smaller batch is padded to the size of the
        first.
      batches: (images, labels int32 [n]), read one at a time.
    """
    correct, total, size = 0, 0, 0
    for images, labels in batches:
        size = size or len(images)
        padded = np.pad(images, [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1))
        predicted = np.asarray(predict(padded))[..., : len(images)]
        correct = correct + np.sum(predicted == labels, -1)
        total += len(images)
    return correct / total


def is_done(directory: Path) -> bool:
    """Say whether the network of this folder is trained and evaluated."""
    return (directory / "result.json").exists()


def write_result(
    run: Run,
    protocol: str,
    directory: Path,
    job: tuple[str, int, int],
    *,
    params: Any,
    accuracy: float,
    epochs: float,
    seconds: float,
) -> None:
    """Write the result.json of a network.

    Args:
      run: the run.
      protocol: "short", whose accuracy is on validation images, or "final", on test images.
      directory: of the network.
      job: its architecture, filters and seed.
      params: its parameters.
      accuracy: in [0, 1].
      epochs: how often the training saw each image.
      seconds: how long training and evaluation took; of a lot, its part.
    """
    arch, filters, seed = job
    size, text = run.data.image_shape[:2], widths.split(arch)[0]
    costs = params_flops.of_network(run.space, params, size, text=text, filters=filters)
    final = protocol == "final"
    result = {
        "arch": arch,
        "filters": filters,
        "seed": seed,
        "params": int(costs.params),
        "flops": int(costs.flops),
        "epochs": round(epochs, 3),
        "valid_accuracy": None if final else accuracy,
        "test_accuracy": accuracy if final else None,
        "seconds": round(seconds, 1),
    }
    json_files.write_json(directory / "result.json", result)
