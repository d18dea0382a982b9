"""What a training-free proxy is: a value of an architecture's network with initial weights.

A proxy measures on the device, one architecture at a time; the host makes values, in float64.

Letters: N architectures, n images of a batch, b batches, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Batches(NamedTuple):
    """What a proxy reads.

    Attributes:
      images: standardised, float32 [b, n, H, W, C].
      labels: int32 [b, n].
      key: of what is drawn.
    """

    images: jax.Array
    labels: jax.Array
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A training-free proxy.

    Attributes:
      measure: (net, variables, batches, arch) -> a tree of arrays; pure, traced once; `arch` has
        masks [k], or is None for a stand-alone network.
      value: the measured trees of N architectures, float64 [N, ...] -> float64 [N], the higher the
        better; not finite: the proxy has no value, as for a network whose input reaches nothing.
      num_batches: b.
      bn: statistics of batch norm while it measures; see `nas_jax.nn.layers.BatchNorm`.
      weights: "he": the initial weights of the network; "normal": of variance 1.
      blocks: whether it reads outputs of blocks, which a space must show.
      gradients: whether it takes gradients; it then needs about three times as long.
    """

    measure: Callable[[nn.Module, Any, Batches, Any], Any]
    value: Callable[[Any], np.ndarray]
    num_batches: int = 1
    bn: str = "batch"
    weights: str = "he"
    blocks: bool = False
    gradients: bool = True


def of_each(net: nn.Module, proxy: Proxy) -> Callable[[Any, Batches, Any], Any]:
    """Make (variables, batches, masks [g, k]) -> what the proxy measures of each, [g, ...]; pure.

    It is one after the other under the execution "switch", else all at once.
    """

    def measure(variables, batches, archs):
        one = functools.partial(proxy.measure, net.clone(bn=proxy.bn), variables, batches)
        return jax.lax.map(one, archs) if net.execution == "switch" else jax.vmap(one)(archs)

    return measure


def as_measured(values: Any) -> np.ndarray:
    """Return the measured numbers, [N], as the values."""
    return np.asarray(values, np.float64)


def logits(net: nn.Module, variables: Any, images: jax.Array, arch: Any) -> jax.Array:
    """Return logits float32 [n, K] of images [n, H, W, C]."""
    return net.apply(variables, images) if arch is None else net.apply(variables, images, arch)


def observe(net: nn.Module, variables: Any, images: jax.Array, arch: Any, kinds: Any) -> tuple:
    """Return the logits and what `nas_jax.nn.observed` names, of images [n, H, W, C]."""
    args = () if arch is None else (arch,)
    return net.apply(variables, images, *args, mutable=kinds)


def loss_gradient(net: nn.Module, variables: Any, batches: Batches, number: int, arch: Any) -> Any:
    """Return the gradient, by the parameters, of the mean cross-entropy on a batch."""

    def loss(params):
        outputs = logits(net, {"params": params}, batches.images[number], arch)
        labels = batches.labels[number]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))

    return jax.grad(loss)(variables["params"])


def kernels(tree: Any) -> list[jax.Array]:
    """List the kernels of a tree of parameters: arrays of more than one axis."""
    flat = flax.traverse_util.flatten_dict(tree)
    return [flat[path] for path in sorted(flat) if flat[path].ndim > 1]
