"""What a folder holds at one moment, while others write in it.

Files appear by a rename or grow by lines (`json_files`), and checkpoints appear whole
(`checkpoints`). So hard links and sizes keep a moment, and take no time: what they name can be read
later, whatever becomes of the folder. It is then what a kill at that moment would have left.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PINS = ".mirror"  # the folder of the links
TRIES = 50
# Claims and locks, half-written files of `json_files` and of Orbax, our own folders.
LEFT_OUT = re.compile(
    r"\.claim|\.mirror|\.restoring|\..+\.\d+(\.new|\.old)?|.*\.orbax-checkpoint-tmp.*|.*\.lock",
    re.DOTALL,
)


class Form(NamedTuple):
    """By what a file is told from a changed one."""

    size: int
    mtime_ns: int
    inode: int


class Busy(OSError):
    """The folder changed each time while it was listed."""


def scan(directory: Path) -> dict[str, Form]:
    """List the files in a folder and in those below it, by their paths in it.

    Links to folders are not followed. What vanishes meanwhile is left out.
    """
    return dict(_files(directory, ""))


def _files(directory, prefix):
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if LEFT_OUT.fullmatch(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path, f"{prefix}{entry.name}/")
                elif entry.is_file():
                    of = entry.stat()
                    yield prefix + entry.name, Form(of.st_size, of.st_mtime_ns, of.st_ino)


@contextlib.contextmanager
def taken(
    directory: Path, has_it: Callable[[str, Form], bool]
) -> Iterator[dict[str, tuple[Form, Path | None]]]:
    """Keep a folder's files as they are at one moment, until the block ends.

    Args:
      directory: the folder.
      has_it: (path in the folder, form) -> whether the content is not needed.

    Yields: {path in the folder: (form, a file whose first `size` bytes are the content)}; None
      stands for a file whose content is not needed.

    Raises: Busy if files changed each time; the next time may do.
    """
    pins = directory / PINS
    shutil.rmtree(pins, ignore_errors=True)  # of a process that was killed
    pins.mkdir()
    try:
        yield _taken(directory, has_it, pins)
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def _taken(directory, has_it, pins):
    pinned = {}
    for number in range(TRIES):
        files = scan(directory)
        for name, form in files.items():
            if not has_it(name, form) and (name, form) not in pinned:
                path = _pin(directory / name, pins / str(len(pinned)))
                if path is not None:
                    pinned[name, form] = path
        if scan(directory) == files:  # so it was so for a moment between the two
            return {name: (form, pinned.get((name, form))) for name, form in files.items()}
        time.sleep(0.001 * number)
    raise Busy("files change faster than they can be listed")


def _pin(path, pin):
    """Link a file, or copy it where there are no links; None if it is gone."""
    path = os.path.realpath(path)  # the file itself, where it is a link
    try:
        try:
            os.link(path, pin)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, pin)
    except FileNotFoundError:
        return None
    return pin
