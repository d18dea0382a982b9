"""Files at an address, as fsspec reaches them: gs://bucket/path, s3://.., memory://.., a folder.

What a store keeps it keeps whole: an object appears in one write, or not at all.
"""

import contextlib
import posixpath
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nas_jax.storage import file_paths

_CHUNK = 4 * 2**20


class ObjectStore:
    """The files at an address. Names are paths below it.

    Args:
      field: what errors call the address, such as "--mirror".
      url: the address; without "://", a folder of this machine.

    Attributes:
      folder: the folder of this machine that it is; None: another place.

    Raises: ValueError, in one line, if fsspec or the library for such addresses is missing. All
      methods raise what that library does; if there is no such file, that is a FileNotFoundError.
    """

    def __init__(self, field: str, url: str):
        if not url:
            raise ValueError(f"{field} is empty: give an address such as gs://bucket/path")
        if "://" not in url:
            url = str(file_paths.local(url, field).absolute())
        self._fs, root = _connected(field, url)
        self._root = root.rstrip("/")
        protocol = self._fs.protocol
        is_here = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
        self.folder = Path(self._root or "/") if is_here else None

    def _at(self, name):
        return f"{self._root}/{name}"

    def _make_parent(self, path):
        if not self._fs.async_impl:  # those are stores, which have no folders
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)

    def read(self, name: str) -> bytes:
        """Read a file, as it is now."""
        self._fs.invalidate_cache()
        return self._fs.cat_file(self._at(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in place of an older one; a reader sees either."""
        path = self._at(name)
        self._make_parent(path)
        if self.folder is None:
            self._fs.pipe_file(path, content)
        else:  # a folder would show a part of it
            self._fs.pipe_file(f"{path}.new", content)
            self._fs.mv(f"{path}.new", path)

    def put(self, name: str, file: Path, size: int) -> None:
        """Write the first bytes of a local file. Raises: EOFError if it has less than `size`."""
        path, left = self._at(name), size
        self._make_parent(path)
        with open(file, "rb") as source, self._fs.open(path, "wb") as out:
            while left and (content := source.read(min(left, _CHUNK))):
                out.write(content)
                left -= len(content)
        if left:
            raise EOFError(f"{file} was cut while it was copied")

    def get(self, files: Mapping[str, Path]) -> None:
        """Copy files to local paths, several at once where the library can."""
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.folder is None:
            self._fs.get([*map(self._at, files)], [*map(str, files.values())])
        else:
            for name, path in files.items():
                shutil.copyfile(self._at(name), path)

    def names(self, folder: str = "") -> set[str]:
        """List the names of all files in a folder and below it; none if it is missing."""
        self._fs.invalidate_cache()
        start = self._at("")
        return {path.removeprefix(start) for path in self._fs.find(self._at(folder).rstrip("/"))}

    def first(self) -> str | None:
        """Return the name of some file or folder at the address; None if there is none."""
        try:
            paths = [path.rstrip("/") for path in self._fs.ls(self._root, detail=False)]
        except FileNotFoundError:
            return None
        return next((posixpath.basename(path) for path in paths if path != self._root), None)

    def remove(self, names: Collection[str]) -> None:
        """Remove files, and folders that have no other; what is missing is no error."""
        for path in map(self._at, names):
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(path)
            while not self._fs.async_impl and (path := posixpath.dirname(path)) != self._root:
                try:
                    self._fs.rmdir(path)
                except OSError:  # it has other files
                    break


def _connected(field: str, url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None) or in_words(error)
        also = "" if missing == "fsspec" else f" {missing}"
        raise ValueError(
            f"{field}={url} needs {missing}: pip install 'nas_jax[mirror]'{also}"
        ) from error
    except Exception as error:  # of any library
        raise ValueError(f"{field}={url}: {in_words(error)}") from error


def in_words(error: BaseException) -> str:
    """Return the message of an error in one line, or its kind if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
