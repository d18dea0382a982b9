"""The initial variables of a network."""

import contextlib
import functools
from collections.abc import Iterator
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
    on `archs`. Arrays of more than one axis are kernels; scales and offsets are constants. An array
    that does not come from the network's `kernel_init`, such as of a plain `nn.Dense` or of another
    initialiser, is as its own initialiser makes it.

    Args:
      key: consumed.
      net: the network.
      images: float32, of a shape that the network takes.
      *archs: masks, for a supernet.

    Returns: variables as of `net.init`, as NumPy arrays.

    Raises: ValueError if the network has a layer of Flax that does not fit groups or masks.
    """
    scales, doubled = (jax.device_get(_scales(net)(by, key, images, *archs)) for by in (1.0, 2.0))
    return _drawn(key, scales, doubled, jax.tree.map(lambda leaf: True, scales))


@functools.lru_cache(8)  # equal networks share the program
def _scales(net):
    @jax.jit
    def scales(by, key, images, *archs):
        with layers.scales_multiplied(by), refusing_layers():
            return net.clone(kernel_init=layers.he_scale).init(key, images, *archs)

    return scales


def _drawn(key, scales, doubled, used):
    """Multiply the standard deviations of the kernels that are drawn by normal numbers.

    The n-th number does not depend on how many there are. So a network's kernels are the same
    within a larger tree, whose other kernels become zero.

    Args:
      key: consumed.
      scales, doubled: variables, where `kernel_init` gives the standard deviation, and twice that:
        an array that is the same in both has another initialiser.
      used: tree of bool.
    """
    leaves, treedef = jax.tree.flatten(scales)
    has_own = [np.array_equal(a, b) for a, b in zip(leaves, jax.tree.leaves(doubled))]
    sizes = [0 if leaf.ndim < 2 or own else leaf.size for leaf, own in zip(leaves, has_own)]
    taken = [size if is_used else 0 for size, is_used in zip(sizes, jax.tree.leaves(used))]
    noise = np.asarray(jax.random.normal(key, (sum(sizes),)))  # one program, whatever is used
    parts = np.split(noise[: sum(taken)], np.cumsum(taken)[:-1])
    marks = zip(leaves, parts, has_own, jax.tree.leaves(used), strict=True)
    return treedef.unflatten([_scaled(*each) for each in marks])


def _scaled(leaf, noise, has_own, is_used):
    if leaf.ndim < 2 or (has_own and is_used):
        return leaf
    return leaf * noise.reshape(leaf.shape) if noise.size else np.zeros(leaf.shape, leaf.dtype)


_REFUSED = {
    nn.BatchNorm: "use the op's `norm` (nas_jax.nn.layers.BatchNorm), which knows groups",
    nn.Dropout: "leave it out: path dropout and L2 regularise here, and networks draw nothing",
}


@contextlib.contextmanager
def refusing_layers() -> Iterator[None]:
    """Refuse, in the block, layers of Flax that do not fit groups or masks."""

    def refuse(call, args, kwargs, context):
        for kind, instead in _REFUSED.items():
            if isinstance(context.module, kind):
                where = "/".join(context.module.path)
                raise ValueError(f"{where} is a flax.linen.{kind.__name__}: {instead}")
        return call(*args, **kwargs)

    with nn.intercept_methods(refuse):
        yield


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
        (scales, used), (doubled, _) = (jax.device_get(self._scales(x, key, arch)) for x in (1, 2))
        return _drawn(key, scales, doubled, used)


@functools.lru_cache(8)
def _scales_and_usage(net):
    @jax.jit
    def scales(images, by, key, arch):
        with layers.scales_multiplied(by), refusing_layers():
            variables = net.clone(kernel_init=layers.he_scale).init(key, images, arch)
        return variables, {name: net.space.usage(x, arch) for name, x in variables.items()}

    return scales
