"""What happens in a run, for those who listen.

    kind        where                   step                       values
    begin       workdir                 None                       "mode", "config", "space"
    metrics     folder of a training    of the training            a line of its metrics.jsonl
    candidates  folder of the sweep     candidates before these    lines of trials.jsonl, a list
    network     folder of a network     None                       its result.json
    end         workdir                 None                       "status", as of status.json

A run begins and ends once in a process. Between the two are the events of what this process does;
what an earlier one did is not told again. "config" is {field: value}, such as
{"sweep.num_candidates": 200}. The process that writes a file tells of it: of several, the lead
process, and each of the networks that it trains.

A thread's run has listeners of its own. Without one, nothing happens.
"""

import contextlib
import contextvars
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_jax import plugins

logger = logging.getLogger(__name__)

KINDS = ("begin", "metrics", "candidates", "network", "end")


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened; see the module for what its kinds have.

    Attributes:
      kind: one of `KINDS`.
      where: the folder that it is about.
      step: how far what happens there is; None where that says nothing.
      values: what the files have of it. They are copies: to change them changes no run.
    """

    kind: str
    where: Path
    step: int | None
    values: Any


Listener = Callable[[Event], None]
_listeners: contextvars.ContextVar[dict[str, Listener]] = contextvars.ContextVar("listeners")


@contextlib.contextmanager
def listening(listeners: Mapping[str, Listener]) -> Iterator[None]:
    """Let these hear, by name, what happens in the block, in this thread, and no others."""
    token = _listeners.set(dict(listeners))
    try:
        yield
    finally:
        _listeners.reset(token)


def emit(
    kind: str,
    where: Path,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    step: int | None = None,
) -> None:
    """Tell the listeners of this thread's run what happened; arguments as of `Event`.

    A listener that raises is named in the log, once, and hears nothing more. It does not end the
    run, unless memory is too small or the user stops it.
    """
    listeners = _listeners.get({})
    for name, listener in list(listeners.items()):
        copied = dict(values) if isinstance(values, Mapping) else [dict(row) for row in values]
        try:
            listener(Event(kind, where, step, copied))
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            del listeners[name]
            what = plugins.described(error)
            logger.warning("listener %r hears nothing more of this run: %s", name, what)
