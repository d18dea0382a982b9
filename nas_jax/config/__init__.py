"""The config: its fields, their defaults and rules, variants of a config, files of configs.

It imports nothing heavy, so that `nas-jax --help` and the error of a wrong field do not wait for
JAX.
"""

from nas_jax.config.defaults import (
    EXPORT_MODES,
    MODES,
    RUN_MODES,
    STAGES,
    check_variant,
    default,
    retrain_nothing,
)
from nas_jax.config.files import load
from nas_jax.config.recipes import choose

__all__ = [
    "EXPORT_MODES",
    "MODES",
    "RUN_MODES",
    "STAGES",
    "check_variant",
    "choose",
    "default",
    "load",
    "retrain_nothing",
]
