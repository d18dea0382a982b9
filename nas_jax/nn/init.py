"""The initial variables of a network."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from nas_jax.nn import layers
from nas_jax.nn.network import Network


def init(key: jax.Array, net: nn.Module, images: jax.Array, *archs: Any) -> Any:
    """Draw the initial variables of a network, distributed as by `net.init`.

    All kernels come from one standard normal vector, as XLA takes 20 s to compile a program with
    hundreds of draws. `net.init` gives each kernel's standard deviation. The draw does not depend
    on `archs`. Arrays of more than one axis are kernels; scales and offsets are constants.

    Args:
      key: consumed.
      net: the network.
      images: float32, of a shape that the network takes.
      *archs: masks, for a supernet.

    Returns: variables as of `net.init`, as NumPy arrays.
    """
    scales = jax.device_get(_scales(net)(key, images, *archs))
    return _drawn(key, scales, jax.tree.map(lambda leaf: True, scales))


@functools.lru_cache(8)  # equal networks share the program
def _scales(net):
    return jax.jit(net.clone(kernel_init=layers.he_scale).init)


def _drawn(key, scales, used):
    """Multiply the standard deviations of the kernels that are drawn by normal numbers.

    The n-th number does not depend on how many there are. So a network's kernels are the same
    within a larger tree, whose other kernels become zero.
    """
    leaves, treedef = jax.tree.flatten(scales)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    taken = [size if is_used else 0 for size, is_used in zip(sizes, jax.tree.leaves(used))]
    noise = np.asarray(jax.random.normal(key, (sum(sizes),)))  # one program, whatever is used
    parts = np.split(noise[: sum(taken)], np.cumsum(taken)[:-1])
    return treedef.unflatten([_scaled(leaf, z) for leaf, z in zip(leaves, parts)])


def _scaled(leaf, noise):
    if leaf.ndim < 2:
        return leaf
    return leaf * noise.reshape(leaf.shape) if noise.size else np.zeros(leaf.shape, leaf.dtype)


class StandaloneInit:
    """Draws the initial variables of stand-alone networks, in the tree of their supernet.

    They equal those of `init` for the network of the architecture, to the bit. Kernels that it does
    not have are zero. One program serves all architectures.

    Args:
      net: the supernet.
      images: float32, of a shape that it takes.
    """

    def __init__(self, net: Network, images: jax.Array):
        self._scales = functools.partial(_scales_and_usage(net), images)

    def __call__(self, key: jax.Array, arch: Any) -> Any:
        """Draw the variables of one architecture, masks [k]; `key` is consumed."""
        return _drawn(key, *jax.device_get(self._scales(key, arch)))


@functools.lru_cache(8)
def _scales_and_usage(net):
    @jax.jit
    def scales(images, key, arch):
        variables = net.clone(kernel_init=layers.he_scale).init(key, images, arch)
        return variables, {name: net.space.usage(x, arch) for name, x in variables.items()}

    return scales
