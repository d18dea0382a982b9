"""Scaling of an architecture to a budget, by its width and its depth (paper, section 4.4)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from nas_jax.costs import params_flops
from nas_jax.spaces import Space
from nas_jax.spaces.image_size import ImageSize


class Scaled(NamedTuple):
    """A depth and a width of an architecture, and the cost of its network.

    Attributes:
      space: the space of that depth.
      filters: F.
      params: number of parameters.
      flops: multiply-adds of an image.
    """

    space: Space
    filters: int
    params: int
    flops: int


def fit(
    space: Space,
    text: str,
    *,
    max_params: float | None = None,
    max_flops: float | None = None,
    depths: Sequence[int] | None = None,
    multiple: int = 1,
    image_size: ImageSize = 32,
    num_classes: int = 10,
    channels: int = 3,
) -> list[Scaled]:
    """Find the widest network within the budget, for each depth.

    Args:
      space: the space of the architecture.
      text: its canonical string.
      max_params: budget of parameters; None: no limit.
      max_flops: budget of multiply-adds of an image; None: no limit.
      depths: cells of a stage (see `Space.deepened`); None: the depth of `space`.
      multiple: of which F is a multiple.
      image_size: pixels, (height, width) or the side of a square.
      num_classes: K.
      channels: of an image.

    Returns:
      One `Scaled` per depth.

    Raises:
      ValueError: there is no finite budget, or the narrowest network is above it; `depths` is
        empty; `multiple` is below 1; images of that size cannot be reduced evenly.
    """
    budgets = [budget for budget in (max_params, max_flops) if budget is not None]
    if not budgets or not all(map(math.isfinite, budgets)):
        raise ValueError("give max_params or max_flops, a number")
    if depths is not None and not len(depths):
        raise ValueError("depths is empty: name one or more, or None for the depth as found")
    if multiple < 1:
        raise ValueError(f"multiple={multiple} must be 1 or more")
    spaces = [space] if depths is None else [space.deepened(depth) for depth in depths]
    size = {"image_size": image_size, "num_classes": num_classes, "channels": channels}
    return [_widest(each, text, max_params, max_flops, multiple, size) for each in spaces]


def _widest(space, text, max_params, max_flops, multiple, size):
    arch = space.from_str(text)

    def exact(filters):
        costs = params_flops.of(space, arch, filters=filters, **size)
        return int(costs.params), int(costs.flops)

    def fits(costs):
        limits = zip(costs, (max_params, max_flops))
        return all(budget is None or cost <= budget for cost, budget in limits)

    # Costs are mostly a polynomial in F. Those of an op that rounds its widths are not: then each
    # width is traced.
    for cost_at in filter(None, (_in_filters(space, arch, size), exact)):
        number = _most(lambda n, cost_at=cost_at: fits(cost_at(n * multiple)))
        filters = max(number, 1) * multiple
        if cost_at(filters) == exact(filters):
            break
    if not number:
        params, flops = exact(multiple)
        raise ValueError(
            f"with F = {multiple} the network has {params:,} parameters and {flops:,} "
            "multiply-adds already, more than the budget"
        )
    return Scaled(space, filters, *exact(filters))


def _most(fits):
    """Return the largest number that fits, 0 if 1 does not; ends, since costs grow with F."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:  # it fits at low and not at high
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _in_filters(space, arch, size):
    """Return F -> (params, flops); None if costs fall as F grows, so they are no polynomial.

    A kernel's inputs and outputs are both multiples of F, so costs are polynomials of degree two in
    F. Three widths determine them.
    """
    at = [params_flops.of(space, arch, filters=filters, **size) for filters in (1, 2, 3)]
    newton = [(int(a), int(b - a), int(c - 2 * b + a)) for a, b, c in zip(*at)]
    if min(slope for _, *slopes in newton for slope in slopes) < 0:
        return None

    def cost_at(filters):
        x = filters - 1
        return tuple(f + d * x + dd * (x * (x - 1) // 2) for f, d, dd in newton)

    return cost_at
