"""The config: its fields and defaults, what they may be, variants of it.

Nothing heavy is imported: `launch.py --help` and the error of a wrong field come without a wait for
JAX.
"""

from nas_jax.config.defaults import MODES, STAGES, check_variant, default, retrain_nothing

__all__ = ["MODES", "STAGES", "check_variant", "default", "retrain_nothing"]
