"""Data parallelism by `jax.pmap`, and nothing of it elsewhere.

A replicated tree (a train state, variables) has no device axis: it goes in and comes out with axes
None. What is split has a leading axis [devices, ...].
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

AXIS = "replica"


def pmap(
    function: Callable,
    *,
    split: Sequence[bool],
    split_out: Any,
    donate: Sequence[int] = (),
    devices: Sequence[jax.Device] | None = None,
) -> Callable:
    """Compile `function` for all devices (or for `devices`).

    Args:
      function: called once per device; `mean` and `replica_index` work inside.
      split: per argument, whether it has a leading device axis or is replicated.
      split_out: the same for the outputs, a bool or a tuple of bools.
      donate: numbers of the arguments whose memory may be reused.
      devices: None for all devices of all processes.
    """

    def axes(flags):
        return jax.tree.map(lambda flag: 0 if flag else None, flags)

    return jax.pmap(
        function,
        AXIS,
        in_axes=axes(tuple(split)),
        out_axes=axes(split_out),
        donate_argnums=tuple(donate),
        devices=devices,
    )


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Put a copy of every leaf on each device, once, so that no call has to."""
    mesh = jax.sharding.Mesh(np.asarray(devices or jax.devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def mean(tree: Any) -> Any:
    """Mean over the devices, inside a pmapped function."""
    return jax.lax.pmean(tree, AXIS)


def replica_index() -> jax.Array:
    """Number of this device among all, int32, inside a pmapped function."""
    return jax.lax.axis_index(AXIS)


def shard(tree: Any, num_devices: int) -> Any:
    """[N, ...] -> [num_devices, N / num_devices, ...] at every leaf."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), tree)


def num_local(devices: Sequence[jax.Device] | None = None) -> int:
    """Devices of this process (or of `devices`)."""
    return len(devices) if devices else jax.local_device_count()


def num_global(devices: Sequence[jax.Device] | None = None) -> int:
    """Devices of all processes (or of `devices`)."""
    return len(devices) if devices else jax.device_count()


def process() -> tuple[int, int]:
    """(number of this process, number of processes)."""
    return jax.process_index(), jax.process_count()
