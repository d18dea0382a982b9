"""A name for the values that are dear to compute again, and so are kept for gradients.

Code that rematerialises an op (`nas_jax.nn.skipping`) saves the values of this name only.
"""

import jax
from jax.ad_checkpoint import checkpoint_name

SAVED = "saved"


def saved(x: jax.Array) -> jax.Array:
    """Return x itself, under the name `SAVED`."""
    return checkpoint_name(x, SAVED)
