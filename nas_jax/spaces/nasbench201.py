"""NAS-Bench-201's space (Dong and Yang, ICLR 2020): a cell of four nodes, an op on each edge.

A network is a 3x3 stem of F channels and three stages of N equal cells; between stages a residual
block halves the resolution and doubles the width. Node j of a cell sums an op of each earlier node.
The published accuracies are of F = 16, N = 5 on 32x32 pixels; there the parameters of
`nas_jax.costs.params_flops` are the published ones.
"""

import dataclasses
import functools
import itertools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax import naming
from nas_jax.nn import kernels, layers, masked, network, observed
from nas_jax.spaces import base, ops, wiring
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces.choices import Choice

OPS: dict[str, ops.Op] = {
    "none": lambda features, **_: ops.nothing,
    "skip_connect": lambda features, **_: ops.identity,
    "nor_conv_1x1": functools.partial(layers.ConvNorm, kernel_size=(1, 1), relu_before=True),
    "nor_conv_3x3": functools.partial(layers.ConvNorm, kernel_size=(3, 3), relu_before=True),
    "avg_pool_3x3": lambda features, **_: kernels.avg_pool,
}
_NUM_NODES = 4


@dataclasses.dataclass(frozen=True)
class NasBench201Space(base.Space):
    """The topology space of NAS-Bench-201, 15,625 cells.

    Attributes:
      num_cells: N, cells of a stage.
      num_stages: stages; between two of them the resolution halves and the width doubles.
    """

    published_filters: ClassVar[int] = 16

    num_cells: int = 5
    num_stages: int = 3

    def __post_init__(self):
        for field in ("num_cells", "num_stages"):
            naming.check_whole(f"space.{field}", getattr(self, field), 1)

    @functools.cached_property
    def choices(self) -> tuple[tuple[Choice, ...], ...]:
        """For each node, an op for each earlier node.

        An edge has four paths, as "none" passes nothing. It may lose all of them, since other edges
        remain: with path dropout's r = 0.1 a cell's output misses its input with probability 0.003.
        """
        edge = functools.partial(Choice, num_options=len(OPS), min_on=1, max_on=1)
        none = (list(OPS).index("none"),)
        return tuple(
            tuple(edge(f"edge{i}to{j}", may_lose_all=True, empty=none) for i in range(j))
            for j in range(1, _NUM_NODES)
        )

    def deepened(self, depth: int) -> "NasBench201Space":
        """Return the space of that depth; see `base.Space.deepened`."""
        return dataclasses.replace(self, num_cells=depth)

    def option_names(self, choice: Choice) -> tuple[str, ...]:
        """Name the ops; see `base.Space.option_names`."""
        return tuple(OPS)

    def to_str(self, arch: base.Arch) -> str:
        """Write the benchmark's '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'; commas part several ops."""
        names = list(OPS)
        nodes = choices_lib.to_indices(self.choices, arch)
        return "+".join(
            "|" + "".join(f"{','.join(names[k] for k in on)}~{i}|" for i, on in enumerate(edges))
            for edges in nodes
        )

    def parse(self, text: str) -> Any:
        """Read the ops of each edge, any but none; see `base.Space.parse`."""
        nodes = text.split("+")
        if len(nodes) != len(self.choices):
            raise ValueError(
                f"architecture {text!r} has {len(nodes)} nodes, the space has {len(self.choices)}"
            )
        return tuple(self._parse_node(j, node, text) for j, node in enumerate(nodes, 1))

    def _parse_node(self, number, node, text):
        edges = [edge.partition("~") for edge in node.strip("|").split("|")]
        if [source for *_, source in edges] != [str(i) for i in range(number)]:
            raise ValueError(
                f"architecture {text!r}: node {number} must have an op from each node before it, "
                f"'|op~0|..|op~{number - 1}|'"
            )
        existing = list(OPS)
        for name in (name for ops_, *_ in edges for name in ops_.split(",")):
            if name not in existing:
                raise ValueError(
                    f"architecture {text!r}: {name!r} is none of the ops {', '.join(existing)}"
                )
        return tuple(tuple(map(existing.index, ops_.split(","))) for ops_, *_ in edges)

    def wirings(self) -> dict[wiring.Option, wiring.Wiring]:
        """Wire the nodes of a cell; see `base.Space.wirings`."""
        return wiring.of_edges(self.choices)

    def isomorph(self, text: str) -> str:
        """Return a string that isomorphs share; see `base.Space.isomorph`.

        There are 4,930 classes (6,466 if sums are not simplified). A node is a sum of terms, in any
        order. A skip adds the terms of the node that it comes from. An op on nothing gives nothing
        (but for batch norm's offset).
        """
        names, nodes = list(OPS), [["input"]]
        for edges in self.indices(text):
            terms = [self._terms(names[on[0]], nodes[i]) for i, on in enumerate(edges)]
            nodes.append(sorted(itertools.chain(*terms)))
        return "+".join(nodes[-1])

    @staticmethod
    def _terms(op, node):
        if op == "skip_connect":
            return node
        return [f"{op}({'+'.join(node)})"] if op != "none" and node else []

    def network(self, *, num_classes, filters, arch, **options) -> nn.Module:
        """Make the module; see `base.Space.network`."""
        return CellsNetwork(self, num_classes, filters, arch, **options)

    @property
    def reduction(self) -> int:
        """See `base.Space.reduction`."""
        return 2 ** (self.num_stages - 1)


class CellsNetwork(network.Network):
    """Supernet (`arch` None) or stand-alone network; see `base.Space`."""

    @nn.compact
    def __call__(self, images: jax.Array, arch: base.Arch | None = None) -> jax.Array:
        """Map images [B, H, W, C] or [G or 1, n, H, W, C] to logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images.astype(self.dtype), arch)
        x = layers.ConvNorm(self.filters, **self.unit, name="stem")(images)
        x = observed.block(self, 0, x)
        on, number = self.on, itertools.count(1)
        for stage in range(self.space.num_stages):
            features = self.filters * 2**stage
            if stage:
                x = Reduction(features, **self.unit, name=f"stage{stage}_reduction")(x)
                x = observed.block(self, next(number), x)
            for i in range(self.space.num_cells):
                name = f"stage{stage}_cell{i}"
                cell = Cell(self.space, features, on, self.unit, self.execution, name=name)
                x = observed.block(self, next(number), cell(x, masks))
        x = self.unit["norm"](relu=True, name="final")(x)
        return self.logits(x).reshape(*leading, -1)


class Cell(nn.Module):
    """One cell, with the ops `on` of each node's edges."""

    space: NasBench201Space
    features: int
    on: Any
    unit: Any
    execution: str

    @nn.compact
    def __call__(self, x: jax.Array, masks: Any) -> jax.Array:
        """Map x [G or 1, n, H, W, C] under masks (by node, edge) [G, 5] -> [G, n, H, W, C]."""
        builders = [functools.partial(op, self.features, **self.unit) for op in OPS.values()]
        nodes = [x]
        for j, edges in enumerate(self.space.choices):
            mixed = [
                masked.MixedOp(builders, self.on[j][i], self.execution, name=choice.name)(
                    nodes[i], None if masks is None else masks[j][i]
                )
                for i, choice in enumerate(edges)
            ]
            nodes.append(sum(mixed))
        return nodes[-1]


class Reduction(nn.Module):
    """Residual block of two 3x3 convolutions, the first with stride 2."""

    features: int
    norm: Any = layers.BatchNorm
    kernel_init: Any = layers.he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/2, W/2, features]."""
        unit = {"norm": self.norm, "kernel_init": self.kernel_init}
        y = layers.ConvNorm(self.features, stride=2, relu_before=True, **unit, name="conv1")(x)
        y = layers.ConvNorm(self.features, relu_before=True, **unit, name="conv2")(y)
        init = self.kernel_init(x.shape[-1])
        kernel = self.param("kernel", init, (1, 1, x.shape[-1], self.features), jnp.float32)
        return y + layers.conv(kernels.halve(x), kernel)
