"""The record of a training variant: what it changes in the training of the supernet."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

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
      init: (key) -> the first factors on the hyper-parameters of each member: {name: float32 [M]},
        with names of `HyperParameters`, such as "learning_rate".
      exploit: (key, factors, accuracies) -> (parents int32 [M], factors): the member whose state
        each member goes on with, and the next factors. The accuracies are float32 [M], NaN for a
        failure; with `recent` above 1 they are [M, recent].
      recent: accuracies of a member that `exploit` is given: those of the last turns, the newest
        last. What a member lacks is -inf.
      ready: turns between two selections; the others only evaluate.
      tunes: fields of the training's section that were named to be tuned; (): none was named.
    """

    size: int
    init: Callable[[Any], dict[str, Any]]
    exploit: Callable[[Any, Any, Any], tuple[Any, Any]]
    recent: int = 1
    ready: int = 1
    tunes: tuple[str, ...] = ()


class Relaxation(Protocol):
    """How masks are relaxed to real numbers that are learnt (DARTS).

    Equal ones share programs, so they compare by value, and are hashable.

    Attributes:
      sampler: mask sampler, see `path_samplers`; its masks may be any numbers, and have a gradient
        by the sampler state's "alphas".
      every: steps of the weights for one of the alphas.
    """

    sampler: Callable[..., Any]
    every: int

    def init(self, key: Any) -> Any:
        """Make the first sampler state, a pytree of arrays."""

    def update(self, state: Any, grads: Any, share: Any) -> Any:
        """Return the next sampler state.

        Args:
          state: the sampler state.
          grads: by its "alphas"; if one is not finite, what is learnt stays as it is.
          share: of the training that is done, float32 [] in [0, 1].
        """

    def select(self, state: Any) -> Any:
        """Return masks [k] of a legal architecture, the result that a sampler state holds."""


class TrainingVariant(NamedTuple):
    """The differences from the paper's training; None: no difference.

    Attributes:
      wrap: (supernet) -> the module that is trained and evaluated in its place.
      penalty: (params, usage) -> float32 [], added to the loss; `usage` as from `Space.usage`.
      read_out: (params) -> masks bool [k] of the options that the trained supernet leaves. That a
        candidate has no other options is a constraint of the sweep, whoever asks.
      relaxation: how masks are learnt, beside the weights; these masks take the place of those that
        `supernet.sampler` draws. The sweep's first candidate is the architecture that it selects.
      selection: how members are selected, where a population of supernets is trained.
      undecayed: scopes of the parameters that L2 does not fall on.
    """

    wrap: Callable[[nn.Module], nn.Module] | None = None
    penalty: Callable[[Any, Any], jax.Array] | None = None
    read_out: Callable[[Any], Any] | None = None
    selection: Selection | None = None
    relaxation: Relaxation | None = None
    undecayed: tuple[str, ...] = ()
