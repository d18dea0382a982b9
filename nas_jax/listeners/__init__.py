"""Listeners: they bring what happens in a run to where people look. A file each.

A listener is a function of a `runtime.events.Event`, or a class without arguments whose objects
are. Those of a user or a plug-in are found as other parts are: "FILE.py:NAME", "MODULE:NAME", or an
entry point of the group `nas_jax.listeners`.
"""

import importlib.util
import inspect
from collections.abc import Iterable

from nas_jax import plugins
from nas_jax.listeners.base import Listener
from nas_jax.listeners.mlflow_run import MLflowRun
from nas_jax.listeners.optuna_study import OptunaStudy
from nas_jax.listeners.tensorboard import TensorBoard
from nas_jax.listeners.wandb_run import WandbRun
from nas_jax.runtime import events

FIELD = "config.listeners"
LISTENERS = {
    "tensorboard": TensorBoard,
    "optuna": OptunaStudy,
    "wandb": WandbRun,
    "mlflow": MLflowRun,
}
EXTRAS = ("optuna", "wandb", "mlflow")  # each is named as the library that it needs


def check(names: Iterable[str]) -> None:
    """Check that the listeners of a config can be made, before a run begins.

    Raises: ValueError, in one line, if there is no such listener, its file raises, its objects
      cannot be called with an event, or the library that it needs is not installed.
    """
    for name in names:
        _found(name)
        if name in EXTRAS and importlib.util.find_spec(name) is None:
            raise ValueError(f"{FIELD}={name!r} needs {name}: pip install -e '.[{name}]'")


def make(names: Iterable[str], leads: bool = True) -> dict[str, events.Listener]:
    """Make the listeners of a config, by name.

    Args:
      names: keys of `LISTENERS`, or what `plugins.resolve` finds.
      leads: whether this is the lead process; the others make those that are `in_every_process`.

    Raises: ValueError as of `check`, or if the class of a user raises.
    """
    found = {name: _found(name) for name in names}
    return {
        name: plugins.call(FIELD, name, one) if inspect.isclass(one) else one
        for name, one in found.items()
        if leads or getattr(one, "in_every_process", False)
    }


def _found(name):
    found = plugins.maker(FIELD, name, LISTENERS, "listeners")
    if inspect.isclass(found) and "__call__" not in dir(found):  # a class itself can be called
        raise ValueError(
            f"{FIELD}={name!r} makes a {found.__name__}, which cannot be called with an event: it "
            "has no __call__"
        )
    return found


__all__ = ["LISTENERS", "Listener", "check", "make"]
