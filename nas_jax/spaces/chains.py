"""Chains of layers that each choose one of some ops, as MobileNet's search spaces do.

A network is a 3x3 stem of F channels, stages of layers, if `head` says so a 1x1 convolution, and
the classifier. The first layer of a stage sets its width and its resolution.
"""

import dataclasses
import functools

import flax.linen as nn
import jax

from nas_jax import naming
from nas_jax.nn import chain, masked, network
from nas_jax.nn import layers as layers_lib
from nas_jax.spaces import base, strings
from nas_jax.spaces import ops as ops_lib
from nas_jax.spaces.choices import Choice

_ALLOWED = "must be whole numbers above 0, or triples of them (layers, width, stride)"


@dataclasses.dataclass(frozen=True)
class ChainSpace(base.Space):
    """A chain of mixed ops, one of them on in each layer.

    Attributes:
      stages: for each stage (layers, width, stride). The width is in multiples of F, and the first
        layer reduces height and width by the stride. A number n, for stage s from 0 on, is
        (n, 2^s, 2), but (n, 1, 1) for s = 0.
      ops: names or functions, see `ops.find`.
      stem_stride: by which the stem reduces images.
      head: channels before the classifier, in multiples of F; 0: those of the last stage.
    """

    stages: tuple[int | tuple[int, int, int], ...] = (2, 2, 2)
    ops: tuple[str | ops_lib.Op, ...] = ("identity", "mb3_k3", "mb6_k5")
    stem_stride: int = 1
    head: int = 0

    def __post_init__(self):
        object.__setattr__(self, "stages", _stages(self.stages))
        object.__setattr__(self, "ops", ops_lib.listed(self.ops))
        naming.check_whole("space.stem_stride", self.stem_stride, 1)
        naming.check_whole("space.head", self.head, 0, "in multiples of F; 0: no head")

    @functools.cached_property
    def choices(self) -> tuple[Choice, ...]:
        """One op for each layer; nothing passes beside a layer, so it may not lose all paths."""
        count = sum(layers for layers, *_ in self.stages)
        return tuple(Choice(f"layer{i}", len(self.ops), 1, 1) for i in range(count))

    def option_names(self, choice: Choice) -> tuple[str, ...]:
        """Name the ops; see `base.Space.option_names`."""
        return strings.distinct(tuple(map(ops_lib.label, self.ops)))

    def network(self, *, num_classes, filters, arch, **options) -> nn.Module:
        """Make the module; see `base.Space.network`."""
        return Chain(self, num_classes, filters, arch, **options)

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """For each layer (width, in multiples of F; stride)."""
        return tuple(
            (width, stride if i == 0 else 1)
            for layers, width, stride in self.stages
            for i in range(layers)
        )

    def changes(self, layer: int) -> bool:
        """Say whether a layer's output has another shape than its input."""
        before = self.shapes[layer - 1][0] if layer else 1
        return self.shapes[layer] != (before, 1)

    def tensor(self, layer: int) -> str:
        """Name the tensor that a layer makes, adds to or passes on; that of the stem is -1's."""
        return f"tensor{sum(self.changes(i) for i in range(layer + 1))}"

    def reduces_before(self, layer: int, op: str | ops_lib.Op) -> bool:
        """Say whether a layer's op comes after a convolution that gives it its shape."""
        if op in ops_lib.PASSING:
            return self.changes(layer)
        return self.shapes[layer][1] > 1 and not ops_lib.takes(ops_lib.find(op), "stride")

    def layers(self, text: str) -> list[base.Layer]:
        """List the layers, if all ops are inverted residuals or pass; see `base.Space.layers`."""
        ops_lib.check_widths(self.ops, (*ops_lib.PASSING, *ops_lib.INVERTED))
        layers = [_layer(("stem",), (), self.tensor(-1))]
        for i, on in enumerate(self.indices(text)):
            for j in on:
                layers += self._op_layers(i, j)
        last = self.tensor(len(self.choices) - 1)
        if self.head:
            layers.append(_layer(("head",), (last,), "head"))
        return [*layers, base.Layer((network.CLASSIFIER,), ("head" if self.head else last,), None)]

    def _op_layers(self, layer, option):
        scope, op = (self.choices[layer].name, str(option)), self.ops[option]
        before, after, wide = self.tensor(layer - 1), self.tensor(layer), "/".join(scope)
        if op in ops_lib.PASSING:
            reduces = self.reduces_before(layer, op)
            return [_layer((*scope, "reduce"), (before,), after)] if reduces else []
        return [
            _layer((*scope, "expand"), (before,), wide),
            _layer((*scope, "depthwise"), (wide,), wide),
            _layer((*scope, "project"), (wide,), after),
        ]


class Chain(chain.ChainNetwork):
    """Supernet (`arch` None) or stand-alone network of a chain; see `base.Space`."""

    def setup(self):
        """Make the submodules, each named as its scope."""
        unit, on, widths, space = self.unit, self.on, self.tensor_widths, self.space
        width = widths.get(space.tensor(-1), self.filters)
        self.stem = layers_lib.ConvNorm(width, stride=space.stem_stride, relu=True, **unit)
        for i, choice in enumerate(space.choices):
            multiple, stride = space.shapes[i]
            width = widths.get(space.tensor(i), self.filters * multiple)
            builders = [
                self._builder(i, op, width, stride, widths.get(f"{choice.name}/{j}"))
                for j, op in enumerate(space.ops)
            ]
            setattr(self, choice.name, masked.MixedOp(builders, on[i], self.execution))
        if space.head:
            width = widths.get("head", space.head * self.filters)
            self.head = layers_lib.ConvNorm(width, (1, 1), relu=True, **unit)

    @nn.nowrap
    def _builder(self, layer, op, width, stride, hidden):
        found, unit = ops_lib.find(op), self.unit
        if not self.space.reduces_before(layer, op):
            return ops_lib.bound(found, width, stride=stride, hidden=hidden, **unit)
        builder = ops_lib.bound(found, width, stride=1, hidden=hidden, **unit)
        return functools.partial(ops_lib.Reduced, builder, width, stride, **unit)

    def enter(self, images: jax.Array) -> jax.Array:
        """Map images to the first layer's input; see `chain.ChainNetwork.enter`."""
        return self.stem(images.astype(self.dtype))

    def layer(self, number: int, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Map x under mask to a layer's output; see `chain.ChainNetwork.layer`."""
        y = getattr(self, self.space.choices[number].name)(x, mask)
        multiple, stride = self.space.shapes[number]
        shape = [-(-side // stride) for side in x.shape[2:4]]
        shape.append(y.shape[-1] if self.widths else multiple * self.filters)
        if list(y.shape[2:]) != shape:
            raise ValueError(
                f"layer {number}: ops {', '.join(map(ops_lib.label, self.space.ops))} give "
                f"{list(y.shape[2:])}, not {shape} (height, width, channels); an op must heed "
                "`features` and `stride`"
            )
        return y

    @nn.compact
    def leave(self, x: jax.Array) -> jax.Array:
        """Map the last layer's output to logits; see `chain.ChainNetwork.leave`."""
        return self.logits(self.head(x) if self.space.head else x)


def _stages(given):
    """Return the stages as triples."""
    stages = given if isinstance(given, list | tuple) else ()
    found = [_stage(s, stage) for s, stage in enumerate(stages)]
    if not found or None in found:
        raise ValueError(f"space.stages={given!r} {_ALLOWED}, such as (2, 2) or ((2, 1, 1),)")
    return tuple(found)


def _stage(number, stage):
    if type(stage) is int:
        stage = (stage, 2**number, 2 if number else 1)
    if not isinstance(stage, list | tuple) or len(stage) != 3:
        return None
    return tuple(stage) if all(type(n) is int and n > 0 for n in stage) else None


def _layer(scope, inputs, output):
    """Make the layer of a convolution whose output is normalised."""
    return base.Layer(scope, inputs, output, normed=(output,))
