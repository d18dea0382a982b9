"""Accelerators that need not be there: their compilers run on any machine.

A TPU's compiler is the package `libtpu`, a GPU's the packages of `jax[cuda12]`; neither needs a
device or a driver. The extra `[aot]` installs the first. Peaks are the makers' own figures.
"""

import contextlib
import functools
import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache

from nas_jax import naming

_GIB = 2**30
GPU_SHARE = 0.75  # of a GPU's memory, which JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says so


class Target(NamedTuple):
    """An accelerator, and how many of them.

    Attributes:
      platform: "tpu" or "cuda".
      topology: arguments of `topologies.get_topology_desc`.
      kind: the name of one of them.
      memory: bytes that a program can have on a device.
      bandwidth: of that memory, bytes a second.
      flops: of products of bfloat16, operations a second.
      clock: cycles a second, of a TPU; 0 where the compiler estimates none.
      host: the target that one of several hosts has; "" if there is one host.
    """

    platform: str
    topology: dict[str, str]
    kind: str
    memory: float
    bandwidth: float
    flops: float
    clock: float = 0
    host: str = ""


_V5E = Target("tpu", {}, "TPU v5e", 15.75 * _GIB, 819e9, 197e12, 1.5e9)
_V4 = {"topology_name": "v4:2x2x1", "chip_config_name": "megacore"}  # two cores are one device
_V5P = {"topology_name": "v5p:2x2x1"}

TARGETS = {
    "v5e-4": _V5E._replace(topology={"topology_name": "v5e:2x2"}),
    "v5e-16": _V5E._replace(topology={"topology_name": "v5e:4x4"}, host="v5e-4"),
    "v4-8": Target("tpu", _V4, "TPU v4", 30.75 * _GIB, 1228e9, 275e12, 1.05e9),
    "v5p-8": Target("tpu", _V5P, "TPU v5p", 95.73 * _GIB, 2765e9, 459e12, 1.75e9),
    "h100": Target("cuda", {}, "NVIDIA H100", GPU_SHARE * 84_942_979_072, 3.35e12, 989e12),
}

# What XLA must know of a GPU, a `GpuTargetConfigProto` as text.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
"""


def of(name: str) -> Target:
    """Return the target of a name. Raises: ValueError that names the nearest, if there is none."""
    naming.check("--target", name, TARGETS)
    return TARGETS[name]


def devices(name: str) -> list[Any]:
    """Return the devices of a target, which programs can be compiled for, but not run on.

    Raises: ValueError if there is no such target, or its compiler is not installed.
    """
    target = of(name)
    if not is_installed(target.platform):
        raise ValueError(f"--target={name}: {_MISSING[target.platform]}")
    return list(_topology(name).devices)


def local_devices(name: str) -> list[Any]:
    """Return the devices of one host of a target, as `devices` does.

    They are of another topology: a compiler takes no part of one.
    """
    return devices(of(name).host or name)


_PACKAGES = {"tpu": "libtpu", "cuda": "jax-cuda12-pjrt"}
_MISSING = {
    "tpu": "its compiler is not installed; pip install 'nas_jax[aot]'",
    "cuda": "its compiler is not installed; pip install 'jax[cuda12]', which needs no GPU",
}


def is_installed(platform: str) -> bool:
    """Say whether the compiler of a platform, "tpu" or "cuda", is installed."""
    try:
        importlib.metadata.version(_PACKAGES[platform])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def _topology(name):
    from jax.experimental import topologies

    target = TARGETS[name]
    if target.platform == "tpu":  # libtpu would ask a server which machine of which slice this is
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        # It touches no device, so it may run beside a process that has one.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        return topologies.get_topology_desc(platform="tpu", **target.topology)
    jax.devices()  # which finds the plug-ins
    one = {"topology_name": "", "topology": "1x1x1", "target_config": _H100}
    return topologies.get_topology_desc(platform="cuda", **one)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Compile for targets in the block, which should come before JAX's first computation.

    JAX itself runs on the CPU, so that no missing device is waited for; if the block starts it, it
    stays there until the process ends. Its cache of programs is left out: it cannot read those of a
    device that is not there.
    """
    platforms, kept = jax.config.jax_platforms, jax.config.jax_enable_compilation_cache
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the setting once
    try:
        yield
    finally:
        jax.config.update("jax_platforms", platforms)
        jax.config.update("jax_enable_compilation_cache", kept)
        compilation_cache.reset_cache()
