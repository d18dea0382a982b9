"""The record of one run: the objects that its config describes, built and checked once."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from nas_jax.costs.constraints import Constraints
from nas_jax.data.dataset import Data
from nas_jax.nn.network import NetworkOptions
from nas_jax.oneshot.training_variant import TrainingVariant
from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.spaces.tabular import Table
from nas_jax.storage import identity
from nas_jax.storage.identity import Identity
from nas_jax.strategies import Strategy

FEW_STEPS = 100  # in fewer a network alone learns little


def count_steps(train: ConfigDict, num_images: int) -> int:
    """Count the steps of a `train` section: `num_steps` if given, else `num_epochs`, rounded up."""
    return train.num_steps or math.ceil(train.num_epochs * num_images / train.batch_size)


class Turns(NamedTuple):
    """The turns between the steps of a supernet, of a strategy that draws masks or a population.

    Attributes:
      every: steps between two turns.
      rounds: of a turn; each evaluates candidates on the next batch of images.
      images: validation images that the batches are of.
    """

    every: int
    rounds: int
    images: int


def turns_of(config: ConfigDict, num_images: int) -> Turns:
    """Return the turns of a config; `num_images` are those that the supernet is trained on."""
    settings, sweep = config.supernet, config.sweep
    images = settings.strategy_images or sweep.num_images
    return Turns(
        every=settings.strategy_every or max(num_images // settings.train.batch_size, 1),
        rounds=settings.strategy_rounds or images // sweep.batch_size,
        images=images,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The input of training, search, stand-alone networks, reports and studies.

    `build.build_run` checks a config and makes its run.

    Attributes:
      config: every field, as `config.default` explains them.
      space: the search space.
      data: the images.
      network: options that all networks share.
      constraints: the costs of candidates, and their limits.
      strategy: the search strategy, of `sweep.strategy`.
      variant: what `supernet.variant` changes in the training of the supernet.
      table: published accuracies; None if the config names no table.
      workdir: the folder of the run.
    """

    config: ConfigDict
    space: Space
    data: Data
    network: NetworkOptions
    constraints: Constraints
    strategy: Strategy
    variant: TrainingVariant
    table: Table | None
    workdir: Path

    @property
    def supernet_steps(self) -> int:
        """The number of steps of the supernet's training."""
        return count_steps(self.config.supernet.train, self.data.num_images("train"))

    @property
    def turns(self) -> Turns:
        """The turns between the steps of the supernet, where it has any."""
        return turns_of(self.config, self.data.num_images("train"))

    @property
    def init_key(self) -> jax.Array:
        """The key [] of the first state of the strategy, or of a population."""
        return rng.stream(rng.key(self.config.sweep.seed), "init")

    def first_strategy_state(self) -> Any:
        """Make the first state of the strategy, on the host."""
        return jax.device_get(self.strategy.init(self.init_key))

    def supernet(self) -> nn.Module:
        """Make the supernet that is trained and evaluated; the training variant may wrap it."""
        net = self.plain_supernet(self.config.supernet.filters, "batch")
        return self.variant.wrap(net) if self.variant.wrap else net

    def plain_supernet(self, filters: int, bn: str) -> nn.Module:
        """Make a supernet as no variant changes it; arguments as of `Space.supernet`."""
        return self.space.supernet(
            num_classes=self.data.num_classes,
            filters=filters,
            bn=bn,
            **self.network._asdict(),
        )

    def supernet_identity(self, net: nn.Module) -> Identity:
        """Make the identity of the supernet's checkpoints; net: of `supernet`."""
        config = self.config.supernet
        notes = {"supernet.sampler": config.sampler}
        return identity.of(net, self.data, notes=notes, other_data=config.other_data)

    def standalone(
        self, arch: str, *, filters: int, bn: str, widths: tuple[int, ...] | None = None
    ) -> nn.Module:
        """Make the stand-alone network of one architecture; arguments as of `Space.standalone`."""
        return self.space.standalone(
            arch,
            num_classes=self.data.num_classes,
            filters=filters,
            widths=widths,
            bn=bn,
            **self.network._asdict(),
        )
