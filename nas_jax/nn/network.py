"""The common part of the networks of all spaces: their options, checked, and their classifier."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.nn import execution, layers, observed

CLASSIFIER = "classifier"  # scope of the linear classifier that ends every network
DTYPES = ("float32", "bfloat16", "float16")


class NetworkOptions(NamedTuple):
    """Options that all networks of a run share: arguments of `Space.supernet` and `.standalone`.

    Attributes:
      dtype, execution, bn_momentum, bn_epsilon, relu_before_bn: as of `Network`.
    """

    dtype: Any
    execution: str
    bn_momentum: float
    bn_epsilon: float
    relu_before_bn: bool


def default_dtype(platform: str) -> str:
    """Name the dtype of activations that suits a platform: float32 on a "cpu", else bfloat16."""
    return "float32" if platform == "cpu" else "bfloat16"


class Network(nn.Module):
    """The base of the spaces' networks; see `Space.supernet` and `Space.standalone`.

    Attributes:
      space: the search space.
      num_classes: K.
      filters: F.
      arch: canonical string of a stand-alone network; None for the supernet.
      bn, bn_momentum, bn_epsilon, relu_before_bn: `statistics`, `momentum`, `epsilon` and
        `relu_before` of `layers.BatchNorm`.
      dtype: of activations, one of `DTYPES`, or a dtype such as `jnp.float32`.
      execution: one of `execution.NAMES`; see `nas_jax.nn.execution`.
      kernel_init: from the fan-in to an initialiser.
      widths: channels of each tensor, see `Space.standalone`.

    Raises: ValueError if an option is unknown or out of its range.
    """

    space: Any
    num_classes: int
    filters: int
    arch: str | None = None
    bn: str = "batch"
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-3
    relu_before_bn: bool = False
    dtype: Any = jnp.float32
    execution: str = "masked"
    kernel_init: Any = layers.he_normal
    widths: tuple[int, ...] | None = None

    def __post_init__(self):
        naming.check("bn", self.bn, layers.STATISTICS)
        execution.split(self.execution)  # raises
        naming.check("dtype", _dtype_name(self.dtype), DTYPES)
        if not isinstance(self.relu_before_bn, bool | np.bool_):
            raise ValueError(f"relu_before_bn={self.relu_before_bn!r} must be True or False")
        if not 0 <= self.bn_momentum < 1:
            raise ValueError(f"bn_momentum={self.bn_momentum} must be at least 0 and below 1")
        if not self.bn_epsilon > 0:
            raise ValueError(f"bn_epsilon={self.bn_epsilon} must be above 0")
        super().__post_init__()

    @property
    def unit(self) -> dict[str, Any]:
        """Return the arguments of every unit of a convolution and a batch norm."""
        options = self.bn, self.bn_momentum, self.bn_epsilon, self.relu_before_bn
        norm = layers.partial(layers.BatchNorm, *options)
        return {"norm": norm, "kernel_init": self.kernel_init}

    @property
    def tensor_widths(self) -> dict[str, int]:
        """Return {name of a tensor: its width}; empty if the widths follow from `filters`."""
        return dict(zip(self.space.tensors(self.arch), self.widths)) if self.widths else {}

    @property
    def on(self) -> Any:
        """Return the options that are built of each Choice, a tree of tuples; all in a supernet."""
        return self.space.indices(self.space.all_on() if self.arch is None else self.arch)

    def logits(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] to logits float32 [G, n, K]: mean over pixels, linear classifier.

        Call it in a compact method, whose scope the classifier needs.
        """
        observed.features(self, x)
        x = jnp.mean(x.astype(jnp.float32), (2, 3))
        init = self.kernel_init(2 * x.shape[-1])  # no ReLU follows: half the variance
        return nn.Dense(self.num_classes, kernel_init=init, name=CLASSIFIER)(x)

    @nn.nowrap
    def logits_of_each(
        self, variables: Any, images: jax.Array, archs: Any, per_arch: Any = ()
    ) -> jax.Array:
        """Return logits float32 [g, n, K] of g architectures on the same images.

        `execution` decides how, as in training.

        Args:
          variables: of the supernet.
          images: [n, H, W, C].
          archs: masks [g, k].
          per_arch: variables [g, ...] that differ between architectures, a dict of collections.
        """

        def one(arch, its_variables):
            return self.apply({**variables, **dict(its_variables)}, images, arch)

        if self.execution == "switch" and not per_arch:
            return self.one_after_the_other(variables, images, archs)
        if self.execution == "switch":
            return jax.lax.map(lambda pair: one(*pair), (archs, per_arch))
        if execution.split(self.execution)[0] == "dispatch" and not per_arch:
            return self.apply(variables, images[None], archs)
        return jax.vmap(one)(archs, per_arch)

    @nn.nowrap
    def one_after_the_other(self, variables: Any, images: jax.Array, archs: Any) -> jax.Array:
        """Return logits as `logits_of_each`, computed for one architecture after the other.

        Layers before the first mask are computed once. A chain (`spaces.nasbench_macro`) also keeps
        the layers that an architecture shares with the one before.
        """
        return jax.lax.map(lambda arch: self.apply(variables, images, arch), archs)


def _dtype_name(dtype):
    try:
        return jnp.dtype(dtype).name
    except TypeError:  # no dtype of NumPy
        return dtype
