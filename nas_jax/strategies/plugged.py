"""A strategy of a user or a plug-in: what it returns is checked before a search goes on with it."""

import functools
from typing import Any

from nas_jax import plugins
from nas_jax.spaces import Space, choices
from nas_jax.strategies.base import Strategy


def checked(made: Any, space: Space, field: str, name: Any) -> Strategy:
    """Return a strategy whose architectures are checked, and whose errors name it.

    Args:
      made: a `Strategy`, or an object with its functions `init`, `ask` and `tell`.
      space: of the architectures.
      field, name: of the config, for errors.

    Raises: ValueError if it lacks one of the functions.
    """
    for function in ("init", "ask", "tell"):
        if not callable(getattr(made, function, None)):
            raise ValueError(
                f"{field}={name!r} made a {type(made).__name__}, which has no {function}(); a "
                "strategy has init(key), ask(key, state, n) and tell(state, archs, scores)"
            )
    call = functools.partial(plugins.call, field, name)
    asked = f"{field}={name!r} asked for"

    def ask(key, state, n):
        return choices.shaped(space.choices, call(made.ask, key, state, n), n, asked)

    def check(archs):
        if not space.contains(archs):
            raise ValueError(f"{asked} an architecture that is none of the space")

    return Strategy(
        functools.partial(call, made.init),
        ask,
        functools.partial(call, made.tell),
        getattr(made, "on_host", False),
        check,
    )
