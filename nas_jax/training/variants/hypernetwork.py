"""SMASH (Brock et al., ICLR 2018): a hypernetwork generates weights of the supernet.

The weights depend on the architecture, so that no two architectures share all of them. Candidates
are ranked with their generated weights. As in SMASH the hypernetwork generates the kernels of 1x1
convolutions. All architectures share other kernels, batch norms and the classifier.

Letters: G groups (see `masked.to_groups`), N generated kernels, R arrays of a basis.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from nas_jax.nn import layers, masked, network
from nas_jax.oneshot.training_variant import TrainingVariant, check_range
from nas_jax.spaces import Space, base
from nas_jax.spaces import params as params_lib


class HyperNetwork(network.Network):
    """The supernet with generated weights; it is called as the supernet is.

    A generated kernel is a weighted sum of the R arrays of its basis. The weights are a code of
    norm one, which a network of one hidden layer computes from the masks. The norm has two
    consequences. At first a generated kernel is as large as a kernel of the supernet. A step of
    gradient descent on the basis moves it as far as it would move a kernel of the supernet, and
    moves the kernel of another architecture by the scalar product of the two codes.

    Parameters of the supernet are in the scope `net`, where a basis has a leading axis R.

    Attributes:
      hidden: units of the hidden layer.
      basis: R, the arrays of a basis; 2 or more.
    """

    hidden: int = 64
    basis: int = 4

    @nn.compact
    def __call__(self, images: jax.Array, arch: base.Arch) -> jax.Array:
        """Map images [B, H, W, C] or [G or 1, n, H, W, C] to logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images, arch)
        params = self._params(images)
        paths = self._generated(images)
        codes = self._codes(masks, len(paths))
        logits = _of_groups(self._net(), params, paths, codes, images, masks)
        return logits.reshape(*leading, -1)

    def _net(self):
        """Make the supernet itself, for one group at a time."""
        options = _options(self)
        return options.pop("space").network(**options, parent=None)

    def _generated(self, images):
        """List the paths of the kernels that are generated."""
        channels = images.shape[-1]
        shapes = params_lib.param_shapes(self.space, self.filters, self.num_classes, channels)
        return [p for p, shape in shapes.items() if len(shape) == 4 and shape[:2] == (1, 1)]

    def _params(self, images):
        """Return the supernet's parameters, with a basis in place of each generated kernel."""
        if not self.is_initializing():
            return self.get_variable("params", "net")
        example = jnp.zeros((1, *images.shape[2:]), images.dtype)
        net, everything = self._net().clone(kernel_init=layers.he_scale), self.space.all_on()

        def init(key):
            flat = flax.traverse_util.flatten_dict(net.init(key, example, everything)["params"])
            for path in self._generated(images):
                flat[path] = jnp.stack([flat[path]] * self.basis)
            scales = flax.traverse_util.unflatten_dict(flat)
            return scales if self.kernel_init is layers.he_scale else _drawn(key, scales)

        return self.param("net", init)

    def _codes(self, masks, count):
        """Compute codes float32 [G, N, R]: (1, x) / sqrt(1 + |x|^2), with x [R - 1] from masks.

        They have norm one, and the constant 1 keeps them away from zero, where the norm has no
        gradient. Unbounded codes would diverge: their effect on the loss adds up over whole
        kernels.
        """
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


def _options(net):
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


def _of_groups(net, params, paths, codes, images, masks):
    """Compute logits [G, n, K], with generated weights for each group."""
    if len(codes) == 1 or net.execution == "switch":  # "switch" refuses several groups
        return net.apply({"params": generate(params, paths, codes[0])}, images, masks)
    net = net.clone(execution="masked")  # each lane of `vmap` has one group

    def of_one(codes, images, masks):
        masks = jax.tree.map(lambda mask: mask[None], masks)
        return net.apply({"params": generate(params, paths, codes)}, images[None], masks)[0]

    shared = images.shape[0] == 1
    axes = 0, None if shared else 0, 0
    return jax.vmap(of_one, axes)(codes, images[0] if shared else images, masks)


def generate(params: Any, paths: list[base.Path], codes: jax.Array) -> Any:
    """Generate the kernels at `paths` from codes [N, R]; return the supernet's parameters."""
    flat = flax.traverse_util.flatten_dict(params)
    for path, code in zip(paths, codes):
        flat[path] = jnp.tensordot(code, flat[path], 1)
    return flax.traverse_util.unflatten_dict(flat)


def make(space: Space, *, hidden: int = 64, basis: int = 4) -> TrainingVariant:
    """Make a variant with generated weights.

    Args:
      space: the search space.
      hidden: units of the hidden layer, 1 or more.
      basis: arrays of a basis, 2 or more. With one array all architectures would share it.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, hidden=hidden)
    check_range(2, None, basis=basis)

    def wrap(net):
        return HyperNetwork(**_options(net), hidden=hidden, basis=basis)

    return TrainingVariant(wrap=wrap)
