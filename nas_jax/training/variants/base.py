"""The record of a training variant: what it changes in the training of the supernet."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from nas_jax import naming
from nas_jax.training.population import Selection

OPTIONS = "config.supernet.variant_options"
check_range = functools.partial(naming.check_range, OPTIONS)


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
