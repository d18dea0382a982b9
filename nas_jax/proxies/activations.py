"""Proxies that read what a network computes forward: NASWOT, the Zen score."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.nn import observed
from nas_jax.proxies import base


def agreement(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Count for each pair of images the ReLUs that are on in both, or in none: [n, n]."""
    kinds = [observed.AGREEMENT]
    _, seen = base.observe(net, variables, batches.images[0], arch, kinds)
    if not jax.tree.leaves(seen):
        raise ValueError(
            f"the networks of {type(net).__name__} show no ReLU, which 'naswot' counts: have their "
            "layers call nas_jax.nn.observed.relu"
        )
    return observed.total(seen)[0]


def log_determinant(matrices: Any) -> np.ndarray:
    """Return the log of the determinants of [N, n, n]: [N]; -inf where two images agree wholly."""
    return np.linalg.slogdet(np.asarray(matrices, np.float64))[1]


@dataclasses.dataclass(frozen=True)
class Zen:
    """The Zen score: how much a network stretches a small change of random images.

    Attributes:
      change: the share of a second random image that is added to the first.
    """

    change: float = 1e-2

    def __call__(self, net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
        """Measure log of the mean change of the features, plus the logs that batch norm divides by.

        Features are those that the network averages over pixels.
        """
        shape = batches.images.shape[1:]
        first, second = jax.random.normal(batches.key, (2, *shape))
        features, seen = self._features(net, variables, first, arch)
        changed, _ = self._features(net, variables, first + self.change * second, arch)
        change = jnp.mean(jnp.sum(jnp.abs(changed - features), tuple(range(1, features.ndim))))
        return jnp.log(change) + observed.total(seen)[0]

    def _features(self, net, variables, images, arch):
        kinds = [observed.DEVIATION, observed.FEATURES]
        _, seen = base.observe(net, variables, images, arch, kinds)
        if observed.FEATURES not in seen:
            raise ValueError(
                f"the networks of {type(net).__name__} do not end with Network.logits, which shows "
                "the features that 'zen' compares"
            )
        return seen.pop(observed.FEATURES)["last"][0], seen
