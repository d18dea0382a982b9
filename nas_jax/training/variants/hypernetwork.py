"""Hypernetworks: a network generates kernels of the supernet from the architecture.

The weights depend on the architecture, so that no two architectures share all of them. Candidates
are ranked with their generated weights. What is not generated, all architectures share.

`HyperNetwork` is the base. `BasisNetwork` is the light form, for 1x1 kernels that are sums of a
basis; `dense_hypernetwork` has the form that SMASH published.

Letters: G groups (see `masked.to_groups`), N generated kernels, R arrays of a basis.
"""

import abc
import dataclasses
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from nas_jax.nn import layers, masked, network
from nas_jax.spaces import base
from nas_jax.spaces import params as params_lib

SUPERNET = "net"  # scope of the supernet's own parameters


class HyperNetwork(network.Network):
    """The supernet with generated kernels; it is called as the supernet is.

    Parameters of the supernet are in the scope `net`.
    """

    @nn.compact
    def __call__(self, images: jax.Array, arch: base.Arch) -> jax.Array:
        """Map images [B, H, W, C] or [G or 1, n, H, W, C] to logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images, arch)
        shared = self._shared(images)
        of_groups = self.of_groups(images, masks)
        logits = self._logits(shared, of_groups, images, masks)
        return logits.reshape(*leading, -1)

    @nn.nowrap
    @abc.abstractmethod
    def stored(self, scales: dict[base.Path, jax.Array], channels: int) -> dict[base.Path, Any]:
        """Return what is stored of the supernet's arrays, by path, for images of `channels`.

        `scales` has the standard deviations of their initial values.
        """

    @abc.abstractmethod
    def of_groups(self, images: jax.Array, masks: base.Arch) -> Any:
        """Compute what each group has for itself from masks [G, k]: a tree of arrays [G, ...]."""

    @nn.nowrap
    @abc.abstractmethod
    def whole(
        self, shared: dict[base.Path, jax.Array], of_group: Any, channels: int
    ) -> dict[base.Path, jax.Array]:
        """Make the supernet's parameters, by path, for one group; `of_group` has no axis G."""

    @nn.nowrap
    def _net(self):
        """Make the supernet itself, for one group at a time."""
        options = options_of(self)
        return options.pop("space").network(**options, parent=None)

    def _shared(self, images):
        """Return what is stored of the supernet's parameters."""
        if not self.is_initializing():
            return self.get_variable("params", SUPERNET)
        example = jnp.zeros((1, *images.shape[2:]), images.dtype)
        net, everything = self._net().clone(kernel_init=layers.he_scale), self.space.all_on()

        def init(key):
            flat = flax.traverse_util.flatten_dict(net.init(key, example, everything)["params"])
            scales = flax.traverse_util.unflatten_dict(self.stored(flat, images.shape[-1]))
            return scales if self.kernel_init is layers.he_scale else _drawn(key, scales)

        return self.param(SUPERNET, init)

    def _logits(self, shared, of_groups, images, masks):
        """Compute logits [G, n, K], with generated weights for each group."""
        net, channels = self._net(), images.shape[-1]
        shared = flax.traverse_util.flatten_dict(shared)

        def params(of_group):
            flat = self.whole(shared, of_group, channels)
            return {"params": flax.traverse_util.unflatten_dict(flat)}

        if len(jax.tree.leaves(masks)[0]) == 1 or net.execution == "switch":
            # "switch" refuses several groups of masks
            return net.apply(params(jax.tree.map(lambda x: x[0], of_groups)), images, masks)
        net = net.clone(execution="masked")  # each lane of `vmap` has one group

        def of_one(of_group, images, masks):
            masks = jax.tree.map(lambda mask: mask[None], masks)
            return net.apply(params(of_group), images[None], masks)[0]

        is_shared = images.shape[0] == 1
        axes = 0, None if is_shared else 0, 0
        return jax.vmap(of_one, axes)(of_groups, images[0] if is_shared else images, masks)


class BasisNetwork(HyperNetwork):
    """The light form: a generated kernel is a weighted sum of the R arrays of its basis.

    The weights are a code of norm one, which a network of one hidden layer computes from the masks.
    The norm has two consequences. At first a generated kernel is as large as a kernel of the
    supernet. A step of gradient descent on the basis moves it as far as it would move a kernel of
    the supernet, and moves the kernel of another architecture by the scalar product of the two
    codes.

    All 1x1 kernels are generated. In the scope `net` a basis has a leading axis R.

    Attributes:
      hidden: units of the hidden layer.
      basis: R, the arrays of a basis; 2 or more.
    """

    hidden: int = 64
    basis: int = 4

    @nn.nowrap
    def generated(self, channels: int) -> list[base.Path]:
        """List the paths of the kernels that are generated, for images of `channels`."""
        shapes = params_lib.param_shapes(self.space, self.filters, self.num_classes, channels)
        return [path for path, shape in shapes.items() if is_pointwise(shape)]

    @nn.nowrap
    def stored(self, scales, channels):
        """Put a basis in place of each generated kernel."""
        bases = {path: jnp.stack([scales[path]] * self.basis) for path in self.generated(channels)}
        return scales | bases

    def of_groups(self, images, masks):
        """Compute codes float32 [G, N, R]: (1, x) / sqrt(1 + |x|^2), with x [R - 1] from masks.

        They have norm one, and the constant 1 keeps them away from zero, where the norm has no
        gradient. Unbounded codes would diverge: their effect on the loss adds up over whole
        kernels.
        """
        count = len(self.generated(images.shape[-1]))
        x = jnp.concatenate(
            [jnp.where(mask != 0, 1.0, -1.0) for mask in jax.tree.leaves(masks)], -1
        )
        init = self.kernel_init(x.shape[-1])
        x = nn.relu(nn.Dense(self.hidden, kernel_init=init, name="hidden")(x))
        init = self.kernel_init(2 * self.hidden)  # no ReLU follows: half the variance
        x = nn.Dense(count * (self.basis - 1), kernel_init=init, name="codes")(x)
        x = jnp.pad(
            x.reshape(-1, count, self.basis - 1), ((0, 0), (0, 0), (1, 0)), constant_values=1
        )
        return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True))

    @nn.nowrap
    def whole(self, shared, of_group, channels):
        """Multiply each basis by its code and add it up; `of_group` is codes [N, R]."""
        codes = dict(zip(self.generated(channels), of_group))
        return shared | {path: jnp.tensordot(code, shared[path], 1) for path, code in codes.items()}


def is_pointwise(shape: tuple[int, ...]) -> bool:
    """Say whether an array of this shape is the kernel of a 1x1 convolution."""
    return len(shape) == 4 and shape[:2] == (1, 1)


def options_of(net: network.Network) -> dict[str, Any]:
    """Return the fields that a network of any space is made with, but `widths`."""
    fields = {f.name for f in dataclasses.fields(network.Network)} - {"parent", "name", "widths"}
    return {name: getattr(net, name) for name in fields}


def _drawn(key, scales):
    """Draw normal kernels with these standard deviations; keep arrays of one axis."""
    leaves, treedef = jax.tree.flatten(scales)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [x * jax.random.normal(k, x.shape) if x.ndim > 1 else x for k, x in zip(keys, leaves)]
    )
