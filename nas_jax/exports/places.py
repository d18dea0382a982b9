"""The folder of an export appears whole, and takes the place of an earlier export alone."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nas_jax.exports import about, forms


def check(folder: Path) -> None:
    """Raise a ValueError if a folder is there that is neither empty nor of an earlier export."""
    if not folder.exists():
        return
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
    new, old = (place.with_name(f".{place.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        check(folder)
        if place.exists():
            place.rename(old)
        try:
            new.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise
    finally:
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)
