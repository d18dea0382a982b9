"""Settings of the process that XLA reads once: call `configure` before JAX starts.

Nothing here changes a result by more than rounding. What a user has set stays as it is.
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

# Of JAX's settings those that change the numbers of a seed, as the project's are drawn.
_DRAWN = {
    "jax_enable_x64": False,
    "jax_high_dynamic_range_gumbel": False,
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}


def configure() -> None:
    """Turn on JAX's persistent compilation cache; where there is only a CPU, suit XLA to it.

    The cache is `$JAX_COMPILATION_CACHE_DIR`, else nas_jax/ in the user's cache folder (a user
    without a home folder has none); a program that was compiled before, by any run, is read from
    it. For use outside `launch.py` (a notebook): call it before the first computation.
    """
    _set_cache_folder()
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    if only_cpu():
        os.environ["XLA_FLAGS"] = with_cpu_flags(os.environ.get("XLA_FLAGS", ""))


def _set_cache_folder():
    """Set where compiled programs are kept, in a folder that is the user's alone.

    A shared one, such as /tmp, will not do: what others put there would be run.
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

    Such a backend draws on a screen or in a notebook, which figures in files do not need. After
    the block it is what others find set, as if it had not been hidden.
    """
    hidden = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if hidden:
            os.environ["MPLBACKEND"] = hidden
            with contextlib.suppress(KeyError, ValueError):  # not imported; not installed
                sys.modules["matplotlib"].rcParams["backend"] = hidden


def start() -> None:
    """Start JAX, unless it runs already.

    Raises: ValueError that names the setting, where JAX is set to draw other numbers from a seed
      than the project does, or to use a platform that is not there.
    """
    import jax  # here: `configure` comes first

    for name, ours in _DRAWN.items():
        given = getattr(jax.config, name, ours)
        if given != ours:
            raise ValueError(
                f"{name.upper()}={given} changes the numbers that a seed gives: unset it, or call "
                f"jax.config.update({name!r}, {ours})"
            )
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


def only_cpu() -> bool:
    """Whether JAX will find no accelerator, told without starting it."""
    platforms = os.environ.get("JAX_PLATFORMS")
    return platforms == "cpu" if platforms else not _accelerators()


def _accelerators():
    """Names of JAX's installed plugins, whether or not they find a device."""
    found = [plugin.name for plugin in importlib.metadata.entry_points(group="jax_plugins")]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("libtpu")
        found.append("tpu")
    return found


def with_cpu_flags(flags: str) -> str:
    """`flags`, a value of XLA_FLAGS, with those for the CPU that it does not set itself."""
    missing = [f"{name}={value}" for name, value in _CPU_FLAGS.items() if name not in flags]
    return " ".join([*filter(None, [flags]), *missing])
