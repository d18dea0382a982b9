"""A strategy of a user or a plug-in: what it returns is checked before a search goes on with it."""

import functools
import logging
from typing import Any

import jax
import numpy as np

from nas_jax import plugins
from nas_jax.spaces import Space, choices
from nas_jax.strategies.base import Strategy

logger = logging.getLogger(__name__)


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
            logger.warning(
                "%s=%r: tell() gave the state another tree or other shapes than it had, so JAX "
                "compiles again: keep them, or set on_host = True",
                *(field, name),
            )
        return after

    def sound(state, function):
        other = [] if on_host else [x for x in jax.tree.leaves(state) if not _is_array(x)]
        if other:
            raise ValueError(
                f"{field}={name!r}: {function}() gave a state that has a "
                f"{type(other[0]).__name__}; a compiled state is a tree of arrays: set "
                "on_host = True for another"
            )
        return state

    def check(archs):
        if not choices.contains(space.choices, archs):
            raise ValueError(f"{asked} {_first_other(space, archs)}, which is none of the space")

    return Strategy(init, ask, tell, on_host, check)


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)


def _shapes(state):
    return jax.tree.structure(state), [np.shape(leaf) for leaf in jax.tree.leaves(state)]


def _first_other(space, archs):
    """Name the first of masks [n, k] with a mask that is not legal."""
    leaves = list(zip(jax.tree.leaves(space.choices), jax.tree.leaves(jax.device_get(archs))))
    for number in range(len(leaves[0][1])):
        for choice, masks in leaves:
            if not choices.contains((choice,), (masks[number],)):
                on = np.flatnonzero(masks[number]).tolist()
                return f"architecture {number}, with options {on} of {choice.name!r}"
    raise AssertionError("all are legal")
