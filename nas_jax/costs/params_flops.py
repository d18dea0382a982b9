"""Parameters and multiply-adds of architectures, linear in their masks: nothing is built."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax.spaces import base
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces.image_size import ImageSize, height_and_width


class Cost(NamedTuple):
    """`params` and `flops` (multiply-adds of kernels, for one image), int64 [...]."""

    params: np.ndarray
    flops: np.ndarray


def of(
    space: base.Space,
    archs: Any,
    *,
    filters: int = 16,
    image_size: ImageSize = 32,
    num_classes: int = 10,
    channels: int = 3,
) -> Cost:
    """Cost of one architecture (masks [k]) or of many (masks [..., k]).

    Only kernels have multiply-adds; batch norm, pooling and sums are not counted.

    Raises: ValueError if images of that size, (height, width) or the side of a square in pixels,
      cannot be reduced evenly.
    """
    size = height_and_width(image_size)
    found = total(space, _table(space, filters, size, num_classes, channels), archs)
    return Cost(found[..., 0], found[..., 1])


def total(space: base.Space, per_option: Mapping[str | None, np.ndarray], archs: Any) -> np.ndarray:
    """Sums [..., *c] of what the options of architectures (masks [..., k]) cost.

    `per_option` has [num_options, *c] by the name of a Choice, and what all have, [*c], by None.
    """
    found = np.asarray(per_option[None])
    for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(archs)):
        found = found + (np.asarray(mask) != 0).astype(np.int64) @ per_option[choice.name]
    return found


def least(space: base.Space, per_option: Mapping[str | None, np.ndarray]) -> float:
    """The least that a legal architecture costs, where `per_option` is as in `total`, c = ()."""
    return per_option[None] + sum(
        np.min(choices_lib.subsets(choice) @ per_option[choice.name])
        for choice in jax.tree.leaves(space.choices)
    )


def on_images(space: base.Space, archs: Any, filters: int, data: Any) -> Cost:
    """`of` for the images and classes of a data set."""
    return of(space, archs, filters=filters, **image_options(data))


def of_network(space: base.Space, params: Any, image_size: ImageSize) -> Cost:
    """Cost of the network that has these parameters, whatever its widths."""
    shapes = base.shapes_by_path(params)
    flops = (space.multiply_adds(path, shape, image_size) for path, shape in shapes.items())
    return Cost(np.asarray(sum(map(math.prod, shapes.values()))), np.asarray(sum(flops)))


def image_options(data: Any) -> dict[str, Any]:
    """What `of` and `per_option` ask about images, of a `data.Data`."""
    *size, channels = data.image_shape
    return {"image_size": tuple(size), "num_classes": data.num_classes, "channels": channels}


def per_option(
    space: base.Space,
    *,
    filters: int = 16,
    image_size: ImageSize = 32,
    num_classes: int = 10,
    channels: int = 3,
) -> dict[str | None, Cost]:
    """Cost of each option of each Choice by its name, int64 [num_options] (over all cells).

    Key None: what every architecture has, int64 []. An architecture's cost is the sum of these.
    Args and errors as of `of`.
    """
    size = height_and_width(image_size)
    table = _table(space, filters, size, num_classes, channels)
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
    shapes = base.param_shapes(space, filters, num_classes, channels)
    for path, shape in shapes.items():
        costs = math.prod(shape), space.multiply_adds(path, shape, image_size)
        name, option = space.owner(path) or (None, slice(None))
        table[name][option] += np.asarray(costs)
    return table
