"""Search strategies, by name: a file each.

A strategy's options are the keyword arguments of its `make`, but for what a search tells it itself.
"""

from collections.abc import Iterable
from typing import Any

from nas_jax import naming
from nas_jax.spaces import Space
from nas_jax.strategies import (
    enas,
    evolution,
    exhaustive,
    optuna_samplers,
    random_search,
)
from nas_jax.strategies.base import Strategy, ask_allowed, compiled

STRATEGIES = {
    "enas": enas.make,
    "evolution": evolution.make,
    "exhaustive": exhaustive.make,
    "optuna": optuna_samplers.make,
    "random_search": random_search.make,
}

# What a search tells a strategy whose `make` has such a keyword. costs: masks [n, k] ->
# {"params": [n], "flops": [n], "latency_ms": [n]}; cost_names: those of them that are known.
CONTEXT = ("costs", "cost_names")


# What were strategies once: they change how the supernet is trained, not who asks.
_VARIANTS = ("morphnet", "pbt", "smash")


def check(name: str, options: Iterable[tuple[str, Any]] = ()) -> None:
    """Raises: ValueError, with the nearest name, if there is no such strategy or option."""
    if name in _VARIANTS:
        raise ValueError(
            f"config.sweep.strategy={name!r} is a training variant now: write "
            f"--config.supernet.variant={name} (its options: supernet.variant_options) and "
            "--config.sweep.strategy=random_search"
        )
    naming.check("config.sweep.strategy", name, STRATEGIES)
    known = naming.keywords(STRATEGIES[name])
    known = {key: default for key, default in known.items() if key not in CONTEXT}
    naming.check_options("config.sweep.options", name, options, known)


def make(
    name: str, space: Space, options: Iterable[tuple[str, Any]] = (), **context: Any
) -> Strategy:
    """Make the strategy of that name; it takes what it needs of `context`, see `CONTEXT`.

    Raises: ValueError if there is none, or if an option is unknown or out of its range.
    """
    check(name, options)
    keywords = naming.keywords(STRATEGIES[name])
    context = {key: value for key, value in context.items() if key in keywords}
    return STRATEGIES[name](space, **dict(options), **context)


__all__ = ["STRATEGIES", "Strategy", "ask_allowed", "check", "compiled", "make"]
