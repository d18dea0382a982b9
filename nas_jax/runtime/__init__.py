"""The process and its devices: keys, XLA's settings, processes of a run, requests to stop."""

from nas_jax.runtime.environment import configure

__all__ = ["configure"]
