"""How far a run is, and how long all of it still takes.

Each stage has an amount of work, in any unit, and says which share of it is done (`begin`, `done`).
The time that is left is that work, at the speed of the current stage. A thread has a meter of its
own; without one, as where a stage is called alone, nothing happens.
"""

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator, Mapping

_meter: contextvars.ContextVar["Meter | None"] = contextvars.ContextVar("meter", default=None)
Listener = Callable[["Meter"], None]
_listeners: list[Listener] = []


class Meter:
    """The work of a run.

    Args:
      work: of each stage, 0 or more, in order.

    Attributes:
      stage: the current one; "" before the first.
      share: of it that is done, in [0, 1].
    """

    def __init__(self, work: Mapping[str, float]):
        self._work, self._span = dict(work), (0.0, 1.0)
        self.stage, self.share, self._since = "", 0.0, None

    def begin(self, stage: str) -> None:
        """Begin a stage; one without an amount of work counts as nothing."""
        self.stage, self.share, self._since = stage, 0.0, None

    def done(self, share: float) -> None:
        """Say which share of the current part is done; the first call starts the clock."""
        low, high = self._span
        self.share = max(self.share, low + (high - low) * share)
        if self._since is None:  # after compilation, and what an earlier process did
            self._since = time.perf_counter(), self.share
        for listener in _listeners:
            listener(self)

    @contextlib.contextmanager
    def part(self, low: float, high: float) -> Iterator[None]:
        """Let shares in the block be shares of [low, high] of the part around it."""
        outer = self._span
        start, length = outer[0], outer[1] - outer[0]
        self._span = start + length * low, start + length * high
        try:
            yield
        finally:
            self._span = outer

    @property
    def whole(self) -> float:
        """The share of all work that is done, in [0, 1]."""
        before, now, after = self._amounts()
        total = before + now + after
        return (before + now * self.share) / total if total else self.share

    @property
    def seconds_left(self) -> float | None:
        """Seconds that all of it still takes; None if nothing says so yet."""
        if self._since is None:
            return None
        began, at = self._since
        _, now, after = self._amounts()
        rate = (self.share - at) / max(time.perf_counter() - began, 1e-9)  # stages a second
        if rate <= 0:
            return None
        later = after / now if now else 0.0  # in stages such as this one
        return (1 - self.share + later) / rate

    def _amounts(self):
        names = list(self._work)
        here = names.index(self.stage) if self.stage in names else len(names)
        amounts = list(self._work.values())
        return sum(amounts[:here]), sum(amounts[here : here + 1]), sum(amounts[here + 1 :])


@contextlib.contextmanager
def metered(work: Mapping[str, float]) -> Iterator[None]:
    """Measure the work of a run in the block, in this thread."""
    token = _meter.set(Meter(work))
    try:
        yield
    finally:
        _meter.reset(token)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` whenever more is done, in any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def begin(stage: str) -> None:
    """Begin a stage of this thread's run."""
    if meter := _meter.get():
        meter.begin(stage)


def done(share: float) -> None:
    """Say which share of the current stage, or part of it, is done, in [0, 1]."""
    if meter := _meter.get():
        meter.done(share)


@contextlib.contextmanager
def part(low: float, high: float) -> Iterator[None]:
    """Let shares in the block be those of a part, from `low` to `high` of what is around it."""
    meter = _meter.get()
    with meter.part(low, high) if meter else contextlib.nullcontext():
        yield


def left() -> str:
    """Say how long the whole run still takes, for the end of a line.

    "" if that is unknown, or under a minute: then compilation, which it leaves out, is most of it.
    """
    meter = _meter.get()
    seconds = meter.seconds_left if meter else None
    if seconds is None or seconds < 60:
        return ""
    return f"  (whole run: about {duration(seconds)} left, compilation apart)"


def duration(seconds: float) -> str:
    """Write a number of seconds with a unit that suits it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds > 2 * length:
            return f"{seconds / length:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"
