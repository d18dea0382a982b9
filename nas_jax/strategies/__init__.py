"""Search strategies, by name: a file each. Those of users and plug-ins are checked (`plugged`).

A strategy's options are the keyword arguments of its `make`, except those of `CONTEXT`.
"""

from collections.abc import Iterable
from typing import Any

from nas_jax import plugins
from nas_jax.spaces import Space
from nas_jax.strategies import (
    enas,
    evolution,
    exhaustive,
    optuna_samplers,
    plugged,
    random_search,
    surrogate,
)
from nas_jax.strategies.base import Strategy, ask_allowed, compiled

STRATEGIES = {
    "enas": enas.make,
    "evolution": evolution.make,
    "exhaustive": exhaustive.make,
    "optuna": optuna_samplers.make,
    "random_search": random_search.make,
    "surrogate": surrogate.make,
}

FIELD = "config.sweep.strategy"
# Keywords that a search gives to every `make` that has them. costs: masks [n, k] ->
# {"params": [n], "flops": [n], "latency_ms": [n]}; cost_names: the costs that are counted; proxy:
# name of a training-free proxy -> masks [n, k] -> float [n].
CONTEXT = ("costs", "cost_names", "proxy")

# Strategies of earlier versions: they change how the supernet is trained, not who asks.
_VARIANTS = ("morphnet", "pbt", "smash")


def check(name: str, options: Iterable[tuple[str, Any]] = ()) -> None:
    """Check the name and the options of a strategy.

    Args:
      name: one of `STRATEGIES`, or one that `plugins.resolve` finds.
      options: (option, value) pairs.

    Raises: ValueError, with the nearest name, if there is no such strategy or option.
    """
    if name in _VARIANTS:
        raise ValueError(
            f"config.sweep.strategy={name!r} is a training variant now: write "
            f"--config.supernet.variant={name} (its options: supernet.variant_options) and "
            "--config.sweep.strategy=random_search"
        )
    made_by = plugins.maker(FIELD, name, STRATEGIES, "strategies")
    plugins.options_of(FIELD, name, made_by, options, "config.sweep.options", CONTEXT)


def make(
    name: str, space: Space, options: Iterable[tuple[str, Any]] = (), **context: Any
) -> Strategy:
    """Make the strategy of that name.

    Args:
      name: one of `STRATEGIES`, one that `plugins.resolve` finds, or a function as theirs.
      space: to search in.
      options: (option, value) pairs.
      **context: see `CONTEXT`; keywords that the strategy lacks are left out.

    Raises: ValueError if there is no such strategy, or if an option is unknown or out of its range.
    """
    check(name, options)
    given = {"options": options, "options_field": "config.sweep.options", "context": context}
    made = plugins.make(FIELD, name, STRATEGIES, "strategies", space, **given)
    if plugins.is_named(name, STRATEGIES):
        return made
    return plugged.checked(made, space, FIELD, name)


__all__ = ["STRATEGIES", "Strategy", "ask_allowed", "check", "compiled", "make"]
