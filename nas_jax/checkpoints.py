"""Checkpoints of a training run, by Orbax: a step's folder appears whole or not at all."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints under `directory`, a context manager (leaving it waits for the last save).

    Args:
      directory: made if it is not there.
      keep: how many of the latest to keep; None keeps all.
    """

    def __init__(self, directory: Path, keep: int | None = None):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            options=options,
            item_handlers=ocp.StandardCheckpointHandler(),  # so that item_metadata can be read
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The last step that was saved whole; None if there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """All steps that were saved whole, the last one last."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any) -> None:
        """Save a NamedTuple of arrays; returns before the files are written."""
        self._manager.save(step, args=ocp.args.StandardSave(state._asdict()))

    def restore(self, step: int, like: Any) -> Any:
        """The state of `step`, on this process's first device.

        Args:
          step: a step that was saved.
          like: a state of the same structure, shapes and dtypes; its values are not read.

        Raises: ValueError if the checkpoint is of another structure, size or dtype.
        """
        self._check(step, like)
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            like._asdict(),
        )
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return type(like)(**saved)

    def _check(self, step, like):
        # Before anything is read: Orbax would cast other dtypes without a word.
        saved = _forms(self._manager.item_metadata(step).tree)
        wanted = _forms(like._asdict())
        for name in sorted(saved.keys() | wanted.keys()):
            there, here = (forms.get(name, "absent") for forms in (saved, wanted))
            if there != here:
                raise ValueError(
                    f"checkpoint {self._manager.directory}/{step} does not fit this network "
                    f"(another space, width or optimiser?): {name} is {there} there and {here} here"
                )


def _forms(tree):
    """{'params.kernel': 'float32[3, 4]'} of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {n: f"{leaf.dtype}{list(leaf.shape)}" for n, (_, leaf) in zip(names, leaves)}
