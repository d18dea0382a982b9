"""The cell supernet in PyTorch, as fast as a good PyTorch programmer would write it.

Channels-last throughout; only the inputs and ops that are on are computed, one group (ghost batch
or candidate) after the other; batch statistics by the fused `batch_norm`; where the resolution
drops, the mean over pixels comes before the 1x1 convolution, as in nas_jax. It reads the parameters
of the Flax supernet, so both can be compared logit by logit.

Letters as in `nas_jax.nn.layers`, in PyTorch's order: images [n, C, H, W].
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import numpy as np
import torch
import torch.nn.functional as F

from nas_jax.spaces.cell import CellSpace

Indices = Sequence[Mapping[str, Sequence[int]]]  # per block, the inputs and ops that are on


def to_torch(
    params: Any, requires_grad: bool = False, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Flax parameters as tensors by path ("cell0/block0_ops/1/unit0/depthwise"), OIHW kernels."""
    tensors = {}
    for path, leaf in flax.traverse_util.flatten_dict(params, sep="/").items():
        array = np.array(leaf)
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            array = array.T
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        tensors[path] = tensor.requires_grad_(requires_grad)
    return tensors


def to_images(images: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """[n, H, W, C] float32 -> [n, C, H, W], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)


class Supernet:
    """`supernet(images, indices)` gives the logits [n, K] of one architecture.

    Args:
      space: the cell space.
      params: of `to_torch`.
      epsilon: of batch norm.
      dtype: of convolutions, by autocast.
    """

    def __init__(
        self,
        space: CellSpace,
        params: Mapping[str, torch.Tensor],
        epsilon: float = 1e-3,
        dtype: torch.dtype = torch.float32,
    ):
        self.space, self.params, self.epsilon, self.dtype = space, params, epsilon, dtype
        self.all_on = space.indices(space.to_str(space.all_on()))
        kinds = {
            "identity": lambda x, scope: x,
            "sep3x3": self._separable,
            "sep5x5": self._separable,
            "sep7x7": self._separable,
            "conv7x7": self._conv_pair,
            "maxpool": lambda x, scope: F.max_pool2d(x, 3, 1, 1),
            "avgpool": lambda x, scope: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        }
        self.ops = [kinds[name] for name in space.ops]

    def __call__(self, images: torch.Tensor, indices: Indices | None = None) -> torch.Tensor:
        """Logits [n, K] with batch statistics; `indices` None is every path."""
        indices = self.all_on if indices is None else indices
        reduced = self.dtype != torch.float32
        with torch.autocast(images.device.type, self.dtype, enabled=reduced):
            logits = self._logits(images, indices)
        return logits.float() if reduced else logits

    def _logits(self, images, indices):
        before, previous = (self._conv(images, f"stem{i}/kernel") for i in (1, 2))
        height = previous.shape[2]
        for number in range(self.space.num_cells):
            target = height // 2 ** self.space.stage(number)
            before, previous = previous, self._cell(previous, before, target, number, indices)
        x = self._unit(previous, "final").mean((2, 3))
        return F.linear(x, self.params["classifier/kernel"], self.params["classifier/bias"])

    def _norm(self, x, scope):
        scale, offset = self.params[f"{scope}/norm/scale"], self.params[f"{scope}/norm/offset"]
        return F.batch_norm(x, None, None, scale, offset, True, 0.1, self.epsilon)

    def _conv(self, x, name, groups=1):
        kernel = self.params[name]
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        return F.conv2d(x, kernel, padding=padding, groups=groups)

    def _unit(self, x, scope):
        return self._conv(F.relu(self._norm(x, scope), inplace=True), f"{scope}/kernel")

    def _separable(self, x, scope):
        for unit in (f"{scope}/unit0", f"{scope}/unit1"):
            x = F.relu(self._norm(x, unit), inplace=True)
            x = self._conv(x, f"{unit}/depthwise", groups=x.shape[1])
            x = self._conv(x, f"{unit}/pointwise")
        return x

    def _conv_pair(self, x, scope):
        return self._unit(self._unit(x, f"{scope}/unit0"), f"{scope}/unit1")

    def _cell(self, previous, before, target, number, indices):
        tensors = [
            self._project(x, target, f"cell{number}/project{i}")
            for i, x in enumerate((previous, before))
        ]
        for choice, on in zip(self.space.choices, indices):
            names = {field: f"cell{number}/{choice[field].name}" for field in choice}
            joined = self._concat(tensors, on["inputs"], names["inputs"])
            outputs = [self.ops[j](joined, f"{names['ops']}/{j}") for j in on["ops"]]
            empty = torch.zeros_like(tensors[0])
            tensors.append(functools.reduce(torch.add, outputs) if outputs else empty)
        return torch.cat(tensors, 1)

    def _project(self, x, target, scope):
        x = F.relu(self._norm(x, scope), inplace=True)
        while x.shape[2] > target:
            x = F.avg_pool2d(x, 2)
        return self._conv(x, f"{scope}/kernel")

    def _concat(self, tensors, on, scope):
        """Concat of what is on, one batch norm over all of it, ReLU, 1x1 convolution."""
        if not on:
            return torch.zeros_like(tensors[0])
        names = [f"{scope}/{j}" for j in on]
        x = torch.cat([tensors[j] for j in on], 1) if len(on) > 1 else tensors[on[0]]
        scale, offset, kernel = (
            torch.cat([self.params[f"{name}/{leaf}"] for name in names], axis)
            for leaf, axis in (("norm/scale", 0), ("norm/offset", 0), ("kernel", 1))
        )
        x = F.batch_norm(x, None, None, scale, offset, True, 0.1, self.epsilon)
        return F.conv2d(F.relu(x, inplace=True), kernel)
