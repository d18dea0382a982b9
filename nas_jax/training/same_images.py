"""Gradients of a step whose images all go through several architectures.

Letters: A architectures, G ghost batches, n images of a ghost batch, K classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PREDICTIONS = "predictions"  # of a function's metrics, if there is a teacher


class Teacher(NamedTuple):
    """What an architecture learns from in place of labels.

    Attributes:
      teaches: bool []; False for the teacher itself, which learns from labels.
      predictions: float32 [G, n, K], of the teacher on the same images; no gradient flows to them.
    """

    teaches: jax.Array
    predictions: jax.Array


def mean(
    function: Callable[..., tuple[Any, dict[str, jax.Array]]],
    ghost_batches: tuple[Any, ...],
    masks: Any,
    *,
    at_once: int,
    predictions: jax.Array | None = None,
) -> tuple[Any, dict[str, jax.Array]]:
    """Call `function` for every architecture on every ghost batch; return the mean of its results.

    One architecture follows the other, `at_once` ghost batches at a time. So a step takes the
    memory of one architecture.

    Args:
      function: (*ghost batches, masks [G, k], teacher) -> (gradients, metrics), means over its G
        ghost batches. Its metrics have `PREDICTIONS`, [G, n, K], if it is given a teacher.
      ghost_batches: trees with a leading axis [G].
      masks: [A, k], of the architectures.
      at_once: ghost batches of a call; divides G.
      predictions: float32 zeros [G, n, K], where the first architecture is the teacher of the
        others (in-place distillation; Yu & Huang 2019, section 3.3); None: there is no teacher.
    """
    num_archs = jax.tree.leaves(masks)[0].shape[0]
    function = jax.jit(function)  # so that `eval_shape` and `scan` share one trace
    taught = predictions is not None
    lots, predictions = jax.tree.map(
        lambda x: x.reshape(-1, at_once, *x.shape[1:]), (ghost_batches, predictions)
    )
    num_lots = jax.tree.leaves(lots)[0].shape[0]

    def results(number, predictions):
        arch, lot = number // num_lots, number % num_lots
        of_arch = jax.tree.map(lambda m: jnp.broadcast_to(m[arch], (at_once, *m.shape[1:])), masks)
        teacher = Teacher(arch > 0, predictions[lot]) if taught else None
        grads, metrics = function(*jax.tree.map(lambda x: x[lot], lots), of_arch, teacher)
        if taught:
            new = jnp.where(teacher.teaches, teacher.predictions, metrics[PREDICTIONS])
            predictions = predictions.at[lot].set(new)
        metrics = {name: value for name, value in metrics.items() if name != PREDICTIONS}
        return (grads, metrics), predictions

    def add(carried, number):
        summands, predictions = results(number, carried[1])
        return (jax.tree.map(jnp.add, carried[0], summands), predictions), None

    numbers = jnp.arange(num_archs * num_lots, dtype=jnp.int32)
    shapes, _ = jax.eval_shape(results, numbers[0], predictions)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (total, _), _ = jax.lax.scan(add, (zero, predictions), numbers)
    return jax.tree.map(lambda x: x / len(numbers), total)
