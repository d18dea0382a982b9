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
_lock, _runs = threading.Lock(), []  # whose log is kept, in any thread; each has the level before


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


@contextlib.contextmanager
def kept(directory: Path) -> Iterator[None]:
    """Append what is logged in the block, by this thread, to log.txt in a folder."""
    handler = _File(directory / FILE)
    with _lock:
        _runs.append(_runs[0] if _runs else _LOGGER.level)
        if _LOGGER.getEffectiveLevel() > logging.INFO:
            _LOGGER.setLevel(logging.INFO)
    _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        with _lock:
            before = _runs.pop()
            if not _runs:
                _LOGGER.setLevel(before)


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
