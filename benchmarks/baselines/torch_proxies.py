"""NASWOT, SNIP and SynFlow of NAS-Bench-201's networks in PyTorch, one network after the other.

Each ReLU keeps its code, and autograd gives gradients, as in the published codes. It reads the
parameters of the Flax supernet, so both sides measure the same networks.

Letters in PyTorch's order: images [n, C, H, W].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nas_jax.spaces.nasbench201 import OPS, NasBench201Space

Tensors = Mapping[str, torch.Tensor]  # of `torch_supernet.to_torch`
_NAMES = tuple(OPS)


class Network:
    """`network(images, arch)` gives the logits [n, K] of one architecture, only its ops computed.

    Args:
      space: the space.
      params: of `torch_supernet.to_torch`, of the supernet.
      norm: whether there is batch norm, with the statistics of the images.
      epsilon: of batch norm.
    """

    def __init__(self, space: NasBench201Space, params: Tensors, norm=True, epsilon=1e-3):
        self._space, self._params, self._norm, self._epsilon = space, params, norm, epsilon
        self.codes: list[torch.Tensor] = []  # what each ReLU gave, bool [n, units]

    def __call__(self, images: torch.Tensor, arch: Sequence[Sequence[int]]) -> torch.Tensor:
        """Map images [n, 3, H, W], and the op of each edge by node, to logits [n, K]."""
        self.codes = []
        x = self._unit(images, "stem", relu=False)
        for stage in range(self._space.num_stages):
            if stage:
                x = self._reduce(x, f"stage{stage}_reduction")
            for i in range(self._space.num_cells):
                x = self._cell(x, f"stage{stage}_cell{i}", arch)
        x = self._relu(self._batch_norm(x, "final")).mean((2, 3))
        return F.linear(x, self._params["classifier/kernel"], self._params["classifier/bias"])

    def _cell(self, x, scope, arch):
        nodes = [x]
        for j, ops in enumerate(arch, 1):
            edges = [self._op(nodes[i], f"{scope}/edge{i}to{j}", op) for i, op in enumerate(ops)]
            nodes.append(sum(edges))
        return nodes[-1]

    def _op(self, x, scope, op):
        name = _NAMES[op]
        if name == "none":
            return torch.zeros_like(x)
        if name == "skip_connect":
            return x
        if name == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return self._unit(x, f"{scope}/{op}")

    def _reduce(self, x, scope):
        y = self._unit(self._unit(x, f"{scope}/conv1", stride=2), f"{scope}/conv2")
        return y + F.conv2d(F.avg_pool2d(x, 2), self._params[f"{scope}/kernel"])

    def _unit(self, x, scope, relu=True, stride=1):
        kernel = self._params[f"{scope}/kernel"]
        x = self._relu(x) if relu else x
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return self._batch_norm(x, scope + "/norm")

    def _batch_norm(self, x, scope):
        scope = scope if f"{scope}/scale" in self._params else f"{scope}/norm"
        if not self._norm:
            return x
        pair = (self._params[f"{scope}/{name}"] for name in ("scale", "offset"))
        return F.batch_norm(x, None, None, *pair, training=True, eps=self._epsilon)

    def _relu(self, x):
        self.codes.append((x > 0).flatten(1))
        return F.relu(x)


def naswot(network: Network, images: torch.Tensor, labels: torch.Tensor, arch: Any) -> float:
    """Compute the log-determinant of how the codes of images agree."""
    with torch.no_grad():
        network(images, arch)
        agree = torch.zeros(len(images), len(images))
        for code in network.codes:
            on = code.float()
            agree += on @ on.T + (1 - on) @ (1 - on).T
    return float(np.linalg.slogdet(agree.double().numpy())[1])


def snip(network: Network, images: torch.Tensor, labels: torch.Tensor, arch: Any) -> float:
    """Add up |weight * gradient of the loss by it| over kernels."""
    return float(_saliency(network, F.cross_entropy(network(images, arch), labels)).detach())


def synflow(network: Network, images: torch.Tensor, labels: torch.Tensor, arch: Any) -> float:
    """Compute the log of the flow of an image of ones; the parameters are positive already."""
    flow = _saliency(network, network(torch.ones_like(images[:1]), arch).sum())
    return float(torch.log(flow.detach()))


def _saliency(network, target):
    kernels = [t for t in network._params.values() if t.ndim > 1]
    gradients = torch.autograd.grad(target, kernels, allow_unused=True)
    pairs = ((w, g) for w, g in zip(kernels, gradients) if g is not None)
    return sum((w * g).abs().sum() for w, g in pairs)


PROXIES: dict[str, Callable[..., float]] = {"naswot": naswot, "snip": snip, "synflow": synflow}
