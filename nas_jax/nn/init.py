"""The initial variables of a network."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from nas_jax.nn import layers


def init(key: jax.Array, net: nn.Module, images: jax.Array, *archs: Any) -> Any:
    """Variables distributed as by `net.init`, but all kernels come from one draw, whatever `archs`.

    Hundreds of draws make a program that takes XLA 20 s to compile; so the network is initialised
    with each kernel's standard deviation and multiplied by slices of one standard normal vector.
    Arrays of more than one axis are kernels; scales and offsets are constants anyway.
    """
    variables = jax.jit(net.clone(kernel_init=layers.he_scale).init)(key, images, *archs)
    leaves, treedef = jax.tree.flatten(variables)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    noise = np.split(np.asarray(jax.random.normal(key, (sum(sizes),))), np.cumsum(sizes)[:-1])
    return treedef.unflatten(
        [leaf * z.reshape(leaf.shape) if z.size else leaf for leaf, z in zip(leaves, noise)]
    )
