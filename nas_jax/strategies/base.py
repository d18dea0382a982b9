"""A search strategy: a record of pure functions."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax import naming

check_range = functools.partial(naming.check_range, "config.sweep.options")
MOST_TRIES = 1024  # candidates drawn for each one that is allowed
AS_ASKED = 64  # of these, before what is asked for is repaired


class Strategy(NamedTuple):
    """Asks for architectures and is told their values, here `scores`.

    Attributes:
      init: (key) -> state, a pytree of arrays.
      ask: (key, state, n) -> masks [n, k] of legal architectures.
      tell: (state, archs, scores) -> state; masks [n, k], values float [n], NaN for a failure,
        which a strategy never keeps. Some of the asked architectures may never be told, and others
        may be told that were not asked for.
      on_host: False: JAX traces `ask` and `tell` once, and a supernet can be trained on the
        architectures that they ask for. True: they are plain Python, and the state may grow. The
        first architectures that they ask for must not depend on n (those of later calls may).
      check: (masks [n, k]) -> None; raises a ValueError if one is not legal. None: they are.
    """

    init: Callable[[Any], Any]
    ask: Callable[[Any, Any, int], Any]
    tell: Callable[[Any, Any, Any], Any]
    on_host: bool = False
    check: Callable[[Any], None] | None = None


def compiled(strategy: Strategy) -> Strategy:
    """Compile the functions of a strategy, unless it is `on_host`."""
    if strategy.on_host:
        return strategy
    return strategy._replace(
        init=jax.jit(strategy.init),
        ask=jax.jit(strategy.ask, static_argnums=2),
        tell=jax.jit(strategy.tell),
    )


def ask_allowed(
    key: Any,
    strategy: Strategy,
    state: Any,
    n: int,
    allows: Callable[[Any], np.ndarray],
    repair: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Ask for n allowed architectures: those that are not allowed are skipped.

    So any strategy keeps to constraints. Exhaustive search asks for the same whatever the key is;
    give it the allowed architectures instead (`exhaustive.first_state`).

    Args:
      key: consumed.
      strategy: who asks.
      state: of the strategy.
      n: number of architectures.
      allows: masks [m, k] -> bool [m].
      repair: (key, masks [n, k]) -> masks [n, k] that are allowed sooner. It changes what is asked
        for once n times `AS_ASKED` architectures were too few. None: nothing does.

    Returns: masks [n, k].

    Raises: ValueError if fewer than n of 1024 n architectures are allowed.
    """
    kept, number = [], 0
    for attempt in range(MOST_TRIES):
        archs = _ask(strategy, key, state, n, attempt)
        if repair and attempt >= AS_ASKED:
            archs = repair(jax.random.fold_in(key, MOST_TRIES + attempt), archs)
        chosen = np.flatnonzero(allows(archs))[: n - number]
        kept.append(jax.tree.map(operator.itemgetter(chosen), archs))
        number += len(chosen)
        if number == n:
            return jax.tree.map(lambda *masks: np.concatenate(masks), *kept)
    raise ValueError(
        f"of {MOST_TRIES * n:,} architectures that the strategy asked for, only {number} keep to "
        "config.sweep.constraints and the space's rule (or are in the table, or left by "
        "supernet.variant); loosen them"
    )


def _ask(strategy, key, state, n, attempt):
    """Ask for n architectures, others at every attempt."""
    archs = _asked(strategy, key, state, n, attempt)
    if strategy.check:
        strategy.check(archs)
    return archs


def _asked(strategy, key, state, n, attempt):
    if strategy.on_host:
        archs = strategy.ask(key, state, n * (attempt + 1))
        return jax.device_get(jax.tree.map(lambda mask: mask[n * attempt :], archs))
    key = jax.random.fold_in(key, attempt) if attempt else key  # n stays: no compilation
    return jax.device_get(strategy.ask(key, state, n))
