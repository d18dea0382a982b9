"""A request to stop, as preemptible machines and schedulers send it (SIGTERM).

Long work checks for it at places where it loses nothing by stopping. A second signal stops at once.
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

logger = logging.getLogger(__name__)

_requests: list[int] = []  # signals that came; a process has one handler


class Interrupted(KeyboardInterrupt):
    """The work was stopped on request, at a place from which it can go on. It is no error."""


@contextlib.contextmanager
def on_sigterm() -> Iterator[None]:
    """Take SIGTERM as a request to stop, inside the block.

    In other threads than the main one, as of a notebook or a server, nothing changes: Python lets
    only the main thread handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number, frame):
        _requests.append(number)
        signal.signal(signal.SIGTERM, before)  # the next one stops at once
        logger.warning("SIGTERM: stopping where nothing is lost; once more to stop at once")

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        _requests.clear()
        signal.signal(signal.SIGTERM, before)


def requested() -> bool:
    """Say whether this process was asked to stop."""
    return bool(_requests)


def check() -> None:
    """Stop here if asked to.

    Raises: Interrupted.
    """
    if requested():
        raise Interrupted
