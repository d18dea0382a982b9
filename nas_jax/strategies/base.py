"""What a search strategy is: a record of pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Strategy(NamedTuple):
    """Asks for architectures and is told their scores.

    Attributes:
      init: (key) -> state, a pytree of arrays.
      ask: (key, state, n) -> masks [n, k] of legal architectures.
      tell: (state, archs, scores) -> state; masks [n, k], scores float [n], NaN for a failure.
    """

    init: Callable[[Any], Any]
    ask: Callable[[Any, Any, int], Any]
    tell: Callable[[Any, Any, Any], Any]
