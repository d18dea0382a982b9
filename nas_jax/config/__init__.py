"""The config: its fields, their defaults and rules, and variants of a config.

It imports nothing heavy, so that `launch.py --help` and the error of a wrong field do not wait for
JAX.
"""

from nas_jax.config.defaults import MODES, STAGES, check_variant, default, retrain_nothing

__all__ = ["MODES", "STAGES", "check_variant", "default", "retrain_nothing"]
