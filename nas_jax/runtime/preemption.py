"""A request to stop, as preemptible machines and schedulers send it (SIGTERM).

Long work looks for it where it can stop without losing anything. A second one stops at once.
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

logger = logging.getLogger(__name__)

_requests: list[int] = []  # signals that came; a process has one handler


class Interrupted(KeyboardInterrupt):
    """The work was stopped on request, at a place from which it goes on; no error."""


@contextlib.contextmanager
def on_sigterm() -> Iterator[None]:
    """Inside it SIGTERM is a request.

    In another thread than the main one, as of a notebook or a server, it changes nothing: Python
    lets the main thread alone say what a signal does.
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
    """Whether this process was asked to stop."""
    return bool(_requests)


def check() -> None:
    """Stop here if asked to. Raises: Interrupted."""
    if requested():
        raise Interrupted
