"""What a search strategy is: a record of pure functions."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax import naming

check_range = functools.partial(naming.check_range, "config.sweep.options")
MOST_TRIES = 1024  # candidates drawn for each that a constraint lets through


class Strategy(NamedTuple):
    """Asks for architectures and is told their scores.

    Attributes:
      init: (key) -> state, a pytree of arrays.
      ask: (key, state, n) -> masks [n, k] of legal architectures.
      tell: (state, archs, scores) -> state; masks [n, k], scores float [n], NaN for a failure,
        which is never kept. Not all that was asked must be told.
      on_host: whether `ask` and `tell` are plain Python, whose state may grow, and which ask for
        the same first, whatever n is (asking for more may change what comes next); else JAX traces
        them once, and a supernet can be trained on what they ask for.
    """

    init: Callable[[Any], Any]
    ask: Callable[[Any, Any, int], Any]
    tell: Callable[[Any, Any, Any], Any]
    on_host: bool = False


def compiled(strategy: Strategy) -> Strategy:
    """The same, compiled unless it is `on_host`."""
    if strategy.on_host:
        return strategy
    return strategy._replace(
        init=jax.jit(strategy.init),
        ask=jax.jit(strategy.ask, static_argnums=2),
        tell=jax.jit(strategy.tell),
    )


def ask_allowed(
    key: Any, strategy: Strategy, state: Any, n: int, allows: Callable[[Any], np.ndarray]
) -> Any:
    """The first n architectures that `allows` (masks [m, k] -> bool [m]) lets through of those that
    `strategy` asks for: the constraint of any strategy (but exhaustive search is told what is
    allowed instead, as it asks for the same whatever the key).

    Raises: ValueError if fewer than n of 1024 n are.
    """
    kept, number = [], 0
    for attempt in range(MOST_TRIES):
        archs = _ask(strategy, key, state, n, attempt)
        chosen = np.flatnonzero(allows(archs))[: n - number]
        kept.append(jax.tree.map(operator.itemgetter(chosen), archs))
        number += len(chosen)
        if number == n:
            return jax.tree.map(lambda *masks: np.concatenate(masks), *kept)
    raise ValueError(
        f"of {MOST_TRIES * n:,} architectures that the strategy asked for, only {number} keep to "
        "config.sweep.constraints (or are in the table); loosen them"
    )


def _ask(strategy, key, state, n, attempt):
    """Other n architectures at every attempt."""
    if strategy.on_host:
        archs = strategy.ask(key, state, n * (attempt + 1))
        return jax.device_get(jax.tree.map(lambda mask: mask[n * attempt :], archs))
    key = jax.random.fold_in(key, attempt) if attempt else key  # the same n: nothing compiles again
    return jax.device_get(strategy.ask(key, state, n))
