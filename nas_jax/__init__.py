"""One-shot neural architecture search in JAX: an architecture is a pytree of masks.

Importing the package is cheap: a name of it brings JAX when it is first used.
"""

import importlib

__version__ = "0.1.0"

# The public API: each name, and the module that it is, or that has it.
_PUBLIC = {
    "config": "nas_jax.config",
    "latency": "nas_jax.costs.latency",
    "masked": "nas_jax.nn.masked",
    "params_flops": "nas_jax.costs.params_flops",
    "pipeline": "nas_jax.pipeline",
    "runtime": "nas_jax.runtime",
    "scaling": "nas_jax.costs.scaling",
    "one_shot_accuracy": "nas_jax.oneshot.accuracy",
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
