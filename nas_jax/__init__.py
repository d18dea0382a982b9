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

A search from Python (docs/howto/python.md): `search`, or its stages `train_supernet`, `sweep`,
`retrain`, `write_report`; `check` what it takes, `read` what a folder has. All return `Results`,
whose best is an `Architecture`. `export` writes a network that was trained alone as a folder, and
`load` reads it (docs/howto/export.md).

Importing the package is cheap: a name brings JAX when it is first used.
"""

import importlib
import sys

__version__ = "0.2.0"

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

_FUNCTIONS = {  # and classes, by name
    "Architecture": "nas_jax.report.architecture",
    **dict.fromkeys(
        (
            "Results",
            "check",
            "read",
            "retrain",
            "search",
            "sweep",
            "train_supernet",
            "write_report",
        ),
        "nas_jax.api",
    ),
    "export": "nas_jax.exports.folder",
    "load": "nas_jax.exports.model",
}

__all__ = ["__version__", *_PUBLIC, *_FUNCTIONS]


def _attribute(path, name):
    """Return a function of a module; JAX reads its settings when it is imported, so set them."""
    if "jax" not in sys.modules:
        importlib.import_module("nas_jax.runtime.environment").configure()
    return getattr(importlib.import_module(path), name)


def __getattr__(name):
    if name in _FUNCTIONS:
        return _attribute(_FUNCTIONS[name], name)
    path = {**_PUBLIC, **_FORMER}.get(name)
    if path is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(path)


def __dir__():
    return sorted({*globals(), *_PUBLIC, *_FUNCTIONS})
