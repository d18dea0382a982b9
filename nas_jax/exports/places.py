"""The folder of an export appears whole, and takes the place of an earlier export alone.

Beside it lie `.NAME.HOST.PID.new`, which is being written, and for a moment `.NAME.HOST.PID.old`,
the earlier export. A process that is killed leaves them; the next export of that name removes them.
"""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from nas_jax.exports import about, forms


def check(folder: Path) -> None:
    """Refuse the place of an export.

    Raises: ValueError if a folder is there that is neither empty nor of an earlier export, or that
      this process works in, which would lose it.
    """
    if not folder.exists():
        return
    here = Path.cwd()
    if folder.resolve() in (here, *here.parents):
        raise ValueError(
            f"folder={folder} is the current folder, or above it, and would be replaced under "
            "whoever works there: give another folder, such as a new one in it"
        )
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name not in (about.FILE, *forms.ALL, "__pycache__")]
    if names and (others or not about.is_one(folder)):
        raise ValueError(
            f"{folder} has other files, such as {(others or names)[0]}: give another folder"
        )


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder`, which takes its place at the end; after an error, never.

    Raises: ValueError as of `check`; OSError.
    """
    check(folder)
    place = folder.resolve()
    beside = f".{place.name}.{platform.node()}.{os.getpid()}"
    new, old = (place.with_name(f"{beside}.{what}") for what in ("new", "old"))
    _remove_dead(place, "new")
    new.mkdir(parents=True)
    try:
        yield new
        check(folder)
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
            place.rename(old)
        try:
            new.rename(place)
        except BaseException:
            if old.exists():
                old.rename(place)
            raise
        _remove_dead(place, "old")  # not before: it may be the only export that is whole
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_dead(place, what):
    """Remove what processes of this host left beside a place, unless they live.

    This process does not count: it is done with it, or an earlier one had its number.
    """
    first, last = f".{place.name}.{platform.node()}.", f".{what}"
    for path in place.parent.glob(f".*.{what}"):
        pid = path.name.removeprefix(first).removesuffix(last)
        if path.name == f"{first}{pid}{last}" and pid.isdecimal() and not _lives(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _lives(pid):
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no number of a process
        pass
    return True
