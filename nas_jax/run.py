"""The record of one run: the objects that its config describes, built and checked once."""

import dataclasses
from pathlib import Path

import flax.linen as nn
from ml_collections import ConfigDict

from nas_jax.costs.constraints import Constraints
from nas_jax.data.dataset import Data
from nas_jax.nn.network import NetworkOptions
from nas_jax.spaces import Space
from nas_jax.spaces.tabular import Table
from nas_jax.strategies import Strategy


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
      table: published accuracies; None if the config names no table.
      workdir: the folder of the run.
    """

    config: ConfigDict
    space: Space
    data: Data
    network: NetworkOptions
    constraints: Constraints
    strategy: Strategy
    table: Table | None
    workdir: Path

    def supernet(self) -> nn.Module:
        """Make the supernet with `supernet.filters` and statistics of each ghost batch."""
        return self.space.supernet(
            num_classes=self.data.num_classes,
            filters=self.config.supernet.filters,
            bn="batch",
            **self.network._asdict(),
        )

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
