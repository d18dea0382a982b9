"""Settings of the process, which XLA reads once: call `configure` before JAX starts.

These settings change results by no more than rounding. Settings of the user stay as they are.
"""

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

# XLA:CPU's loops over few channels (the innermost axis) are unrolled completely by LLVM before its
# vectoriser sees them, and come out as scalar code: up to eight times slower for 16 channels.
_CPU_FLAGS = {
    "--xla_cpu_prefer_vector_width": "512",  # where the processor has it
    "--xla_backend_extra_options": "-unroll-full-max-count=4",
}

_DEVICES = "--xla_force_host_platform_device_count"  # the user's number of devices of a CPU

# JAX's settings that change which numbers a seed gives, and the values that this project needs.
_RANDOM_NUMBERS = {
    "jax_enable_x64": False,
    "jax_high_dynamic_range_gumbel": False,
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}


def configure() -> None:
    """Turn on JAX's persistent compilation cache; where there is only a CPU, suit XLA to it.

    Programs that any run compiled are read from the cache. It lies in `$JAX_COMPILATION_CACHE_DIR`,
    else in nas_jax/ of the user's cache folder; a user without a home folder has none. Outside
    `launch.py`, as in a notebook, call it before the first computation.
    """
    _set_cache_folder()
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    if only_cpu():
        os.environ["XLA_FLAGS"] = with_cpu_flags(_flags())


def _set_cache_folder():
    """Choose a folder for compiled programs that belongs to the user alone.

    In a shared folder, such as /tmp, others could place programs that would then be run.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # a container's user may be a bare number
        logger.warning("no home folder: set JAX_COMPILATION_CACHE_DIR to keep compiled programs")
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(caches / "nas_jax")


@contextlib.contextmanager
def no_backend() -> Iterator[None]:
    """Hide $MPLBACKEND from `import matplotlib`, which fails where that backend is not installed.

    The backend draws on a screen or in a notebook; figures in files do not need it. After the block
    the variable and matplotlib's setting are as if nothing had been hidden.
    """
    hidden = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if hidden:
            os.environ["MPLBACKEND"] = hidden
            with contextlib.suppress(KeyError, ValueError):  # not imported; not installed
                sys.modules["matplotlib"].rcParams["backend"] = hidden


def start(cpu_devices: int = 1) -> None:
    """Start JAX, unless it runs already.

    Args:
      cpu_devices: devices into which JAX splits the CPU where there is no accelerator: a core each.
        A number that the user set (`jax_num_cpu_devices`, or in XLA_FLAGS) stays, and one of
        several processes has one device.

    Raises: ValueError that names the setting, if it changes the numbers that a seed gives, or if it
      asks for a platform that is missing.
    """
    import jax  # here: `configure` comes first

    for name, ours in _RANDOM_NUMBERS.items():
        given = getattr(jax.config, name, ours)
        if given != ours:
            raise ValueError(
                f"{name.upper()}={given} changes the numbers that a seed gives: unset it, or call "
                f"jax.config.update({name!r}, {ours})"
            )
    is_set = jax.config.jax_num_cpu_devices > 0 or _DEVICES in _flags()
    if only_cpu() and not is_set and not jax.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # it runs already
            jax.config.update("jax_num_cpu_devices", cpu_devices)
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        if not jax.config.jax_platforms:
            raise
        raise ValueError(
            f"JAX_PLATFORMS={jax.config.jax_platforms}: {str(error) or 'no such device is here'}; "
            f"installed are {', '.join(['cpu', *_accelerators()])}. Unset JAX_PLATFORMS, and JAX "
            "takes the best that works"
        ) from error


def num_cores() -> int:
    """Count the CPU's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flags():
    return os.environ.get("XLA_FLAGS", "")


def only_cpu() -> bool:
    """Say whether JAX will find no accelerator, without starting it."""
    platforms = os.environ.get("JAX_PLATFORMS")
    return platforms == "cpu" if platforms else not _accelerators()


def _accelerators():
    """List the names of JAX's installed plugins, whether or not they find a device."""
    names = [plugin.name for plugin in importlib.metadata.entry_points(group="jax_plugins")]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("libtpu")
        names.append("tpu")
    return names


def with_cpu_flags(flags: str) -> str:
    """Return `flags`, a value of XLA_FLAGS, with the flags for the CPU that it lacks."""
    missing = [f"{name}={value}" for name, value in _CPU_FLAGS.items() if name not in flags]
    return " ".join([*filter(None, [flags]), *missing])
