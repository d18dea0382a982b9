"""MorphNet (Gordon et al., CVPR 2018) on the supernet: options not worth their cost vanish.

The supernet is trained with an L1 penalty on batch norm's scales, weighted by the cost of the
channels. The sweep, with any strategy, then asks only for architectures of the options that are
left. Widths are tuned after the search, on stand-alone networks: see
`nas_jax.standalone.width_tuning`.
"""

import functools
from typing import Any

import jax
import numpy as np

from nas_jax.costs import widths
from nas_jax.spaces import Space, base, choices
from nas_jax.storage import schemas
from nas_jax.training.variants.base import OPTIONS, TrainingVariant, check_range


def make(
    space: Space,
    *,
    strength: float = 0.5,
    threshold: float = 0.01,
    min_share: float = 0.5,
    resource: str = "flops",
) -> TrainingVariant:
    """Make a variant with MorphNet's penalty; architectures of vanished options are not searched.

    Args:
      space: the search space; its networks must have `layers`.
      strength: factor on the penalty, which is a share of the cost of all paths (`Widths.penalty`).
      threshold: a channel is gone if its scales are no larger; 0 or more.
      min_share: an option has vanished if it keeps this share of its channels or less; in [0, 1].
      resource: the cost, "flops" (multiply-adds) or "params".

    Raises: ValueError if an option is out of its range, or the space has no widths.
    """
    check_range(0, None, strength=strength, threshold=threshold)
    check_range(0, 1, min_share=min_share)
    if resource not in schemas.RESOURCES:
        allowed = " or ".join(map(repr, schemas.RESOURCES))
        raise ValueError(f"{OPTIONS}: resource={resource!r} must be {allowed}")
    space.layers(space.to_str(space.all_on()))  # raises

    def penalty(params, usage):
        of_all = _of_all(space, params, resource)
        return strength * of_all.penalty(params, usage, threshold=threshold)

    @jax.jit
    def left(params):
        return _of_all(space, params, resource).without_vanished(params, threshold, min_share)

    def read_out(params):
        return functools.partial(is_left, space, jax.device_get(left(params)))

    return TrainingVariant(penalty=penalty, read_out=read_out)


def _of_all(space, params, resource):
    """Make the widths of the supernet; relative costs hardly depend on the size of images."""
    text, shapes = space.to_str(space.all_on()), base.shapes_by_path(params)
    return widths.Widths(space, text, shapes, image_size=space.reduction, resource=resource)


def is_left(space: Space, left: Any, archs: Any) -> np.ndarray:
    """Say whether architectures have only options that are left, bool [n].

    If the options that are left make no legal choice, all options of that Choice count as left.

    Args:
      space: the search space.
      left: masks bool [k] of the options that are left.
      archs: masks [n, k].
    """
    are_left = np.ones(len(jax.tree.leaves(archs)[0]), bool)
    trees = map(jax.tree.leaves, (space.choices, left, archs))
    for choice, mask, chosen in zip(*trees):
        if np.any(~np.any(choices.subsets(choice).astype(bool) & ~mask, -1)):
            are_left &= ~np.any(np.asarray(chosen).astype(bool) & ~mask, -1)
    return are_left
