"""The mirror of a workdir: a copy in an object store, from which another host goes on.

    mirror.json                             the list: what the workdir held at one moment
    files/<path>@<generation>-<writer>      a content that the list names, or an older one

No object that a list names is written again. Contents come first, then the list, in one write, and
then what no list names goes. So the mirror holds a whole moment whenever it is read.

A workdir has a mirror.json too: who it is (`writer`, a new one at each start, so a copy of the
folder is another), of which run, and the last generation that it wrote or began from.
"""

import contextlib
import datetime
import json
import logging
import os
import platform
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from nas_jax.storage import json_files, schemas, snapshot, workdir
from nas_jax.storage.object_store import ObjectStore, in_words

logger = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two copies
FILE, PARTIAL, FLAG = "mirror.json", ".restoring", "--mirror"
_BY = {"run": schemas.TEXT, "writer": schemas.TEXT, "generation": schemas.COUNT}
_CONTENT = {"size": schemas.COUNT, "mtime_ns": schemas.COUNT, "at": schemas.TEXT}
_LIST = {**_BY, "host": schemas.TEXT, "files": {str: _CONTENT}}


class Mirror:
    """The mirror of a workdir; a workdir that is missing or empty is restored from it.

    One process of a run has it.

    Args:
      url: gs://bucket/path or another address that fsspec knows, or a folder of this machine.
      directory: the workdir.

    Attributes:
      restored: whether the workdir was restored now.

    Raises: ValueError that says what to do, if a library is missing, the mirror cannot be read, is
      damaged or holds something else, or another workdir wrote to it since this one did.
    """

    def __init__(self, url: str, directory: Path):
        self._url, self._name, self._directory = url, f"{FLAG}={url}", directory
        self._store = ObjectStore(FLAG, url)
        self._check_place()
        self._list = self._explained(self._read)
        self._warned: set[str] = set()
        self._log = {"of_thread": threading.get_ident()}
        self.restored = False
        with workdir.claim(directory, wait=False) as mine:
            if mine:  # else `kept` refuses it
                if self._list and self._list["files"] and _is_empty(directory):
                    self._restore()
                self._run()

    def _check_place(self):
        if self._store.folder is not None:
            here, there = self._directory.resolve(), self._store.folder.resolve()
            if here.is_relative_to(there) or there.is_relative_to(here):
                raise ValueError(
                    f"{self._name} and --workdir={self._directory} lie in one another: give a "
                    "folder elsewhere"
                )

    def _run(self):
        """Return the run that the workdir is of, once the mirror was found to be its own."""
        path, there = self._directory / FILE, self._list
        mine = _identity(path) if path.exists() else None
        if there is None or (not there["files"] and _is_empty(self._directory)):
            return uuid.uuid4().hex
        if mine is None or mine["run"] != there["run"]:
            way_out = "go on from the mirror in an empty --workdir"
            if not there["files"]:
                way_out = f"if that has ended, remove {FILE} there, which lists no file"
            raise ValueError(
                f"{self._name} belongs to another workdir than --workdir={self._directory}: "
                f"{way_out}, or give another --mirror"
            )
        self._check_latest(there, mine)
        return mine["run"]

    def _check_latest(self, there, mine):
        ahead = there["generation"] - mine["generation"]
        # Its own list may be one ahead: after a kill before the workdir heard of it.
        if ahead and (ahead, there["writer"]) != (1, mine["writer"]):
            raise ValueError(
                f"{self._name} is at generation {there['generation']}, written by {there['host']}, "
                f"and --workdir={self._directory} at {mine['generation']}: another workdir went "
                "on. Go on from the mirror in an empty --workdir, or give another --mirror"
            )

    def _explained(self, call, *arguments):
        """Call what uses the store, and turn its errors, of any kind, into a line."""
        try:
            return call(*arguments)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{self._name}: {in_words(error)}") from error

    def _read(self):
        """Read the list; None where there is nothing yet."""
        try:
            text = self._store.read(FILE)
        except FileNotFoundError:
            if other := self._store.first():
                raise ValueError(
                    f"{self._name} holds other files, such as {other}, and no {FILE}: give an "
                    "empty folder"
                ) from None
            return None
        try:
            there = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{self._name}: {FILE} is not JSON ({error})") from error
        if problem := schemas.problem(_LIST, there):
            raise ValueError(f"{self._name}: {FILE} is damaged: {problem}")
        return there

    def _begin(self):
        """Draw a writer, and write the first list, of which the workdir is told before it is."""
        there = self._list = self._explained(self._read)
        files = there["files"] if there else {}
        self._explained(self._look, files)
        path, mine = self._directory / FILE, {"run": self._run(), "writer": uuid.uuid4().hex}
        before = path.read_text() if path.exists() else mine["run"]
        self._remember({**mine, "generation": there["generation"] if there else 0})
        try:
            if not files:
                self._explained(self._write_list, {})
        except BaseException:
            if mine["run"] not in before:  # so the mirror that it had still is its own
                json_files.write_text(path, before)
            raise

    def _look(self, files):
        """List the objects; what is gone, such as by a rule of the bucket, is copied again."""
        self._objects = self._store.names("files")
        # What is in the store, also of copies that fail.
        self._contents = {n: of for n, of in files.items() if f"files/{of['at']}" in self._objects}

    def _write_list(self, files):
        mine = {**self._mine, "generation": self._mine["generation"] + 1}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        there = {**mine, "time": now, "host": platform.node(), "files": files}
        self._store.write(FILE, json.dumps(there, indent=1).encode())
        self._list = there
        self._remember(mine)

    def _remember(self, mine):
        json_files.write_json(self._directory / FILE, {"mirror": self._url, **mine})
        self._mine = mine

    # -- from the mirror --------------------------------------------------------------------------

    def _restore(self):
        """Download beside, check, and move in; what a kill left half done is done then."""
        partial, there = self._directory / PARTIAL, self._list
        if not (partial / FILE).exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            self._explained(self._download, partial)
            mine = {name: there[name] for name in ("run", "generation")}
            mine |= {"mirror": self._url, "writer": uuid.uuid4().hex}
            json_files.write_json(partial / FILE, mine)
        self._explained(self._move_in, partial)
        self.restored = True
        size = sum(content["size"] for content in there["files"].values()) / 1e6
        begun = _identity(self._directory / FILE)["generation"]
        words = "mirror    %d files, %.1f MB, restored from generation %d of %s, written by %s"
        logger.info(words, len(there["files"]), size, begun, self._url, there["host"])

    def _move_in(self, partial):
        def when(path):  # config.json says first whose folder it is; the mirror's ends it
            return (path.name == FILE) - (path.name == "config.json")

        for path in sorted(partial.iterdir(), key=when):
            path.rename(self._directory / path.name)
        partial.rmdir()

    def _download(self, partial):
        files = self._list["files"]
        for name in files:
            if not (partial / name).resolve().is_relative_to(partial.resolve()):
                raise ValueError(f"{self._name}: {FILE} is damaged: it has a file {name!r}")
        try:
            self._store.get({f"files/{of['at']}": partial / name for name, of in files.items()})
        except FileNotFoundError as error:
            raise self._damaged(f"a file is missing ({in_words(error)})") from error
        for name, content in files.items():
            path = partial / name
            size = path.stat().st_size if path.is_file() else 0
            if size != content["size"]:
                raise self._damaged(f"{name} has {size:,} bytes, not {content['size']:,}")
            os.utime(path, ns=(content["mtime_ns"],) * 2)  # so it is not copied back

    def _damaged(self, what):
        return ValueError(
            f"{self._name}: {what}; the mirror is damaged, and nothing was restored: begin anew "
            "with another --mirror"
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Say of an error in the block, which opens the workdir, where what is there came from."""
        try:
            yield
        except ValueError as error:
            if not self.restored:
                raise
            raise ValueError(
                f"{error}; this folder was restored from {self._name}: give another --mirror, too"
            ) from error

    # -- to the mirror ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def kept(self, mine: bool) -> Iterator[None]:
        """Copy the workdir every `EVERY` seconds in the block, and once more at its end.
        Copies that fail are told in the log, once for each kind of error, and tried again.

        Args:
          mine: whether this process has claimed the workdir.

        Raises: ValueError if it has not, if the mirror is another workdir's by now or cannot be
          written to, or, after a block without an error, if the last copy fails.
        """
        if not mine:
            raise ValueError(
                f"{self._name}: --workdir={self._directory} is in use by another process, which "
                "alone may copy it; leave out --mirror here"
            )
        self._begin()
        stop = threading.Event()
        thread = threading.Thread(target=self._copy_until, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            _end(thread, stop)
            self._try_copy()
            raise
        _end(thread, stop)
        try:
            self._copy()
        except Exception as error:
            raise ValueError(
                f"{self._name}: the run is done, but its last copy failed ({in_words(error)}); "
                "the same command copies again"
            ) from error

    def _copy_until(self, stop):
        while not stop.wait(EVERY):
            self._try_copy()

    def _try_copy(self):
        """Copy; a failure is no reason to end a training."""
        try:
            self._copy()
        except Exception as error:  # of any library that a file system uses
            kind = type(error).__name__
            if kind not in self._warned:
                words = "mirror    %s: a copy failed (%s); it is tried again, and the run goes on"
                logger.warning(words, self._url, in_words(error), extra=self._log)
            self._warned.add(kind)
        else:
            if self._warned:
                logger.info("mirror    %s: copied again", self._url, extra=self._log)
            self._warned.clear()

    def _copy(self):
        """Copy what has changed, write the list, and remove what it lacks."""
        if (there := self._read()) is None:
            raise FileNotFoundError(f"{FILE} is gone")
        if there["run"] != self._mine["run"]:
            raise ValueError("the mirror is another run's now")
        self._check_latest(there, self._mine)
        self._list = there
        if there["generation"] != self._mine["generation"]:  # the workdir could not be written to
            self._remember({**self._mine, "generation": there["generation"]})
        with snapshot.taken(self._directory, self._is_copied) as taken:
            for name, (form, pin) in taken.items():
                if pin is not None:
                    self._contents[name] = self._upload(name, form, pin)
        files = {name: self._contents[name] for name in taken if name != FILE}
        if files != there["files"]:
            self._write_list(files)
        self._contents = dict(files)
        self._remove_others(files)

    def _is_copied(self, name, form):
        there = self._contents.get(name)
        known = there and (there["size"], there["mtime_ns"]) == (form.size, form.mtime_ns)
        return name == FILE or bool(known)

    def _upload(self, name, form, pin):
        """Copy to an object that no list names yet."""
        at = f"{name}@{self._list['generation'] + 1}-{self._mine['writer'][:8]}"
        self._objects.add(f"files/{at}")
        self._store.put(f"files/{at}", pin, form.size)
        return {"size": form.size, "mtime_ns": form.mtime_ns, "at": at}

    def _remove_others(self, files):
        named = {f"files/{content['at']}" for content in files.values()}
        self._store.remove(self._objects - named)
        self._objects &= named


def check_mode(mode: str, directory: Path, store: str) -> None:
    """Check that a mode writes, and into its workdir alone; `store` is that of a study.

    Raises: ValueError that says what to do.
    """
    directory = directory.resolve()
    if mode == "check":
        raise ValueError(f"{FLAG} copies a run, and --mode=check is none: leave it out")
    if mode == "study" and not Path(store).expanduser().resolve().is_relative_to(directory):
        raise ValueError(
            f"{FLAG} copies the workdir alone, and config.study.pool={store!r} lies outside it: "
            f"set --config.study.pool={directory / 'pool'}"
        )


def _identity(path):
    there = json_files.read_json(path, _BY)
    return {name: there[name] for name in _BY}


def _end(thread, stop):
    stop.set()
    thread.join()


def _is_empty(directory):
    """Say whether a folder has no files but hidden ones, ours, or of an unfinished restoring."""
    return (directory / PARTIAL / FILE).exists() or all(
        path.name.startswith(".") or path.name == FILE for path in directory.iterdir()
    )
