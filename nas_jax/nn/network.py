"""What the networks of all spaces have: their options, which are checked, and their classifier."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.nn import execution, layers

CLASSIFIER = "classifier"  # scope of the linear classifier that ends every network
DTYPES = ("float32", "bfloat16", "float16")


class NetworkOptions(NamedTuple):
    """How all networks of a run compute: arguments of `Space.supernet` and `Space.standalone`.

    Attributes:
      dtype, execution, bn_momentum, bn_epsilon, relu_before_bn: of `Network`.
    """

    dtype: Any
    execution: str
    bn_momentum: float
    bn_epsilon: float
    relu_before_bn: bool


def default_dtype() -> str:
    """Name the dtype of activations that suits the backend: float32 on a CPU, else bfloat16."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


class Network(nn.Module):
    """The part that spaces build on: see `Space.supernet` and `Space.standalone`.

    Attributes:
      space: the search space.
      num_classes: K.
      filters: F.
      arch: canonical string of a stand-alone network; None is the supernet.
      bn, bn_momentum, bn_epsilon, relu_before_bn: of `layers.BatchNorm`.
      dtype: of activations, one of `DTYPES` (or what stands for it, as `jnp.float32`).
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
        naming.check("execution", self.execution, execution.NAMES)
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
        """How every unit of a convolution and a batch norm is built."""
        how = self.bn, self.bn_momentum, self.bn_epsilon, self.relu_before_bn
        norm = layers.partial(layers.BatchNorm, *how)
        return {"norm": norm, "kernel_init": self.kernel_init}

    @property
    def tensor_widths(self) -> dict[str, int]:
        """`widths` by the names of `Space.tensors`; empty if they are as `filters` says."""
        return dict(zip(self.space.tensors(self.arch), self.widths)) if self.widths else {}

    @property
    def on(self) -> Any:
        """For each Choice the options that are built, a tree of tuples: in the supernet all."""
        return self.space.indices(self.space.all_on() if self.arch is None else self.arch)

    def logits(self, x: jax.Array) -> jax.Array:
        """[G, n, H, W, C] -> float32 [G, n, K]: mean over pixels and a linear classifier.

        To be called in a compact method, for its scope.
        """
        x = jnp.mean(x.astype(jnp.float32), (2, 3))
        init = self.kernel_init(2 * x.shape[-1])  # no ReLU follows: half the variance
        return nn.Dense(self.num_classes, kernel_init=init, name=CLASSIFIER)(x)

    @nn.nowrap
    def logits_of_each(
        self, variables: Any, images: jax.Array, archs: Any, per_arch: Any = ()
    ) -> jax.Array:
        """Return logits float32 [g, n, K] of g architectures on the same images.

        How they are computed follows from `execution`, as in training.

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
        if self.execution == "dispatch" and not per_arch:
            return self.apply(variables, images[None], archs)
        return jax.vmap(one)(archs, per_arch)

    @nn.nowrap
    def one_after_the_other(self, variables: Any, images: jax.Array, archs: Any) -> jax.Array:
        """Return logits as `logits_of_each`, of one architecture after the other.

        What no mask touches is computed once. A chain also keeps what follows from it.
        """
        return jax.lax.map(lambda arch: self.apply(variables, images, arch), archs)


def _dtype_name(dtype):
    try:
        return jnp.dtype(dtype).name
    except TypeError:  # nothing that NumPy knows
        return dtype
