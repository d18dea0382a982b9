"""The folder of compiled programs that test runs share: what one compiled, the next one reads.

Processes may share it: JAX takes a program that it cannot read whole as missing, and compiles it.

JAX can keep a folder to a size (`jax_compilation_cache_max_size`), but only with the package
`filelock`. Before version 0.12 it then writes nothing any more once a process was killed at the
wrong moment. So old programs are removed here, before a run begins.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

from nas_jax.runtime import environment  # without JAX

MOST_BYTES, MOST_DAYS = 2 * 2**30, 30  # of all programs together; since one was last read
CHECKED = "checked"  # a file whose time is that of the last check for damage

# Programs of tests run for milliseconds: with them, XLA compiles them in less than half the time.
# Its former emitters of fusions are the quicker ones; versions that lack them ignore the option.
LITTLE_OPTIMISED = (
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)


def flags(*, num_devices: int) -> str:
    """Return XLA_FLAGS for tests with so many fake devices.

    They have what `launch.py` adds, so that its processes read the programs of tests.
    """
    own = [f"--xla_force_host_platform_device_count={num_devices}", *LITTLE_OPTIMISED]
    return environment.with_cpu_flags(" ".join(own))


def folder() -> str:
    """Return a folder in the user's cache folder, or a temporary one where there is none."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
        programs = caches / "nas_jax" / "tests"
        (programs / key()).mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # it is read-only; a container's user may be a bare number
        return tempfile.mkdtemp(prefix="nas_jax_cache_")
    remove_damaged(programs)
    remove_old(programs)
    return str(programs / key())


def key() -> str:
    """Name what decides a program: versions, and by a digest the flags of XLA."""
    versions = (f"{name}-{importlib.metadata.version(name)}" for name in ("jax", "jaxlib"))
    flags = hashlib.sha256(os.environ.get("XLA_FLAGS", "").encode()).hexdigest()[:8]
    return "_".join([*versions, sys.implementation.cache_tag, flags])


def remove_damaged(programs: Path) -> None:
    """Remove what killed processes left half-written since the last check; JAX would keep it."""
    checked = programs / CHECKED
    since = checked.stat().st_mtime_ns if checked.exists() else 0
    checked.touch()
    for path in programs.glob("*/*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another run removed it
            if path.stat().st_mtime_ns >= since and not _is_whole(path.read_bytes()):
                path.unlink()


def _is_whole(program):
    if program and program[0] != zlib.compress(b"")[0]:
        return True  # JAX compresses otherwise where `zstandard` is installed; that is not checked
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True


def remove_old(programs: Path) -> None:
    """Remove programs that were not read for long, and those read least recently beyond a size.

    A file system may note the first reading of a day alone, or only when a program was written.
    """
    used = []
    for path in programs.glob("*/*-cache"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            used.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    size, oldest = 0, time.time() - MOST_DAYS * 24 * 3600
    for read, its_size, path in sorted(used, reverse=True):
        size += its_size
        if size > MOST_BYTES or read < oldest:
            path.unlink(missing_ok=True)
    for emptied in programs.iterdir():
        if emptied.stat().st_mtime < oldest:  # no other run has just made it
            with contextlib.suppress(OSError):  # not empty, or no folder
                emptied.rmdir()
