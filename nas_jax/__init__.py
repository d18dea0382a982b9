"""One-shot neural architecture search in JAX: an architecture is a pytree of masks.

Importing the package is cheap; `nas_jax.spaces`, `nas_jax.costs.params_flops` and the other modules
bring JAX with them when they are imported.
"""

__version__ = "0.1.0"
