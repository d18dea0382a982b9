"""Paths that users give, made paths of this machine."""

import os
import re
from pathlib import Path

from nas_jax import naming

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:/")  # a `Path` of gs://bucket is gs:/bucket


def local(given: str | os.PathLike, field: str) -> Path:
    """Return the path of a file or folder on this machine, with the home folder in place of `~`.

    Args:
      given: as the user wrote it, or a `Path` of that.
      field: what errors call it, such as "--workdir".

    Raises: ValueError if it is no path, empty, or an address (see `check`), or if the home folder
      is unknown.
    """
    if not isinstance(given, str | os.PathLike):
        raise ValueError(f"{field}={naming.shown(given)} must be a path")
    if given == "":
        raise ValueError(f"{field} is empty: give a path")
    check(given, field)
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{field}={os.fspath(given)!r}: the home folder is not known; give the whole path"
        ) from error


def check(given: str | os.PathLike, field: str) -> None:
    """Refuse an address, such as gs://bucket, before a local folder of that name is made.

    Files at such an address can be neither locked, appended to, nor renamed.

    Raises: ValueError that names the field and says what to do.
    """
    text = os.fspath(given)
    if "://" in text or _SCHEME.match(str(Path(text))):
        raise ValueError(
            f"{field}={text!r} is an address, not a path of this machine; mount that file system, "
            "and give the folder where it is mounted"
        )
