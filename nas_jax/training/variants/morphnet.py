"""MorphNet (Gordon et al., CVPR 2018) on the supernet: options not worth their cost vanish.

The supernet is trained with an L1 penalty on batch norm's scales, weighted by the cost of the
channels (section 4; see `nas_jax.costs.widths`). The sweep, with any strategy, then evaluates only
architectures of the options that are left. A strategy such as evolution may begin with others:
where it asks for hardly any of these, options that are left are drawn in place of the vanished.

Differs from the paper in:

- It is the supernet that shrinks, and options vanish from it, not channels. The paper shrinks one
  network, as `nas_jax.standalone.width_tuning` does after the search.
- An option vanishes as a whole, with channels that are left.
- Nothing is widened here.
"""

from collections.abc import Mapping

import jax
import numpy as np

from nas_jax.costs import widths
from nas_jax.oneshot.training_variant import OPTIONS, TrainingVariant, check_range
from nas_jax.spaces import Space
from nas_jax.spaces import params as params_lib
from nas_jax.storage import schemas


def make(
    space: Space,
    *,
    strength: float = 0.5,
    threshold: float = 0.01,
    min_share: float = 0.5,
    resource: str = "flops",
    latencies: Mapping[str | None, np.ndarray] | None = None,
) -> TrainingVariant:
    """Make a variant with MorphNet's penalty; architectures of vanished options are not searched.

    Args:
      space: the search space; its networks must have `layers`.
      strength: factor on the penalty, which is a share of the cost of all paths (`Widths.penalty`).
      threshold: a channel is gone if its scales are no larger; 0 or more.
      min_share: an option has vanished if it keeps this share of its channels or less; in [0, 1].
      resource: the cost, "flops" (multiply-adds), "params" or "latency_ms" (milliseconds).
      latencies: for "latency_ms", as of `latency_table.read`; a run gives those of
        `sweep.latency.table`.

    Raises: ValueError if an option is out of its range, the space has no widths, or there are no
      latencies for "latency_ms".
    """
    check_range(0, None, strength=strength, threshold=threshold)
    check_range(0, 1, min_share=min_share)
    if resource not in schemas.RESOURCES:
        allowed = " or ".join(map(repr, schemas.RESOURCES))
        raise ValueError(f"{OPTIONS}: resource={resource!r} must be {allowed}")
    if resource == "latency_ms" and latencies is None:
        raise ValueError(
            f"{OPTIONS}: resource='latency_ms' needs config.sweep.latency.table, such as the "
            "latency.json of a run with sweep.latency.num_archs"
        )
    try:
        space.layers(space.to_str(space.all_on()))
    except ValueError as error:
        field = "config.supernet.variant='morphnet'"
        raise ValueError(f"{field}: {error}; choose another variant") from error

    def penalty(params, usage):
        of_all = _of_all(space, params, resource, latencies)
        return strength * of_all.penalty(params, usage, threshold=threshold)

    @jax.jit
    def read_out(params):
        of_all = _of_all(space, params, resource, latencies)
        return of_all.without_vanished(params, threshold, min_share)

    return TrainingVariant(penalty=penalty, read_out=read_out)


def _of_all(space, params, resource, latencies):
    """Make the widths of the supernet; relative costs hardly depend on the size of images."""
    text, shapes = space.to_str(space.all_on()), params_lib.shapes_by_path(params)
    costs = {"resource": resource, "latencies": latencies}
    return widths.Widths(space, text, shapes, image_size=space.example_size, **costs)
