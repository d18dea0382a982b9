"""The accuracy of stand-alone networks, other metrics, and their result.json."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.costs import params_flops, widths
from nas_jax.data.dataset import Data
from nas_jax.oneshot import class_metrics
from nas_jax.run import Run
from nas_jax.runtime import events
from nas_jax.storage import identity, json_files
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training.train_step import TrainState


def accuracy(
    net: nn.Module,
    variables: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    prepare: Callable[[jax.Array], jax.Array],
) -> float:
    """Return the accuracy in [0, 1] of a stand-alone network; arguments as of `class_counts`."""
    counts = class_counts(net, variables, batches, prepare=prepare)
    return float(class_metrics.of_counts("accuracy", counts))


def class_counts(
    net: nn.Module,
    variables: Any,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    prepare: Callable[[jax.Array], jax.Array],
) -> np.ndarray:
    """Count the images of each class for a stand-alone network with running statistics.

    Args:
      net: module that `Space.standalone` made with bn="running".
      variables: its params and batch_stats.
      batches: (images uint8 [n, H, W, C], labels int32 [n]), read one at a time.
      prepare: images uint8 [n, H, W, C] -> float32, standardised.

    Returns: int64 [3, K], as of `class_metrics.class_counts`.

    Raises: ValueError if the network takes other statistics.
    """
    if net.bn != "running":
        raise ValueError(f"bn={net.bn!r} takes statistics of the images: evaluate with 'running'")
    predict = jax.jit(lambda variables, x: jnp.argmax(net.apply(variables, prepare(x)), -1))
    return counts_of_each(lambda images: predict(variables, images), batches, net.num_classes)


def counts_of_each(
    predict: Callable[[np.ndarray], Any],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
) -> np.ndarray:
    """Count the images of each class for one or more networks.

    Args:
      predict: images uint8 [n, H, W, C] -> the most likely labels, int32 [..., n]. An image's label
        must not depend on the other images, since a smaller batch is padded to the size of the
        first.
      batches: (images, labels int32 [n]), read one at a time.
      num_classes: K.

    Returns: int64 [..., 3, K], as of `class_metrics.class_counts`.
    """
    counts, size = 0, 0

    def of_class(labels):
        return np.bincount(labels, minlength=num_classes)

    for images, labels in batches:
        size = size or len(images)
        padded = np.pad(images, [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1))
        predicted = np.asarray(predict(padded))[..., : len(images)]
        there = of_class(labels)
        rows = [
            [of_class(row[row == labels]), of_class(row), there]
            for row in predicted.reshape(-1, len(images))
        ]
        counts = counts + np.asarray(rows).reshape(*predicted.shape[:-1], 3, num_classes)
    return counts


def in_words(run: Run, counts: np.ndarray) -> str:
    """Say the metric of a network, "accuracy 93.10 %", from its counts [3, K]."""
    metric = run.config.metric
    value = 100 * class_metrics.of_counts(metric, counts)
    return f"{class_metrics.METRICS[metric]} {value:.2f} %"


def is_done(directory: Path) -> bool:
    """Say whether the network of this folder is trained and evaluated."""
    return (directory / "result.json").exists()


def keep_last(directory: Path, net: nn.Module, data: Data, step: int, state: TrainState) -> None:
    """Write a network's last state as if it had been trained alone, in place of older ones.

    Args:
      directory: of the network.
      net: the module.
      data: images.
      step: the last.
      state: of the network, on the host.
    """
    path = directory / "checkpoints"
    shutil.rmtree(path, ignore_errors=True)  # Orbax keeps a step that is there
    with Checkpoints(path, identity=identity.of(net, data)) as checkpoints:
        checkpoints.save(step, state)


def write_result(
    run: Run,
    protocol: str,
    directory: Path,
    job: tuple[str, int, int],
    *,
    params: Any,
    counts: np.ndarray,
    epochs: float,
    seconds: float,
    warm: bool = False,
    population: int = 1,
) -> None:
    """Write the result.json of a network, with its accuracy and, if it is another, the metric.

    Args:
      run: the run.
      protocol: "short", which is judged by validation images, or "final", by test images.
      directory: of the network.
      job: its architecture, filters and seed.
      params: its parameters.
      counts: of each class, [3, K], as of `class_metrics.class_counts`.
      epochs: how often the training saw each image.
      seconds: how long training and evaluation took; of a lot, its part.
      warm: whether it began with the weights of a supernet.
      population: members of which it is the best; 1: it was trained by itself.
    """
    arch, filters, seed = job
    size, text = run.data.image_shape[:2], widths.split(arch)[0]
    costs = params_flops.of_network(run.space, params, size, text=text, filters=filters)
    final, accuracy = protocol == "final", float(class_metrics.of_counts("accuracy", counts))
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
        "dtype": run.network.dtype.name,  # of activations, at which the accuracy was measured
    }
    if (metric := run.config.metric) != "accuracy":
        split = "test" if final else "valid"
        result[f"{split}_{metric}"] = float(class_metrics.of_counts(metric, counts))
    if warm:
        result["init"] = "supernet"
    if population > 1:
        result["population"] = population
    json_files.write_json(directory / "result.json", result)
    events.emit("network", directory, result)
