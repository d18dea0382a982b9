"""A strategy of a user or a plug-in: what it returns is checked before a search goes on with it."""

import functools
from typing import Any

import jax
import numpy as np

from nas_jax import plugins
from nas_jax.spaces import Space, choices
from nas_jax.strategies.base import Strategy

_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float)  # leaves of a compiled state


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
    call, on_host = functools.partial(plugins.call, field, name), getattr(made, "on_host", False)
    asked = f"{field}={name!r} asked for"

    def ask(key, state, n):
        return choices.shaped(space.choices, call(made.ask, key, state, n), n, asked)

    def init(key):
        return sound(call(made.init, key), "init")

    def tell(state, archs, scores):
        after = sound(call(made.tell, state, archs, scores), "tell")
        if not on_host and _shapes(after) != _shapes(state):
            raise ValueError(
                f"{field}={name!r}: tell() gave the state other shapes than it had: those of a "
                "compiled state stay; set on_host = True for one that grows"
            )
        return after

    def sound(state, function):
        other = [each for each in jax.tree.leaves(state) if not isinstance(each, _ARRAYS)]
        if other and not on_host:
            raise ValueError(
                f"{field}={name!r}: {function}() gave a state that has a "
                f"{type(other[0]).__name__}; a compiled state is a tree of arrays: set "
                "on_host = True for another"
            )
        return state

    def check(archs):
        if not space.contains(archs):
            raise ValueError(f"{asked} {_first_other(space, archs)}, which is none of the space")

    return Strategy(init, ask, tell, on_host, check)


def _shapes(state):
    return jax.tree.structure(state), [np.shape(leaf) for leaf in jax.tree.leaves(state)]


def _first_other(space, archs):
    """Name the first of masks [n, k] that is no architecture of the space."""
    every = choices.unstack(jax.device_get(archs))
    number, arch = next((i, one) for i, one in enumerate(every) if not space.contains(one))
    wrong = [
        f"of {choice.name!r} options {np.flatnonzero(mask).tolist()}"
        for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(arch))
        if not choices.contains((choice,), (mask,))
    ]
    return f"architecture {number}, {wrong[0] if wrong else repr(space.to_str(arch))}"
