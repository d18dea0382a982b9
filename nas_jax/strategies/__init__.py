"""Search strategies, by name: a file each.

A strategy's options are the keyword arguments of its `make`, but for what a search tells it itself.
"""

import inspect
from collections.abc import Iterable
from typing import Any

from nas_jax import naming
from nas_jax.spaces import Space
from nas_jax.strategies import (
    enas,
    evolution,
    exhaustive,
    morphnet,
    optuna_samplers,
    pbt,
    random_search,
    smash,
)
from nas_jax.strategies.base import Strategy, ask_allowed, compiled

STRATEGIES = {
    "enas": enas.make,
    "evolution": evolution.make,
    "exhaustive": exhaustive.make,
    "morphnet": morphnet.make,
    "optuna": optuna_samplers.make,
    "pbt": pbt.make,
    "random_search": random_search.make,
    "smash": smash.make,
}

# What a search tells a strategy whose `make` has such a keyword. costs: masks [n, k] ->
# {"params": [n], "flops": [n], "latency_ms": [n]}; cost_names: those of them that are known.
CONTEXT = ("costs", "cost_names")


def check(name: str, options: Iterable[tuple[str, Any]] = ()) -> None:
    """Raises: ValueError, with the nearest name, if there is no such strategy or option."""
    naming.check("config.sweep.strategy", name, STRATEGIES)
    known = {key: default for key, default in _keywords(name).items() if key not in CONTEXT}
    for option in options:
        if not isinstance(option, tuple | list) or len(option) != 2:
            raise ValueError(
                f"config.sweep.options: {option!r} is no (option, value); write "
                f"{(('population', 50),)} for one"
            )
        if option[0] not in known:
            raise ValueError(
                f"config.sweep.options: {option[0]!r} is no option of {name}, which has "
                + (
                    f"{', '.join(known)}; nearest: {naming.nearest(option[0], known)}"
                    if known
                    else "none"
                )
            )
        _check_type(*option, known[option[0]])


def _check_type(option, value, default):
    kinds = {float: (int, float), tuple: (tuple, list)}.get(type(default), type(default))
    if not isinstance(value, kinds):
        raise ValueError(
            f"config.sweep.options: {option}={value!r} must be {type(default).__name__}, such as "
            f"its default {default!r}"
        )


def make(
    name: str, space: Space, options: Iterable[tuple[str, Any]] = (), **context: Any
) -> Strategy:
    """Make the strategy of that name; it takes what it needs of `context`, see `CONTEXT`.

    Raises: ValueError if there is none, or if an option is unknown or out of its range.
    """
    check(name, options)
    keywords = _keywords(name)
    context = {key: value for key, value in context.items() if key in keywords}
    return STRATEGIES[name](space, **dict(options), **context)


def _keywords(name):
    parameters = inspect.signature(STRATEGIES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


__all__ = ["STRATEGIES", "Strategy", "ask_allowed", "check", "compiled", "make"]
