"""The weights of a finished training, read without building the training."""

import dataclasses
from pathlib import Path
from typing import Any

from nas_jax.storage import file_paths
from nas_jax.storage.checkpoints import Checkpoints, Weights
from nas_jax.storage.identity import Identity


@dataclasses.dataclass(frozen=True)
class Trained:
    """The weights that a training leaves in a folder.

    Attributes:
      directory: of the training.
      name: of the network, for errors.
      total: steps of the whole training.
      identity: of its checkpoints.
      params, sampler_state: trees of shapes and dtypes.
    """

    directory: str | Path
    name: str
    total: int
    identity: Identity
    params: Any
    sampler_state: Any

    def last(self, count: int = 1) -> list[Weights]:
        """Read the last checkpoints, the final one first.

        Raises: ValueError if the training is not finished, or has fewer checkpoints.
        """
        with self._checkpoints() as checkpoints:
            if checkpoints.latest != self.total:
                raise ValueError(
                    f"no {self.name} of {self.total} steps in {self.directory} (last checkpoint: "
                    f"{checkpoints.latest}); run --mode={self.name} first"
                )
            steps = checkpoints.steps[-count:]
            if len(steps) < count:
                raise ValueError(
                    f"{self.directory}/checkpoints has {len(steps)} checkpoints, not the {count} "
                    f"of sweep.num_checkpoints; {self.name}.train.keep_checkpoints and "
                    "checkpoint_every decide how many there are"
                )
            return [self._read(checkpoints, step) for step in reversed(steps)]

    def at(self, step: int) -> Weights:
        """Read the checkpoint of one step. Raises: ValueError if it is not there."""
        with self._checkpoints() as checkpoints:
            if step not in checkpoints.steps:
                raise ValueError(f"{self.directory}/checkpoints has none of step {step}")
            return self._read(checkpoints, step)

    def _checkpoints(self):
        directory = file_paths.local(self.directory, "directory")
        return Checkpoints(directory / "checkpoints", identity=self.identity)

    def _read(self, checkpoints, step):
        return checkpoints.weights(step, self.params, self.sampler_state)
