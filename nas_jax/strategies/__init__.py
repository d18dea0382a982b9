"""Search strategies, by name: a file each.

A strategy's options are the keyword arguments of its `make`, except those of `CONTEXT`.
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

# Keywords that a search gives to every `make` that has them. costs: masks [n, k] ->
# {"params": [n], "flops": [n], "latency_ms": [n]}; cost_names: the costs that are counted.
CONTEXT = ("costs", "cost_names")

# Strategies of earlier versions: they change how the supernet is trained, not who asks.
_VARIANTS = ("morphnet", "pbt", "smash")


def check(name: str, options: Iterable[tuple[str, Any]] = ()) -> None:
    """Check the name and the options of a strategy.

    Args:
      name: one of `STRATEGIES`.
      options: (option, value) pairs.

    Raises: ValueError, with the nearest name, if there is no such strategy or option.
    """
    if name in _VARIANTS:
        raise ValueError(
            f"config.sweep.strategy={name!r} is a training variant now: write "
            f"--config.supernet.variant={name} (its options: supernet.variant_options) and "
            "--config.sweep.strategy=random_search"
        )
    naming.check("config.sweep.strategy", name, STRATEGIES)
    keywords = naming.keywords(STRATEGIES[name])
    defaults = {key: default for key, default in keywords.items() if key not in CONTEXT}
    naming.check_options("config.sweep.options", name, options, defaults)


def make(
    name: str, space: Space, options: Iterable[tuple[str, Any]] = (), **context: Any
) -> Strategy:
    """Make the strategy of that name.

    Args:
      name: one of `STRATEGIES`.
      space: to search in.
      options: (option, value) pairs.
      **context: see `CONTEXT`; keywords that the strategy lacks are left out.

    Raises: ValueError if there is no such strategy, or if an option is unknown or out of its range.
    """
    check(name, options)
    keywords = naming.keywords(STRATEGIES[name])
    context = {key: value for key, value in context.items() if key in keywords}
    return STRATEGIES[name](space, **dict(options), **context)


__all__ = ["STRATEGIES", "Strategy", "ask_allowed", "check", "compiled", "make"]
