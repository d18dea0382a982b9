"""The record of a training variant: what it changes in the training of the supernet."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from nas_jax import naming

OPTIONS = "config.supernet.variant_options"
check_range = functools.partial(naming.check_range, OPTIONS)


@dataclasses.dataclass(frozen=True)
class Selection:
    """How a population is selected.

    Attributes:
      size: M.
      init: (key) -> the first factors on the hyper-parameters of each member: {"learning_rate",
        "l2", "r"}, float32 [M] each.
      exploit: (key, factors, accuracies [M]) -> (parents int32 [M], factors): the member whose
        state each member goes on with, and the next factors.
    """

    size: int
    init: Callable[[Any], dict[str, Any]]
    exploit: Callable[[Any, Any, Any], tuple[Any, Any]]


class TrainingVariant(NamedTuple):
    """The differences from the paper's training; None: no difference.

    Attributes:
      wrap: (supernet) -> the module that is trained and evaluated in its place.
      penalty: (params, usage) -> float32 [], added to the loss; `usage` as from `Space.usage`.
      read_out: (params) -> masks bool [k] of the options that the trained supernet leaves. That a
        candidate has no other options is a constraint of the sweep, whoever asks.
      selection: how members are selected, where a population of supernets is trained.
    """

    wrap: Callable[[nn.Module], nn.Module] | None = None
    penalty: Callable[[Any, Any], jax.Array] | None = None
    read_out: Callable[[Any], Any] | None = None
    selection: Selection | None = None
