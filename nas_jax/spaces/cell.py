"""The paper's search space: cells of choice blocks (section 3.1 and figure 2).

A network is two parallel stems and `num_cells` cells; all cells have the same architecture. A cell
takes the two most recent outputs, projects each by a 1x1 convolution (and averages it down where
the resolution drops), and has `num_blocks` choice blocks. Block i concatenates a non-empty subset
of the 2 + i earlier tensors, applies a 1x1 convolution and sums one or two of the ops. The cell's
output is the concat of both inputs and all blocks.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.nn import kernels, masked, network, observed
from nas_jax.nn import layers as layers_lib
from nas_jax.spaces import base, strings, wiring
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces import ops as ops_lib
from nas_jax.spaces.choices import Choice

PAPER_OPS = tuple(ops_lib.PAPER_OPS)  # the default of a space
INPUT_NAMES = ("previous cell", "cell before")


@dataclasses.dataclass(frozen=True)
class CellSpace(base.Space):
    """The cell space; with the defaults, 6,002,115,840 architectures (paper, section 3.1).

    Attributes:
      num_cells: 6 on CIFAR-10, 8 on ImageNet in the paper.
      num_blocks: choice blocks of a cell.
      cells_per_stage: after so many cells the resolution halves and the width doubles.
      stem_stride: 1, 2 or 4, by which the stems reduce images (the paper names none for ImageNet).
      ops: names or functions, see `ops.find`; an op may come again (to measure growth).
      tied: whether all cells have the same architecture, as in the paper; else each has its own.
    """

    num_cells: int = 6
    num_blocks: int = 4
    cells_per_stage: int = 2
    stem_stride: int = 1
    ops: tuple[str | ops_lib.Op, ...] = PAPER_OPS
    tied: bool = True

    def __post_init__(self):
        for field in ("num_cells", "num_blocks", "cells_per_stage"):
            naming.check_whole(f"space.{field}", getattr(self, field), 1)
        if self.num_blocks + 1 > choices_lib.MAX_OPTIONS:
            raise ValueError(f"space.num_blocks={self.num_blocks}: at most 15")
        if self.stem_stride not in (1, 2, 4):
            raise ValueError(f"space.stem_stride={self.stem_stride!r} must be 1, 2 or 4")
        object.__setattr__(self, "ops", ops_lib.listed(self.ops))

    @functools.cached_property
    def choices(self) -> tuple:
        """For each block i {"inputs": 1..2+i of 2+i, "ops": 1 or 2 of all}; untied, for each cell.

        Path dropout may drop all inputs or ops of a block: a cell's inputs always reach its output.
        """
        if self.tied:
            return self._blocks("")
        return tuple(self._blocks(f"cell{cell}_") for cell in range(self.num_cells))

    def _blocks(self, prefix):
        num_ops = len(self.ops)
        choice = functools.partial(Choice, min_on=1, may_lose_all=True)
        return tuple(
            {
                "inputs": choice(f"{prefix}block{i}_inputs", 2 + i, max_on=2 + i),
                "ops": choice(f"{prefix}block{i}_ops", num_ops, max_on=min(2, num_ops)),
            }
            for i in range(self.num_blocks)
        )

    def of_cell(self, tree: Any, cell: int) -> Any:
        """Return the part of a tree over the Choices (masks, indices) for one cell, by block."""
        return tree if self.tied else tree[cell]

    def to_str(self, arch: base.Arch) -> str:
        """Join blocks 'inputs>ops' by '|': '0,1>sep3x3|0,2>identity,maxpool'.

        Untied, the cells' strings are joined by '/'.
        """
        indices = choices_lib.to_indices(self.choices, arch)
        return "/".join(map(self._cell_str, [indices] if self.tied else indices))

    def _cell_str(self, blocks):
        return "|".join(
            ",".join(map(str, b["inputs"])) + ">" + ",".join(self._op_names[j] for j in b["ops"])
            for b in blocks
        )

    def repeated(self, text: str) -> str:
        """Join the string once for each cell; see `base.Space.repeated`."""
        return text if self.tied else "/".join([text] * self.num_cells)

    def parse(self, text: str) -> Any:
        """Read inputs and ops, any but none; see `base.Space.parse`."""
        cells = [text] if self.tied else text.split("/")
        if not self.tied and len(cells) != self.num_cells:
            raise ValueError(
                f"architecture {text!r} has {len(cells)} cells, the space has {self.num_cells}"
            )
        indices = tuple(map(self._parse_cell, cells))
        return indices[0] if self.tied else indices

    def _parse_cell(self, text):
        blocks = text.split("|")
        if len(blocks) != self.num_blocks:
            raise ValueError(
                f"architecture {text!r} has {len(blocks)} blocks, the space has {self.num_blocks}"
            )
        return tuple(self._parse_block(i, block, text) for i, block in enumerate(blocks))

    def _parse_block(self, number, block, text):
        inputs, _, op_names = block.partition(">")
        allowed = [str(j) for j in range(2 + number)]
        parsed = {}
        for field, names, existing in (
            ("inputs", inputs.split(","), allowed),
            ("ops", op_names.split(","), list(self._op_names)),
        ):
            for name in names:
                if name not in existing:
                    raise ValueError(
                        f"architecture {text!r}, block {number}: {name!r} is none of its {field} "
                        f"({', '.join(existing)})"
                    )
            parsed[field] = tuple(existing.index(name) for name in names)
        return parsed

    def deepened(self, depth: int) -> "CellSpace":
        """Return the space of that depth, its last stage full; see `base.Space.deepened`."""
        if not self.tied:
            return super().deepened(depth)
        stages = self.stage(self.num_cells - 1) + 1
        return dataclasses.replace(self, num_cells=stages * depth, cells_per_stage=depth)

    def option_names(self, choice: Choice) -> tuple[str, ...]:
        """Name inputs or ops; see `base.Space.option_names`."""
        if choice.name.endswith("ops"):
            return self._op_names
        return tuple(f"input {j}" for j in range(choice.num_options))

    @functools.cached_property
    def _op_names(self) -> tuple[str, ...]:
        """Names of the ops; an op that comes again is numbered."""
        return strings.distinct(tuple(map(ops_lib.label, self.ops)))

    def layers(self, text: str) -> list[base.Layer]:
        """List the layers, of the paper's ops alone; see `base.Space.layers`."""
        ops_lib.check_widths(self.ops, PAPER_OPS)
        layers = [base.Layer((stem,), (), stem) for stem in ("stem1", "stem2")]
        outputs, on = [("stem1",), ("stem2",)], self.indices(text)
        for cell in range(self.num_cells):
            inside, tensors = self._cell_layers(cell, outputs[:-3:-1], self.of_cell(on, cell))
            layers += inside
            outputs.append(tensors)
        layers.append(_layer(("final",), outputs[-1], "final"))
        return [*layers, base.Layer((network.CLASSIFIER,), ("final",), None)]

    def _cell_layers(self, cell, inputs, on):
        """Return a cell's layers, and the tensors that it gives to the next cell."""
        scope = f"cell{cell}"
        tensors = [f"{scope}/project{i}" for i in range(2)]
        layers = [_layer((scope, f"project{i}"), x, tensors[i]) for i, x in enumerate(inputs)]
        for choice, chosen in zip(self.of_cell(self.choices, cell), on):
            inputs, ops_ = ((scope, choice[field].name) for field in ("inputs", "ops"))
            joined, mixed = "/".join(inputs), "/".join(ops_)
            passed = any(self.ops[j] in ops_lib.PASSING for j in chosen["ops"])
            layers += [_layer((*inputs, str(j)), (tensors[j],), joined) for j in chosen["inputs"]]
            tensors.append(joined if passed else mixed)
            for j in chosen["ops"]:
                if self.ops[j] not in ops_lib.PASSING:
                    op, between = (*ops_, str(j)), f"{mixed}/{j}"
                    layers.append(_layer((*op, "unit0"), (joined,), between))
                    layers.append(_layer((*op, "unit1"), (between,), tensors[-1]))
        return layers, tuple(tensors)

    def wirings(self) -> dict[wiring.Option, wiring.Wiring]:
        """Wire a cell's two inputs and its blocks; see `base.Space.wirings`."""
        cells = (self.of_cell(self.choices, cell) for cell in range(self.num_cells))
        return dict(itertools.chain(*(wiring.of_blocks(blocks).items() for blocks in cells)))

    def outputs(self) -> tuple[str, ...]:
        """Name both inputs and all blocks, if cells share a graph; see `base.Space.outputs`."""
        return tuple(map(str, range(2 + self.num_blocks))) if self.tied else ()

    def graph(self, text: str) -> dict[str, Any]:
        """Return a cell to draw: its inputs' names; by block, inputs (numbers) and ops (names).

        Untied, the last cell is returned.
        """
        blocks = [
            {"inputs": list(b["inputs"]), "ops": [self._op_names[j] for j in b["ops"]]}
            for b in self.of_cell(self.parse(text), -1)
        ]
        return {"inputs": list(INPUT_NAMES), "blocks": blocks}

    def network(self, *, num_classes, filters, arch, **options) -> nn.Module:
        """Make the module; see `base.Space.network`."""
        return CellNetwork(self, num_classes, filters, arch, **options)

    def stage(self, cell: int) -> int:
        """Return the stage of a cell, 0 for the stems (cells -1 and -2)."""
        return max(cell, 0) // self.cells_per_stage

    @property
    def reduction(self) -> int:
        """See `base.Space.reduction`."""
        return self.stem_stride * 2 ** self.stage(self.num_cells - 1)


class CellNetwork(network.Network):
    """Supernet (`arch` None) or stand-alone network of the cell space; see `base.Space`."""

    @nn.compact
    def __call__(self, images: jax.Array, arch: base.Arch | None = None) -> jax.Array:
        """Map images [B, H, W, C] or [G or 1, n, H, W, C] to logits float32 [B, K] or [G, n, K]."""
        images, masks, leading = masked.to_groups(images.astype(self.dtype), arch)
        on, widths = self.on, self.tensor_widths
        before, previous = (self._stem(images, widths, f"stem{i + 1}") for i in range(2))
        stem_height = previous[0][0].shape[2]
        for i in range(self.space.num_cells):
            scale = 2 ** self.space.stage(i)
            cell = Cell(
                self.space,
                i,
                self.filters * scale,
                self.space.of_cell(on, i),
                self.unit,
                self.execution,
                widths,
                name=f"cell{i}",
            )
            of_cell = masks if masks is None else self.space.of_cell(masks, i)
            output = cell(previous, before, stem_height // scale, of_cell)
            before, previous = observed.later(self, previous), self._block(i + 1, output)
        width = widths.get("final", self.filters * scale)
        x = layers_lib.Projection(width, **self.unit, name="final")(previous)
        return self.logits(x).reshape(*leading, -1)

    def _block(self, number, parts):
        """Return the parts of a cell's output; a caller may ask to see them, as one block."""
        if not observed.shows_blocks(self):
            return parts
        whole = observed.block(self, number, jnp.concatenate([x for x, _ in parts], -1))
        ends = np.cumsum([x.shape[-1] for x, _ in parts])[:-1]
        return list(map(_with_moments, jnp.split(whole, ends, -1)))

    def _stem(self, images, widths, name):
        stride, width = self.space.stem_stride, widths.get(name, self.filters)
        x = layers_lib.Stem(width, min(stride, 2), self.kernel_init, name=name)(images)
        return [_with_moments(kernels.halve(x) if stride == 4 else x)]


class Cell(nn.Module):
    """Cell `number`, with the options `on` of each block.

    A tensor has `features` channels if it is not in `widths`.
    """

    space: CellSpace
    number: int
    features: int
    on: Any
    unit: Any
    execution: str
    widths: Mapping[str, int]

    @nn.compact
    def __call__(self, previous, before, height, masks):
        """Map the parts of two earlier cells' outputs to the parts of this cell's, at `height`.

        An output is a concat of parts; the projections that read it make the concat. A part is an
        array [G or 1, n, H, W, C] and its moments, computed once for all batch norms that read it.
        """
        tensors = [
            _with_moments(self._project(x, height, i)) for i, x in enumerate((previous, before))
        ]
        for i, choice in enumerate(self.space.of_cell(self.space.choices, self.number)):
            mask = {"inputs": None, "ops": None} if masks is None else masks[i]
            names = {field: choice[field].name for field in choice}
            options = {"execution": self.execution}
            width = self._width(names["inputs"], self.features)
            joined = masked.MaskedConcat(
                width, self.on[i]["inputs"], **self.unit, **options, name=names["inputs"]
            )(tensors, mask["inputs"])
            builders = self._builders(names["ops"], width)
            mixed = masked.MixedOp(builders, self.on[i]["ops"], **options, name=names["ops"])
            tensors.append(_with_moments(mixed(joined, mask["ops"])))
        return tensors

    def _builders(self, name, width):
        """Return the builders of a block's ops; its input has `width` channels.

        The output has as many if one of the ops passes its input on; else its width may differ.
        """
        width = self._width(name, width)
        return [
            ops_lib.bound(
                ops_lib.find(op), width, hidden=self._hidden(f"{name}/{j}", op), **self.unit
            )
            for j, op in enumerate(self.space.ops)
        ]

    def _hidden(self, name, op):
        """Return the channels between the layers of an op of the paper; others choose."""
        return self._width(name, self.features if op in PAPER_OPS else None)

    def _width(self, name, default):
        return self.widths.get(f"{self.name}/{name}", default)

    def _project(self, parts, height, i):
        """Convolve 1x1; where the resolution drops, average as well."""
        halvings = (parts[0][0].shape[2] // height).bit_length() - 1
        width = self._width(f"project{i}", self.features)
        return layers_lib.Projection(width, halvings, **self.unit, name=f"project{i}")(parts)


def _layer(scope, inputs, output):
    """Make the layer of a unit that normalises its inputs."""
    return base.Layer(scope, inputs, output, normed=inputs)


def _with_moments(x):
    return x, kernels.moments(x)
