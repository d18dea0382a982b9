"""Parameters and multiply-adds of architectures, linear in the masks, without building networks."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax.spaces import base
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces import params as params_lib
from nas_jax.spaces.image_size import ImageSize


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
    """Compute the cost of one architecture (masks [k]) or of many (masks [..., k]).

    Only the multiply-adds of kernels count; those of batch norm, pooling and sums do not.

    Args:
      space: the search space.
      archs: masks.
      filters: F.
      image_size: pixels, (height, width) or the side of a square.
      num_classes: K.
      channels: of an image.

    Raises: ValueError if images of that size cannot be reduced evenly.
    """
    size = {"filters": filters, "num_classes": num_classes, "channels": channels}
    costs = total(space, params_lib.per_option(space, image_size, **size), archs)
    return Cost(costs[..., 0], costs[..., 1])


def total(space: base.Space, per_option: Mapping[str | None, np.ndarray], archs: Any) -> np.ndarray:
    """Add up the costs of architectures' options.

    Args:
      space: the search space.
      per_option: {name of a Choice: costs [num_options, *c]}, and by None the costs [*c] of the
        part that all architectures have.
      archs: masks [..., k].

    Returns: [..., *c].
    """
    sums = np.asarray(per_option[None])
    for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(archs)):
        sums = sums + (np.asarray(mask) != 0).astype(np.int64) @ per_option[choice.name]
    return sums


def least(space: base.Space, per_option: Mapping[str | None, np.ndarray]) -> float:
    """Return the least cost of a legal architecture; `per_option` is as in `total`, c = ()."""
    return per_option[None] + sum(
        np.min(choices_lib.subsets(choice) @ per_option[choice.name])
        for choice in jax.tree.leaves(space.choices)
    )


def on_images(space: base.Space, archs: Any, filters: int, data: Any) -> Cost:
    """Compute the cost as `of`, for the images and classes of a data set (`dataset.Data`)."""
    return of(space, archs, filters=filters, **image_options(data))


def of_network(
    space: base.Space, params: Any, image_size: ImageSize, *, text: str = "", filters: int = 16
) -> Cost:
    """Compute the cost of the network with these parameters, whatever its widths.

    Args:
      space: the search space.
      params: of the network.
      image_size: pixels, (height, width) or the side of a square.
      text: string of the architecture; needed if ops multiply activations by activations.
      filters: F, for those products.
    """
    shapes = params_lib.shapes_by_path(params)
    flops = sum(space.multiply_adds(path, shape, image_size) for path, shape in shapes.items())
    if text:
        flops += params_lib.without_kernel(space, text, image_size, filters)
    return Cost(np.asarray(sum(map(math.prod, shapes.values()))), np.asarray(flops))


def image_options(data: Any) -> dict[str, Any]:
    """Return the arguments of `of` and `per_option` about the images of a `dataset.Data`."""
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
    """Compute the costs of options; an architecture's cost is their sum.

    Arguments and errors are those of `of`.

    Returns:
      {name of a Choice: cost int64 [num_options], over all cells}, and by None the cost int64 [] of
      the part that all architectures have.
    """
    size = {"filters": filters, "num_classes": num_classes, "channels": channels}
    table = params_lib.per_option(space, image_size, **size)
    return {name: Cost(rows[..., 0], rows[..., 1]) for name, rows in table.items()}


def extremes(space: base.Space, filters: int = 16) -> tuple[Any, Any]:
    """Return the legal architectures with most and with fewest parameters, masks [num_options].

    Among equals the last subset counts: a space lists an op that passes nothing before the others.
    """
    table = per_option(space, filters=filters, image_size=space.example_size)
    archs = []
    for sign in (1, -1):
        decisions = [
            _last_argmax(sign * (choices_lib.subsets(choice) @ table[choice.name].params))
            for choice in jax.tree.leaves(space.choices)
        ]
        archs.append(jax.device_get(space.from_decisions(np.asarray(decisions))))
    return tuple(archs)


def _last_argmax(values):
    return len(values) - 1 - np.argmax(values[::-1])
