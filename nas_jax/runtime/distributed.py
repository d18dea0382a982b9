"""Data parallelism by `jax.pmap`; no other module has any of it.

A replicated tree (a train state, variables) has no device axis. A tree that is split has a leading
axis [devices, ...].

A population's states are one tree with a leading axis [members, ...]. It lies on a grid of devices:
the rows share out the members, and the devices of a row share out a member's batch.

Several processes can join in one run (`initialize`). All of them run the same program, each on its
part of the data. One of them, the lead process, reads and writes the files. A computation on some
devices belongs to one process alone.
"""

import contextlib
import inspect
import itertools
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nas_jax.runtime import preemption

AXIS, MEMBER = "replica", "member"  # the axes of devices
WHOLE = ""  # stands for no axis


def pmap(
    function: Callable,
    *,
    split: Collection[str],
    split_out: Any,
    donate: Collection[str] = (),
    devices: Sequence[jax.Device] | None = None,
) -> Callable:
    """Compile `function` for all devices (or for `devices`).

    Args:
      function: called once per device; `mean` and `replica_index` work inside.
      split: names of its arguments that have a leading device axis; the others are replicated.
      split_out: whether the outputs have one, a bool or a tuple of bools.
      donate: names of the arguments whose memory may be reused.
      devices: None for all devices of all processes.

    Raises: ValueError if `function` has no argument of such a name.
    """
    names = _argument_names(function, {*split, *donate})
    return jax.pmap(
        function,
        AXIS,
        in_axes=tuple(0 if name in split else None for name in names),
        out_axes=jax.tree.map(lambda is_split: 0 if is_split else None, split_out),
        donate_argnums=_positions(names, donate),
        devices=devices,
    )


def _argument_names(function, used):
    """Return the names of a function's arguments, in order; all of `used` must be among them."""
    names = list(inspect.signature(function).parameters)
    if unknown := sorted(used - {*names}):
        raise ValueError(f"no argument {', '.join(unknown)}; there are {', '.join(names)}")
    return names


def _positions(names, chosen):
    return tuple(number for number, name in enumerate(names) if name in chosen)


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Put a copy of every leaf on each device of this process, so that no call has to."""
    mesh = Mesh(np.asarray(devices or jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def grid(members: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arrange devices as [rows, columns] for a population of `members`.

    The number of rows is the largest that divides the numbers of members and of devices.
    """
    available = np.asarray(devices or jax.devices())
    rows = math.gcd(members, available.size)
    return Mesh(available.reshape(rows, -1), (MEMBER, AXIS))


def spread(
    function: Callable,
    mesh: Mesh,
    *,
    split: Mapping[str, str],
    split_out: Any,
    donate: Collection[str] = (),
) -> Callable:
    """Compile `function` for a grid.

    It is called once per device; `mean` and `replica_index` inside it are those of the device's
    row.

    Args:
      function: takes and returns the parts of arrays that a device has.
      mesh: from `grid`.
      split: {name of an argument: over what its leading axis is split}, the rows (`MEMBER`) or the
        devices of a row (`AXIS`). Arguments that it lacks are not split.
      split_out: the same for the outputs, one or a tuple; `WHOLE` for an output that is not split.
      donate: names of the arguments whose memory may be reused.

    Raises: ValueError if `function` has no argument of such a name.
    """

    def specs(axes):
        return jax.tree.map(lambda axis: PartitionSpec(*axis.split()), axes)

    names = _argument_names(function, {*split, *donate})
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs(tuple(split.get(name, WHOLE) for name in names)),
        out_specs=specs(split_out),
        check_vma=False,  # each mean is one of equals where nothing is split
    )
    return jax.jit(mapped, donate_argnums=_positions(names, donate))


def of_members(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays [members, ...] on a grid."""
    return NamedSharding(mesh, PartitionSpec(MEMBER))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Lay arrays out over all devices; every process gives the same values."""

    def one(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                one(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(one, tree)


def all_members(tree: Any) -> Any:
    """Gather [members of this device, ...] to [members, ...], in a function given to `spread`."""
    return jax.lax.all_gather(tree, MEMBER, tiled=True)


def mean(tree: Any) -> Any:
    """Take the mean over devices, in a function given to `pmap` or `spread`.

    These are all devices in `pmap`, and the devices of a row in `spread`.
    """
    return jax.lax.pmean(tree, AXIS)


def replica_index() -> jax.Array:
    """Return the number of this device among those that `mean` is over, int32 []."""
    return jax.lax.axis_index(AXIS)


def shard(tree: Any, num_devices: int) -> Any:
    """Reshape every leaf from [N, ...] to [num_devices, N / num_devices, ...]."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), tree)


def part(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Return this process's part of every leaf: [N, ...] -> [local devices, N / devices, ...]."""
    index, count = process(devices)

    def part_of(x):
        size = len(x) // count
        return x[index * size : (index + 1) * size]

    return shard(jax.tree.map(part_of, tree), num_local(devices))


def whole(array: jax.Array, devices: Sequence[jax.Device] | None = None) -> np.ndarray:
    """Join the parts of all processes: [local devices, N / devices, ...] -> [N, ...].

    It is the inverse of `part`.
    """
    flat = np.asarray(array).reshape(-1, *array.shape[2:])
    if process(devices)[1] == 1:
        return flat
    return multihost_utils.process_allgather(flat, tiled=True)


def num_local(devices: Sequence[jax.Device] | None = None) -> int:
    """Count the devices of this process, or `devices` if they are given."""
    return len(devices) if devices else jax.local_device_count()


def num_global(devices: Sequence[jax.Device] | None = None) -> int:
    """Count the devices of all processes, or `devices` if they are given."""
    return len(devices) if devices else jax.device_count()


def filled(count: int) -> np.ndarray:
    """List the numbers of items, 0, 1, .., some again, until they are a power of two per device.

    So a function of any number of items, split over all devices, is compiled for few shapes.
    """
    size = num_global()
    while size < count:
        size *= 2
    return np.resize(np.arange(count), size)


def platform(devices: Sequence[jax.Device] | None = None) -> str:
    """Name the platform of the devices, such as "cpu"; None: that of this process."""
    return devices[0].platform if devices else jax.default_backend()


def process(devices: Sequence[jax.Device] | None = None) -> tuple[int, int]:
    """Return the number of this process and how many processes run on `devices`."""
    return (jax.process_index(), jax.process_count()) if devices is None else (0, 1)


# -- several processes ----------------------------------------------------------------------------


def initialize(timeout: int = 30) -> None:
    """Join the processes of a run: call it before JAX's first computation.

    `jax.distributed.initialize` finds the processes of TPU pods, SLURM, Open MPI and Kubernetes.
    Elsewhere set JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.

    Args:
      timeout: seconds after which a lost process ends the others.

    Raises: ValueError if the processes are not found.
    """
    names = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    numbers = [int(os.environ[name]) for name in names if name in os.environ]
    try:
        jax.distributed.initialize(
            num_processes=numbers[0] if len(numbers) == 2 else None,
            process_id=numbers[1] if len(numbers) == 2 else None,
            heartbeat_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed: {error}; set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID, or start it where JAX finds them (a TPU pod, SLURM)"
        ) from error


def is_joined() -> bool:
    """Say whether this process has joined others; unlike `is_lead`, it does not start JAX."""
    return jax.distributed.is_initialized()


def is_lead(devices: Sequence[jax.Device] | None = None) -> bool:
    """Say whether this process reads and writes the files of a run on `devices` (None: all)."""
    return process(devices)[0] == 0


def of_lead(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Return the lead process's values, at every process that runs on `devices`.

    Every process gives a tree of the same shapes.
    """
    if process(devices)[1] == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def fetch(tree: Any) -> Any:
    """Copy arrays to the host, as NumPy arrays.

    Arrays that are spread over processes are gathered, so every process must call it.
    """

    def one(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return jax.device_get(x)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, tree)


def barrier(name: str) -> None:
    """Wait for all processes: each can then read what the others wrote before."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def lead_first(name: str) -> Iterator[None]:
    """Let the lead process run the block first; the others then find what it wrote."""
    if not is_lead():
        barrier(name)
    yield
    if is_lead():
        barrier(name)


_sync_points = itertools.count()  # JAX wants growing numbers


def stop_requested(devices: Sequence[jax.Device] | None = None) -> bool:
    """Say whether a run on `devices` should stop; all processes get the same answer."""
    if process(devices)[1] == 1:
        return preemption.requested()
    return multihost_utils.reached_preemption_sync_point(next(_sync_points))
