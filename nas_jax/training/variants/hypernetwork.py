"""SMASH (Brock et al., ICLR 2018): a hypernetwork generates weights of the one-shot model from the
architecture, so that no two architectures share them all; random candidates are ranked with theirs.

As in SMASH it generates the 1x1 convolutions. Other kernels, batch norms and the classifier are
shared, as they are without it.

Letters: G groups (see `supernet.to_groups`), N generated kernels, R arrays of a basis.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from nas_jax.nn import layers, masked, network
from nas_jax.spaces import Space, base
from nas_jax.training.variants.base import TrainingVariant, check_range


class HyperNetwork(network.Network):
    """The one-shot model with generated weights; it is called as the one-shot model is.

    A generated kernel is the sum of its basis of R arrays, weighted by a code of norm one, which a
    network of one hidden layer reads off the masks. So it is as large at first as a kernel of the
    one-shot model; and a step of gradient descent on the basis moves it as far as it would move
    that, and the kernel of another architecture by the scalar product of their codes.

    Parameters of the one-shot model are in the scope `net`, where a basis has a leading axis R.

    Attributes:
      hidden: units of the hidden layer.
      basis: R, 2 or more.
    """

    hidden: int = 64
    basis: int = 4

    @nn.compact
    def __call__(self, images: jax.Array, arch: base.Arch) -> jax.Array:
        """Images [B, H, W, C] or [G or 1, n, H, W, C] -> logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images, arch)
        params = self._params(images)
        paths = self._generated(images)
        codes = self._codes(masks, len(paths))
        logits = _of_groups(self._net(), params, paths, codes, images, masks)
        return logits.reshape(*leading, -1)

    def _net(self):
        """The one-shot model itself, of one group at a time."""
        options = _options(self)
        return options.pop("space").network(**options, parent=None)

    def _generated(self, images):
        """Paths of the kernels that are generated."""
        channels = images.shape[-1]
        shapes = base.param_shapes(self.space, self.filters, self.num_classes, channels)
        return [p for p, shape in shapes.items() if len(shape) == 4 and shape[:2] == (1, 1)]

    def _params(self, images):
        """Those of the one-shot model, with a basis in place of a kernel that is generated."""
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
        """Float32 [G, N, R]: (1, x) / sqrt(1 + |x|^2), with x [R - 1] from the masks.

        Of norm one, and nowhere near where that has no gradient. Unbounded codes run away: what
        they do to a loss adds up over whole kernels.
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
    """What a network of any space is made with; the one-shot model has no widths of its own."""
    fields = {f.name for f in dataclasses.fields(network.Network)} - {"parent", "name", "widths"}
    return {name: getattr(net, name) for name in fields}


def _drawn(key, scales):
    """Normal kernels with these standard deviations; what has one axis stays as it is."""
    leaves, treedef = jax.tree.flatten(scales)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [x * jax.random.normal(k, x.shape) if x.ndim > 1 else x for k, x in zip(keys, leaves)]
    )


def _of_groups(net, params, paths, codes, images, masks):
    """Logits [G, n, K], each group with weights of its own."""
    if len(codes) == 1 or net.execution == "switch":  # which refuses several groups
        return net.apply({"params": generate(params, paths, codes[0])}, images, masks)
    net = net.clone(execution="masked")  # a group's weights are those of one lane

    def of_one(codes, images, masks):
        masks = jax.tree.map(lambda mask: mask[None], masks)
        return net.apply({"params": generate(params, paths, codes)}, images[None], masks)[0]

    shared = images.shape[0] == 1
    axes = 0, None if shared else 0, 0
    return jax.vmap(of_one, axes)(codes, images[0] if shared else images, masks)


def generate(params: Any, paths: list[base.Path], codes: jax.Array) -> Any:
    """The one-shot model's parameters for codes [N, R]: the kernels at `paths` are generated."""
    flat = flax.traverse_util.flatten_dict(params)
    for path, code in zip(paths, codes):
        flat[path] = jnp.tensordot(code, flat[path], 1)
    return flax.traverse_util.unflatten_dict(flat)


def make(space: Space, *, hidden: int = 64, basis: int = 4) -> TrainingVariant:
    """Make a variant with generated weights.

    Args:
      space: the search space.
      hidden, basis: of `HyperNetwork`. With one array to a basis nothing would be generated.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, hidden=hidden)
    check_range(2, None, basis=basis)

    def wrap(net):
        return HyperNetwork(**_options(net), hidden=hidden, basis=basis)

    return TrainingVariant(wrap=wrap)
