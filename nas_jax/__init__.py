"""One-shot neural architecture search in JAX: an architecture is a pytree of masks.

The public names are modules:

    config             every field of a run, with defaults
    build, pipeline    make a `Run` of a config; run its stages in a folder
    data               `from_arrays`, a data set of arrays
    spaces             search spaces, whose `supernet` and `standalone` make Flax modules
    masked             `init` of those modules, and the layers on which masks act
    one_shot_accuracy  evaluate many architectures with a supernet's weights
    strategies         who asks for candidates
    params_flops       parameters and multiply-adds of architectures
    latency, scaling   milliseconds on this machine; depth and width for a budget
    runtime            `configure` XLA and its cache, outside `launch.py`

Importing the package is cheap: a module brings JAX when its name is first used.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "build": "nas_jax.build",
    "config": "nas_jax.config",
    "data": "nas_jax.data",
    "latency": "nas_jax.costs.latency",
    "masked": "nas_jax.nn.masked",
    "one_shot_accuracy": "nas_jax.oneshot.accuracy",
    "params_flops": "nas_jax.costs.params_flops",
    "pipeline": "nas_jax.pipeline",
    "runtime": "nas_jax.runtime",
    "scaling": "nas_jax.costs.scaling",
    "spaces": "nas_jax.spaces",
    "strategies": "nas_jax.strategies",
}
_FORMER = {"cost": "nas_jax.costs.params_flops", "supernet": "nas_jax.nn.masked"}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    path = {**_PUBLIC, **_FORMER}.get(name)
    if path is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(path)


def __dir__():
    return sorted({*globals(), *_PUBLIC})
