"""How a training's state lies on the devices: `Replicated` here, `population.Population` for many.

Letters: M members of a population.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from nas_jax.data.dataset import Data
from nas_jax.runtime import distributed, rng
from nas_jax.training.hyperparameters import HyperParameters, Schedule
from nas_jax.training.train_step import TrainState


class Turn(Protocol):
    """What happens between two steps, now and then."""

    def is_due(self, step: int) -> bool:
        """Say whether it happens after step number `step`, counted from 1."""

    def __call__(
        self, step: int, state: TrainState, root: jax.Array
    ) -> tuple[TrainState, dict[str, float]]:
        """Return the state to go on with, and what metrics.jsonl says of it; `root`: run's key."""


class Layout(abc.ABC):
    """Where the states of what is trained together lie, and how a step of it is compiled.

    Attributes:
      num_replicas: devices that share the batch of one network.
    """

    num_replicas: int

    @abc.abstractmethod
    def first_state(self, new: Callable[[int], TrainState], seed: int) -> TrainState:
        """Make the state before the first step; `new` makes that of one network from its seed."""

    @abc.abstractmethod
    def shape_of(self, one: TrainState) -> TrainState:
        """Return shapes and dtypes of the state, from those of one network's."""

    @abc.abstractmethod
    def place(self, state: TrainState, seed: int) -> tuple[TrainState, jax.Array]:
        """Put a state and the root keys on the devices."""

    @abc.abstractmethod
    def batches(self, data: Data, split: str, size: int, seed: int, start: int) -> Iterator[Any]:
        """Yield batches as the compiled step wants them, from step number `start` on."""

    @abc.abstractmethod
    def compile(self, step: Callable, one_at_a_time: bool) -> Callable:
        """Compile (state, batch, root, hyper) -> (state, metrics) from the step of one network.

        `one_at_a_time`: whether networks of one device take turns.
        """

    @abc.abstractmethod
    def hyper(self, of_one: HyperParameters) -> HyperParameters:
        """Return the hyper-parameters as the compiled step wants them."""

    @abc.abstractmethod
    def begin(self, directory: Path, start: int, state: TrainState, schedule: Schedule) -> None:
        """Take note of a run in `directory` that starts, or goes on, at step `start`."""


class Replicated(Layout):
    """One network: every device (None: all of them) has a copy, and its part of each batch."""

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self._devices = devices
        self.num_replicas = distributed.num_global(devices)

    def first_state(self, new, seed):
        """See `Layout`."""
        return new(seed)

    def shape_of(self, one):
        """See `Layout`."""
        return one

    def place(self, state, seed):
        """See `Layout`."""
        return distributed.replicate((state, rng.key(seed)), self._devices)

    def batches(self, data, split, size, seed, start):
        """See `Layout`."""
        shard = distributed.process(self._devices)
        for batch in data.batches(split, size, seed=seed, start=start, shard=shard):
            yield distributed.shard(batch, distributed.num_local(self._devices))

    def compile(self, step, one_at_a_time):
        """See `Layout`."""
        return distributed.pmap(
            step,
            split={"batch"},
            split_out=False,
            donate={"state"},
            devices=self._devices,
        )

    def hyper(self, of_one):
        """See `Layout`."""
        return of_one

    def begin(self, directory, start, state, schedule):
        """See `Layout`."""
