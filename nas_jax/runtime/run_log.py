"""The log of a run: kept in its folder, and on a terminal with a bar."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from nas_jax.runtime import progress

FILE = "log.txt"
_LOGGER = logging.getLogger("nas_jax")


class _File(logging.FileHandler):
    """Appends the lines of one thread, which is that of one run; never ends a run.

    A thread that works for it logs with `extra={"of_thread": number of the run's thread}`.
    """

    def __init__(self, path):
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
        self._thread = threading.get_ident()

    def filter(self, record):
        thread = getattr(record, "of_thread", record.thread)
        return thread == self._thread and super().filter(record)

    def emit(self, record):
        with contextlib.suppress(OSError):  # as on a full disk, of which the run itself will say
            super().emit(record)

    def handleError(self, record):
        """Say nothing."""


class _Shown(logging.Handler):
    """Shows what would be shown if the level had not been lowered for the files of runs.

    A library may give the root logger a handler unasked (absl does, when Orbax is imported), which
    would show all that the files keep.

    Attributes:
      level_before, propagate, handlers: of the logger, before.
    """

    def __init__(self):
        super().__init__()
        self.level_before, self.propagate = _LOGGER.getEffectiveLevel(), _LOGGER.propagate
        self.handlers = list(_LOGGER.handlers)

    def filter(self, record):
        logger = logging.getLogger(record.name)
        while logger is not _LOGGER and not logger.level:
            logger = logger.parent
        level = self.level_before if logger is _LOGGER else logger.level
        return record.levelno >= level and super().filter(record)

    def emit(self, record):
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.propagate:
            logging.getLogger().callHandlers(record)


class _Lowered:
    """Lowers the logger's level while some run's log is kept, in any thread."""

    def __init__(self):
        self._lock, self._runs = threading.Lock(), 0
        self._shown: _Shown | None = None  # while the level is lowered
        self._level = logging.NOTSET

    def __enter__(self):
        with self._lock:
            self._runs += 1
            if self._runs > 1 or _LOGGER.getEffectiveLevel() <= logging.INFO:
                return
            self._shown, self._level = _Shown(), _LOGGER.level
            _LOGGER.handlers[:] = [self._shown]
            _LOGGER.propagate = False
            _LOGGER.setLevel(logging.INFO)

    def __exit__(self, *error):
        with self._lock:
            self._runs -= 1
            if self._runs or self._shown is None:
                return
            _LOGGER.setLevel(self._level)
            _LOGGER.propagate = self._shown.propagate
            added = [handler for handler in _LOGGER.handlers if handler is not self._shown]
            _LOGGER.handlers[:] = [*self._shown.handlers, *added]
            self._shown = None


_lowered = _Lowered()


@contextlib.contextmanager
def kept(directory: Path) -> Iterator[None]:
    """Append what is logged in the block, by this thread, to log.txt in a folder."""
    handler = _File(directory / FILE)
    with _lowered:
        _LOGGER.addHandler(handler)
        try:
            yield
        finally:
            _LOGGER.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


@contextlib.contextmanager
def with_bar() -> Iterator[None]:
    """Show a bar below the log in the block, if the log goes to a terminal."""
    if not sys.stderr.isatty() or not _LOGGER.isEnabledFor(logging.INFO):  # or not the lead
        yield
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        "{task.description}",
        bars.BarColumn(),
        "{task.percentage:>3.0f} %  {task.fields[left]}",
    )
    bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=1, left="", visible=False)

    def show(meter):
        seconds = meter.seconds_left
        text = "" if seconds is None else f"about {progress.duration(seconds)} left"
        bar.update(task, description=meter.stage, completed=meter.whole, left=text, visible=True)

    with bar, _lines_above(), progress.listening(show):
        yield


@contextlib.contextmanager
def _lines_above() -> Iterator[None]:
    """Let the log go through the stream that rich put in place of stderr, above its bar."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before):
            if stream is not None:
                handler.setStream(stream)
