"""Data parallelism by `jax.pmap`, and nothing of it elsewhere.

A replicated tree (a train state, variables) has no device axis: it goes in and comes out with axes
None. What is split has a leading axis [devices, ...].

A population's states are one tree with a leading axis [members, ...], spread over a grid of
devices: rows share the members, and the devices of a row share a member's batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS, MEMBER, WHOLE = "replica", "member", ""  # the axes of devices, and none


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
    mesh = Mesh(np.asarray(devices or jax.devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def grid(members: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices [rows, columns] for a population: as many rows as divide members and devices."""
    found = np.asarray(devices or jax.devices())
    rows = math.gcd(members, found.size)
    return Mesh(found.reshape(rows, -1), (MEMBER, AXIS))


def spread(
    function: Callable,
    mesh: Mesh,
    *,
    split: Sequence[str],
    split_out: Any,
    donate: Sequence[int] = (),
) -> Callable:
    """Compile `function` for a grid: it is called once per device, and `mean` and `replica_index`
    are those of its row.

    Args:
      function: gets and returns what a device has of each array.
      mesh: from `grid`.
      split: per argument, whether its leading axis is split over rows (`MEMBER`), over the devices
        of a row (`AXIS`), or not at all (`WHOLE`).
      split_out: the same for the outputs, one or a tuple.
      donate: numbers of the arguments whose memory may be reused.
    """

    def specs(axes):
        return jax.tree.map(lambda axis: PartitionSpec(*axis.split()), axes)

    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs(tuple(split)),
        out_specs=specs(split_out),
        check_vma=False,  # each mean is one of equals where nothing is split
    )
    return jax.jit(mapped, donate_argnums=tuple(donate))


def of_members(mesh: Mesh) -> NamedSharding:
    """Where arrays [members, ...] lie in a grid."""
    return NamedSharding(mesh, PartitionSpec(MEMBER))


def all_members(tree: Any) -> Any:
    """[members of this device, ...] -> [members, ...], inside a function of `spread`."""
    return jax.lax.all_gather(tree, MEMBER, tiled=True)


def mean(tree: Any) -> Any:
    """Mean over the devices, inside a function of `pmap` (all) or `spread` (those of a row)."""
    return jax.lax.pmean(tree, AXIS)


def replica_index() -> jax.Array:
    """Number of this device among those of `mean`, int32."""
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
