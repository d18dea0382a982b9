"""Layouts: how the state of a training lies on the devices.

`Replicated` is the layout of one network, `population.Population` that of many.

Letters: M members of a population.
"""

import abc
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from nas_jax.data.dataset import Data
from nas_jax.runtime import distributed, rng
from nas_jax.training.hyperparameters import HyperParameters, Schedule
from nas_jax.training.train_step import TrainState

KEPT = 8  # compiled programs of a kind, for trainings whose steps are equal


class Turn(Protocol):
    """An action between two steps, every so many of them, such as a round of a strategy."""

    def is_due(self, step: int) -> bool:
        """Say whether the turn comes after step number `step`, counted from 1."""

    def __call__(
        self, step: int, state: TrainState, root: jax.Array
    ) -> tuple[TrainState, dict[str, float | jax.Array]]:
        """Return the next state and numbers for metrics.jsonl; `root` is the key of the run."""


class Layout(abc.ABC):
    """Where the state of a training lies on the devices, and how its step is compiled.

    Attributes:
      num_replicas: devices that share the batch of one network.
    """

    num_replicas: int

    @abc.abstractmethod
    def first_state(self, new: Callable[[int], TrainState], seed: int) -> TrainState:
        """Make the state before the first step; `new` makes that of one network from a seed."""

    @abc.abstractmethod
    def shape_of(self, one: TrainState) -> TrainState:
        """Return shapes and dtypes of the state, from those of one network's state."""

    @abc.abstractmethod
    def place(self, state: TrainState, seed: int) -> tuple[TrainState, jax.Array]:
        """Put a state and the root keys of `seed` on the devices."""

    @abc.abstractmethod
    def batches(self, data: Data, split: str, size: int, seed: int, start: int) -> Iterator[Any]:
        """Yield batches in the form that the compiled step takes; `start` steps are done."""

    @abc.abstractmethod
    def inputs_of(self, state: TrainState, batch: Any) -> tuple[TrainState, Any, jax.Array]:
        """Return the shapes of state, batch and root keys, as the compiled step takes them.

        Args:
          state: shapes as of `shape_of`.
          batch: shapes of all images and labels of a step, {"image", "label"}.
        """

    @abc.abstractmethod
    def compile(self, step: Callable) -> Callable:
        """Compile (state, batch, root, hyper) -> (state, metrics) from the step of one network.

        Args:
          step: `TrainStep` of one network.
        """

    @abc.abstractmethod
    def hyper(self, of_one: HyperParameters) -> HyperParameters:
        """Return the hyper-parameters in the form that the compiled step takes."""

    def directories(self, directory: Path) -> Sequence[Path]:
        """Return the folder of each network's metrics, in a run in `directory`."""
        return [directory]

    @abc.abstractmethod
    def begin(self, directory: Path, start: int, state: TrainState, schedule: Schedule) -> None:
        """Prepare for a run in `directory` that starts, or goes on, at step `start`."""


class Replicated(Layout):
    """The layout of one network: each device has a copy of the state, and a part of each batch.

    Args:
      devices: None for all.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self._devices = devices
        self.num_replicas = distributed.num_global(devices)

    def first_state(self, new, seed):
        """Make the state of one network."""
        return new(seed)

    def shape_of(self, one):
        """Return the shapes of one network's state as they are."""
        return one

    def place(self, state, seed):
        """Copy the state and the root key to each device."""
        return distributed.replicate((state, rng.key(seed)), self._devices)

    def batches(self, data, split, size, seed, start):
        """Yield batches that are split over the devices."""
        shard = distributed.process(self._devices)
        for batch in data.batches(split, size, seed=seed, start=start, shard=shard):
            yield distributed.shard(batch, distributed.num_local(self._devices))

    def inputs_of(self, state, batch):
        """Split the batch over the devices; the root key is one."""
        split = functools.partial(distributed.shard, num_devices=self.num_replicas)
        return state, jax.eval_shape(split, batch), jax.eval_shape(rng.key, 0)

    def compile(self, step):
        """Compile the step for each device; means are taken over all of them."""
        return _compiled(step, self._devices and tuple(self._devices))

    def hyper(self, of_one):
        """Return the hyper-parameters as they are."""
        return of_one

    def begin(self, directory, start, state, schedule):
        """Do nothing."""


@functools.lru_cache(KEPT)
def _compiled(step, devices):
    options = {"split": {"batch"}, "split_out": False, "donate": {"state"}}
    return distributed.pmap(step, devices=devices, **options)
