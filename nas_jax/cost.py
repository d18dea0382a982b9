"""Parameters and multiply-adds of architectures, linear in their masks: nothing is built."""

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax import choices as choices_lib
from nas_jax.spaces import base


class Cost(NamedTuple):
    """`params` and `flops` (multiply-adds of kernels, for one image), int64 [...]."""

    params: np.ndarray
    flops: np.ndarray


def of(
    space: base.Space,
    archs: Any,
    *,
    filters: int = 16,
    image_size: int = 32,
    num_classes: int = 10,
    channels: int = 3,
) -> Cost:
    """Cost of one architecture (masks [k]) or of many (masks [..., k]).

    Only kernels have multiply-adds; batch norm, pooling and sums are not counted.
    """
    table = _table(space, filters, image_size, num_classes, channels)
    total = np.asarray(table[None])
    for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(archs)):
        on = (np.asarray(mask) != 0).astype(np.int64)
        total = total + on @ table[choice.name]
    return Cost(total[..., 0], total[..., 1])


def per_option(
    space: base.Space,
    *,
    filters: int = 16,
    image_size: int = 32,
    num_classes: int = 10,
    channels: int = 3,
) -> dict[str | None, Cost]:
    """Cost of each option of each Choice by its name, int64 [num_options] (over all cells).

    Key None: what every architecture has, int64 []. An architecture's cost is the sum of these.
    """
    table = _table(space, filters, image_size, num_classes, channels)
    return {name: Cost(rows[..., 0], rows[..., 1]) for name, rows in table.items()}


def extremes(space: base.Space, filters: int = 16) -> tuple[Any, Any]:
    """The legal architectures with the most and with the fewest parameters, masks [num_options].

    Of equal ones the last: a space lists an op that passes nothing on before one that does.
    """
    table = per_option(space, filters=filters, image_size=space.reduction)
    found = []
    for sign in (1, -1):
        decisions = [
            _last_argmax(sign * (choices_lib.subsets(choice) @ table[choice.name].params))
            for choice in jax.tree.leaves(space.choices)
        ]
        found.append(jax.device_get(space.from_decisions(np.asarray(decisions))))
    return tuple(found)


def _last_argmax(values):
    return len(values) - 1 - np.argmax(values[::-1])


@functools.cache
def _table(space, filters, image_size, num_classes, channels):
    """int64 [params, flops] of what all use (key None), and [num_options, 2] per Choice's name."""
    table = {c.name: np.zeros((c.num_options, 2), np.int64) for c in jax.tree.leaves(space.choices)}
    table[None] = np.zeros(2, np.int64)
    shapes = base.param_shapes(space, filters, image_size, num_classes, channels)
    for path, shape in shapes.items():
        size = math.prod(shape)
        is_kernel = len(shape) > 1
        flops = size * space.positions(path, image_size) if is_kernel else 0
        name, option = space.owner(path) or (None, slice(None))
        table[name][option] += np.asarray([size, flops])
    return table
