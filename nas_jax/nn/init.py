"""The initial variables of a network, and the shapes of a supernet's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
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

    Returns: variables as of `net.init`, the kernels as NumPy arrays.
    """
    variables = jax.jit(net.clone(kernel_init=layers.he_scale).init)(key, images, *archs)
    leaves, treedef = jax.tree.flatten(variables)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
    noise = np.split(np.asarray(jax.random.normal(key, (sum(sizes),))), np.cumsum(sizes)[:-1])
    return treedef.unflatten(
        [leaf * z.reshape(leaf.shape) if z.size else leaf for leaf, z in zip(leaves, noise)]
    )


def params_shape(net: Network, image_shape: tuple[int, ...]) -> Any:
    """Return shapes and dtypes of a supernet's parameters, for images [H, W, C]."""
    key, images = jax.random.key(0), jnp.zeros((1, *image_shape), jnp.float32)
    return jax.eval_shape(net.init, key, images, net.space.all_on())["params"]
