"""Proxies that read gradients, by the weights (norm, SNIP, SynFlow, ZiCo) or by the images."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.proxies import base


def gradient_norm(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Add up the Euclidean norms of the loss's gradient by each kernel."""
    gradient = base.loss_gradient(net, variables, batches, 0, arch)
    return sum(jnp.linalg.norm(g.ravel()) for g in base.kernels(gradient))


def snip(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Add up |weight * gradient of the loss by it| over the weights of all kernels."""
    gradient = base.loss_gradient(net, variables, batches, 0, arch)
    pairs = zip(base.kernels(variables["params"]), base.kernels(gradient))
    return sum(jnp.sum(jnp.abs(w * g)) for w, g in pairs)


# In place of SynFlow's ones, and of 1 as the gradient of the summed logits. The flow is linear in
# both. They are small so that float32 holds more layers.
_INPUT, _OUTPUT = 2.0**-64, 2.0**-48


def synflow(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Add up |weight| * gradient of the sum of logits by it, on an image of ones.

    There is no batch norm. All parameters are made positive first. The log is measured, as sums
    grow with every layer; float32 holds those whose log is up to about 120.
    """
    params = jax.tree.map(jnp.abs, variables["params"])
    image = jnp.full((1, *batches.images.shape[2:]), _INPUT)

    def flow(params):
        return _OUTPUT * jnp.sum(base.logits(net, {"params": params}, image, arch))

    pairs = zip(base.kernels(params), base.kernels(jax.grad(flow)(params)))
    return jnp.log(sum(jnp.sum(w * g) for w, g in pairs))


def held(logs: Any) -> np.ndarray:
    """Return the logs of the flow, [N], without the two scales: -inf where nothing flows.

    Raises: ValueError if one is beyond what float32 holds.
    """
    logs = np.asarray(logs, np.float64)
    if np.any(np.isnan(logs) | (logs == np.inf)):
        raise ValueError(
            "config.sweep.score: the flow of 'synflow' through so many layers is beyond float32; "
            "measure smaller ones: config.sweep.proxy.space=(('num_cells', 1),), or fewer filters"
        )
    return logs - math.log(_INPUT) - math.log(_OUTPUT)


def zico(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Add up over kernels the log of the sum over weights of mean |gradient| / deviation.

    A weight whose gradient is equal on all batches is left out, as is a kernel of such weights.
    """
    numbers = range(len(batches.images))
    each = [base.kernels(base.loss_gradient(net, variables, batches, i, arch)) for i in numbers]
    return sum(map(_log_ratio, map(jnp.stack, zip(*each))))


def _log_ratio(gradients):
    deviation = jnp.std(gradients, 0)
    varies = deviation > 0
    ratio = jnp.mean(jnp.abs(gradients), 0) / jnp.where(varies, deviation, 1)
    ratios = jnp.sum(jnp.where(varies, ratio, 0))
    return jnp.where(ratios > 0, jnp.log(jnp.where(ratios > 0, ratios, 1)), 0)


def image_gradients(net: Any, variables: Any, batches: base.Batches, arch: Any) -> jax.Array:
    """Correlate the gradients of the summed logits by each image: [n, n]."""

    def summed(images):
        return jnp.sum(base.logits(net, variables, images, arch))

    rows = jax.grad(summed)(batches.images[0])
    rows = rows.reshape(len(rows), -1)
    rows -= jnp.mean(rows, 1, keepdims=True)
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


_SMALL = 1e-5  # added to eigenvalues


def spread(correlations: Any) -> np.ndarray:
    """Map correlations [N, n, n], eigenvalues v, to -sum of log(v + k) + 1 / (v + k): [N]."""
    scores = np.full(len(correlations), np.nan)
    for i, matrix in enumerate(np.asarray(correlations, np.float64)):
        if np.all(np.isfinite(matrix)):
            values = np.linalg.eigvalsh(matrix) + _SMALL
            scores[i] = -np.sum(np.log(values) + 1 / values)
    return scores
