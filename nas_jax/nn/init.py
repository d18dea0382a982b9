"""The initial variables of a network."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from nas_jax.nn import layers


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

    Returns: variables as of `net.init`, the kernels as NumPy arrays.
    """
    variables = jax.jit(net.clone(kernel_init=layers.he_scale).init)(key, images, *archs)
    leaves, treedef = jax.tree.flatten(variables)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    noise = np.split(np.asarray(jax.random.normal(key, (sum(sizes),))), np.cumsum(sizes)[:-1])
    return treedef.unflatten(
        [leaf * z.reshape(leaf.shape) if z.size else leaf for leaf, z in zip(leaves, noise)]
    )
