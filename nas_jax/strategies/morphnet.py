"""MorphNet (Gordon et al., CVPR 2018) on the one-shot model: it is trained with an L1 penalty on
batch norm's scales, weighted by what the channels cost, so that options that are not worth their
cost vanish.

The sweep asks for random architectures of the options that are left. The widths of an architecture
that is found are tuned afterwards, on its own network: see `nas_jax.standalone.width_tuning`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from nas_jax.costs import widths
from nas_jax.spaces import Space, base, choices
from nas_jax.storage import schemas
from nas_jax.strategies.base import Strategy, check_range


def make(
    space: Space,
    *,
    strength: float = 0.5,
    threshold: float = 0.01,
    min_share: float = 0.5,
    resource: str = "flops",
) -> Strategy:
    """Uniform over the architectures whose options did not vanish.

    Args:
      space: to search in; its networks must have `layers`.
      strength: of the penalty, which is a share of what all paths cost (`Widths.penalty`).
      threshold: a channel whose scales are no larger is gone.
      min_share: an option with such a share of its channels, or less, has vanished; in [0, 1].
      resource: "flops" or "params".

    State: masks bool [num_options] of the options that are left.

    Raises: ValueError if an option is out of its range, or the space has no widths.
    """
    check_range(0, None, strength=strength, threshold=threshold)
    check_range(0, 1, min_share=min_share)
    if resource not in schemas.RESOURCES:
        allowed = " or ".join(map(repr, schemas.RESOURCES))
        raise ValueError(f"config.sweep.options: resource={resource!r} must be {allowed}")
    space.layers(space.to_str(space.all_on()))  # raises

    def penalty(params, usage):
        of_all = _of_all(space, params, resource)
        return strength * of_all.penalty(params, usage, threshold=threshold)

    def read_out(params):
        return _of_all(space, params, resource).without_vanished(params, threshold, min_share)

    return Strategy(
        init=lambda key: jax.tree.map(lambda mask: jnp.asarray(mask, bool), space.all_on()),
        ask=functools.partial(_ask, space),
        tell=lambda state, archs, scores: state,
        penalty=penalty,
        read_out=jax.jit(read_out),
    )


def _of_all(space, params, resource):
    """Widths of the one-shot model; relative costs hardly depend on the size of images."""
    text, shapes = space.to_str(space.all_on()), base.shapes_by_path(params)
    return widths.Widths(space, text, shapes, image_size=space.reduction, resource=resource)


def _ask(space, key, left, n) -> Any:
    decisions = [
        _subsets(jax.random.fold_in(key, d), choice, mask, n)
        for d, (choice, mask) in enumerate(
            zip(jax.tree.leaves(space.choices), jax.tree.leaves(left))
        )
    ]
    return space.from_decisions(jnp.stack(decisions, -1))


def _subsets(key, choice, left, n):
    """Numbers int32 [n] of subsets of what is left; of all where a legal one needs more options."""
    possible = ~jnp.any(choices.subsets(choice).astype(bool) & ~left, -1)
    possible = possible | ~jnp.any(possible)
    return jax.random.categorical(key, jnp.where(possible, 0.0, -jnp.inf), shape=(n,))
