"""The paper's supernet and random images, for JAX and, where it is installed, for PyTorch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import spaces
from nas_jax.nn import masked
from nas_jax.runtime import rng

try:
    import torch

    from benchmarks.baselines import torch_supernet
except ImportError:
    torch = torch_supernet = None


@dataclasses.dataclass
class Workload:
    """A space, its supernet's variables, and how to run it on both sides."""

    args: Any

    @functools.cached_property
    def space(self) -> spaces.Space:
        """The paper's cell space; the resolution drops twice, as with six cells."""
        cells, blocks = self.args.cells, self.args.blocks
        return spaces.make(
            "cell", num_cells=cells, num_blocks=blocks, cells_per_stage=max(cells // 3, 1)
        )

    def net(self, execution: str):
        """The supernet with that execution."""
        dtype = jnp.dtype(self.args.dtype)
        return self.space.supernet(
            num_classes=10, filters=self.args.filters, execution=execution, dtype=dtype
        )

    @property
    def tolerance(self) -> float:
        """How far results may differ that are equal but for rounding, as a share of the largest."""
        if self.args.dtype == "bfloat16":
            return 0.1
        return 5e-4 if jax.default_backend() == "cpu" else 0.02  # products in TF32

    @functools.cached_property
    def variables(self) -> Any:
        """Initial variables, as numpy arrays."""
        key, image = rng.key(0), self.images(1)
        drawn = masked.init(key, self.net("masked"), image, self.space.all_on())
        return jax.tree.map(np.array, drawn)

    def images(self, count: int) -> np.ndarray:
        """Standard normal images float32 [count, H, W, 3]."""
        size = self.args.image_size
        generator = np.random.default_rng(0)
        return generator.normal(size=(count, size, size, 3)).astype(np.float32)

    def indices(self, archs: Any) -> list[Any]:
        """Per architecture of masks [N, k]: what is on, as `torch_supernet` takes it."""
        count = jax.tree.leaves(archs)[0].shape[0]
        host = jax.tree.map(np.asarray, archs)
        return [
            jax.tree.map(lambda mask, i=i: tuple(np.flatnonzero(mask[i]).tolist()), host)
            for i in range(count)
        ]

    def torch_net(self, requires_grad: bool = False):
        """The PyTorch supernet with the same weights, or None."""
        if torch is None:
            print("PyTorch is not installed: no baseline", flush=True)
            return None
        torch.set_num_threads(self.args.threads)
        torch.backends.cuda.matmul.allow_tf32 = True  # as JAX's default and cuDNN's
        params = torch_supernet.to_torch(self.variables["params"], requires_grad, self.torch_device)
        dtype = getattr(torch, self.args.dtype)
        return torch_supernet.Supernet(self.space, params, dtype=dtype)

    @property
    def torch_device(self) -> str:
        """Where PyTorch computes: where JAX does."""
        return "cpu" if jax.default_backend() == "cpu" else "cuda"
