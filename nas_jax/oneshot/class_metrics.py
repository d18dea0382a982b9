"""Metrics of predicted classes, by `config.metric`, from counts of each class.

Letters: n images, K classes.
"""

from typing import Any

import jax
import jax.numpy as jnp

METRICS = {  # in words
    "accuracy": "accuracy",  # share of the images that are right
    "balanced_accuracy": "balanced accuracy",  # mean share over the classes that have images
    "macro_f1": "macro F1",  # mean F1 over the classes that have images or are predicted
}
MINUS_LOSS = "minus_loss"  # minus the mean cross-entropy in nats, which only ranks candidates
SUMMED = ("accuracy", MINUS_LOSS)  # means over images; the others need counts of each class


def class_counts(predicted: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """Count the images of each class.

    Args:
      predicted: int [..., n].
      labels: int [n].
      num_classes: K.

    Returns: float32 [..., 3, K]: images that are right, that are predicted, and that there are.
    """
    is_predicted = jax.nn.one_hot(predicted, num_classes)
    is_there = jnp.broadcast_to(jax.nn.one_hot(labels, num_classes), is_predicted.shape)
    return jnp.sum(jnp.stack([is_predicted * is_there, is_predicted, is_there], -3), -2)


def of_counts(metric: str, counts: Any) -> Any:
    """Compute a metric, as scikit-learn defines it.

    Args:
      metric: one of `METRICS`.
      counts: [..., 3, K], as from `class_counts`, of NumPy or JAX; NaN for a failure.

    Returns: [...] in [0, 1]; NaN for a failure.
    """
    right, predicted, there = counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]
    if metric == "accuracy":
        return right.sum(-1) / there.sum(-1)
    if metric == "balanced_accuracy":
        return (right / there.clip(1)).sum(-1) / (there > 0).sum(-1).clip(1)
    both = predicted + there
    return (2 * right / both.clip(1)).sum(-1) / (both > 0).sum(-1).clip(1)


def of_answers(metric: str, answers: Any, num_images: int) -> Any:
    """Compute a metric of what `accuracy.correct` gives: sums [...] where it is `SUMMED`."""
    return answers / num_images if metric in SUMMED else of_counts(metric, answers)
