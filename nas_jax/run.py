"""One run: what its config stands for, built and checked once."""

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
    """What training, search, stand-alone networks, reports and studies work on.

    `build.build_run` makes one of a config, after it checked it.

    Attributes:
      config: every field, as `config.default` explains them.
      space: the search space.
      data: the images.
      network: how all networks compute.
      constraints: what candidates cost, and which may be asked for.
      strategy: who asks for candidates, of `sweep.strategy`.
      table: the published accuracies of `table`; None where none are named.
      workdir: the folder of its files.
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
        """Make the supernet with `supernet.filters`, which takes statistics of each ghost batch."""
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
