"""AZ-NAS's proxies, which read outputs of blocks: expressivity, progressivity, trainability.

Images are standard normal noise, as in the published code; no image of the data is read.

Letters: L blocks but the first, r = n H W rows of a block's output, C channels.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_jax.nn import observed
from nas_jax.proxies import base


def outputs(net: Any, variables: Any, images: jax.Array, arch: Any) -> list[jax.Array]:
    """List the outputs of all blocks, [n, H, W, C] each.

    Raises: ValueError if the space shows no blocks.
    """
    _, seen = base.observe(net, variables, images, arch, [observed.BLOCKS])
    return _in_order(seen.get(observed.BLOCKS, {}), net)


def _in_order(blocks, net):
    if len(blocks) < 2:
        raise ValueError(
            f"the networks of {type(net.space).__name__} show {len(blocks)} blocks, of which this "
            "proxy needs two or more: have them call nas_jax.nn.observed.block on their outputs"
        )
    return [blocks[name][0] for name in sorted(blocks)]


def entropies(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Measure the entropy of each block's principal components: [L + 1], in nats.

    The components' shares of the variance are the distribution.
    """
    return jnp.stack([_entropy(x) for x in outputs(net, variables, _noise(batches), arch)])


def _noise(batches):
    return jax.random.normal(batches.key, batches.images.shape[1:])


def _entropy(x):
    rows = x.reshape(-1, x.shape[-1])
    rows -= jnp.mean(rows, 0)
    values = jnp.linalg.eigvalsh(rows.T @ rows / len(rows))
    shares = jnp.maximum(values, 0) / jnp.sum(values)
    return -jnp.sum(shares * jnp.log(shares + 1e-8))


def expressivity(measured: Any) -> np.ndarray:
    """Add up the entropies [N, L + 1] of all blocks."""
    return np.sum(measured, 1)


def progressivity(measured: Any) -> np.ndarray:
    """Take the least growth of the entropy from a block to the next."""
    return np.min(np.diff(measured, axis=1), 1)


def largest_singular_values(
    net: Any, variables: Any, batches: base.Batches, arch: Any
) -> jax.Array:
    """Estimate the spectral norm of each block's Jacobian: [L].

    Random signs go backward through each block. The mean over rows of the products of what comes
    out and what went in estimates the Jacobian; its largest singular value is measured. Where a
    block halves the resolution, four rows become one of four times the channels.
    """
    see = functools.partial(base.observe, net, images=_noise(batches), arch=arch)
    kinds = [observed.BLOCKS, observed.PERTURBATIONS]
    _, shapes = jax.eval_shape(lambda: see(variables, kinds=kinds))
    zeros = optax.tree.zeros_like(shapes.get(observed.PERTURBATIONS, {}))

    def blocks(perturbations):
        given = {**variables, observed.PERTURBATIONS: perturbations}
        _, seen = see(given, kinds=[observed.BLOCKS])
        return _in_order(seen.get(observed.BLOCKS, {}), net)

    found, pull = jax.vjp(blocks, zeros)
    keys = jax.random.split(jax.random.fold_in(batches.key, 1), len(found))
    signs = [jax.random.rademacher(key, x.shape, x.dtype) for key, x in zip(keys, found)]
    (pulled,) = pull(signs)
    pulled = [pulled[name] for name in sorted(pulled)]
    return jnp.stack([_spectral_norm(*pair) for pair in zip(pulled, signs[1:])])


def _spectral_norm(before, after):
    """Estimate the norm; inf for the identity, which hands the signs back: it trains nothing."""
    if before.size == after.size:
        same = jnp.all(before.reshape(after.shape) == after)
        return jnp.where(same, jnp.inf, _of_rows(before, after))
    return _of_rows(before, after)


def _of_rows(before, after):
    before = _rows(before, before.shape[-3] // after.shape[-3])
    after = _rows(after, 1)
    return jnp.linalg.svd(before.T @ after / len(after), compute_uv=False)[0]


def _rows(x, factor):
    """Make rows of [1, n, H, W, C], or [n, ..], of factor x factor pixels each."""
    *_, height, width, channels = x.shape
    x = x.reshape(-1, height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, factor * factor * channels)


def trainability(measured: Any) -> np.ndarray:
    """Take the mean of 2 - s - 1 / s over the blocks' norms s, [N, L]; best where all are 1.

    As in the published code it is -inf where a block hands on what it gets.
    """
    norms = np.asarray(measured, np.float64)
    return np.mean(2 - norms - 1 / (norms + 1e-6), 1)
