"""Which values a kernel wants kept for gradients: those that are dear to compute again.

Whoever rematerialises an op (`nas_jax.nn.skipping`) saves what has this name and nothing else.
"""

import jax
from jax.ad_checkpoint import checkpoint_name

SAVED = "saved"


def saved(x: jax.Array) -> jax.Array:
    """Return x itself, marked as worth keeping."""
    return checkpoint_name(x, SAVED)
