"""NAS-Bench-Macro's space (Su et al., CVPR 2021): a chain of layers with three ops each.

A network is a 3x3 stem, stages of layers, a 1x1 convolution and a classifier. The first layer of a
stage halves the resolution and doubles the width. A layer is the identity or a MobileNetV2 block
(expansion 3 with a 3x3 depthwise convolution, or 6 with 5x5). The published accuracies are of F =
32 on 32x32 pixels; there the costs of `nas_jax.costs.params_flops` are the published ones.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax

from nas_jax import naming
from nas_jax.nn import chain, masked, network
from nas_jax.nn import layers as layers_lib
from nas_jax.spaces import base, ops
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces.choices import Choice

OPS: dict[str, ops.Op] = {name: ops.OPS[name] for name in ("identity", "mb3_k3", "mb6_k5")}


@dataclasses.dataclass(frozen=True)
class NasBenchMacroSpace(base.Space):
    """The chain space; with the defaults, the 6,561 networks of NAS-Bench-Macro.

    Attributes:
      stages: layers of each stage.
      head: channels before the classifier, in multiples of the first stage's input (40 F: 1,280).
    """

    published_filters: ClassVar[int] = 32

    stages: tuple[int, ...] = (2, 3, 3)
    head: int = 40

    def __post_init__(self):
        if isinstance(self.stages, list):  # as a config gives it
            object.__setattr__(self, "stages", tuple(self.stages))
        if not _are_stages(self.stages):
            raise ValueError(
                f"space.stages={self.stages!r} must be whole numbers above 0, of two layers or "
                "more in all, such as (2, 3, 3)"
            )
        naming.check_whole("space.head", self.head, 1)

    @functools.cached_property
    def choices(self) -> tuple[Choice, ...]:
        """One op for each layer; nothing passes beside a layer, so it may not lose all paths."""
        return tuple(Choice(f"layer{i}", len(OPS), 1, 1) for i in range(sum(self.stages)))

    def option_names(self, choice: Choice) -> tuple[str, ...]:
        """Name the ops; see `base.Space.option_names`."""
        return tuple(OPS)

    def to_str(self, arch: base.Arch) -> str:
        """Write a digit for each layer, '22212220'; commas part layers if one has several ops."""
        layers = ["".join(map(str, on)) for on in choices_lib.to_indices(self.choices, arch)]
        return ("" if all(len(layer) == 1 for layer in layers) else ",").join(layers)

    def parse(self, text: str) -> Any:
        """Read the ops of each layer, any but none; see `base.Space.parse`."""
        layers = text.split(",") if "," in text else list(text)
        if len(layers) != len(self.choices):
            raise ValueError(
                f"architecture {text!r} has {len(layers)} layers, the space has {len(self.choices)}"
            )
        if not all(layers) or set("".join(layers)) - set("012"):
            names = list(OPS)
            raise ValueError(
                f"architecture {text!r}: a layer is a digit, 0 ({names[0]}), 1 ({names[1]}) or 2 "
                f"({names[2]})"
            )
        return tuple(tuple(map(int, layer)) for layer in layers)

    def network(self, *, num_classes, filters, arch, **options) -> nn.Module:
        """Make the module; see `base.Space.network`."""
        return MacroNetwork(self, num_classes, filters, arch, **options)

    def stage(self, layer: int) -> int:
        """Return the stage of a layer."""
        return next(s for s in range(len(self.stages)) if layer < sum(self.stages[: s + 1]))

    def reduces(self, layer: int) -> bool:
        """Say whether a layer is its stage's first, which halves the resolution."""
        return layer == 0 or self.stage(layer) > self.stage(layer - 1)

    def layers(self, text: str) -> list[base.Layer]:
        """List the layers; see `base.Space.layers`.

        All layers of a stage have one output tensor, as they add to it or pass it on.
        """
        layers, previous = [_layer(("stem",), (), "stem")], "stem"
        for i, on in enumerate(self.indices(text)):
            stage = f"stage{self.stage(i)}"
            for j in on:
                layers += self._op_layers(i, j, previous, stage)
            previous = stage
        layers.append(_layer(("head",), (previous,), "head"))
        return [*layers, base.Layer((network.CLASSIFIER,), ("head",), None)]

    def _op_layers(self, layer, option, before, after):
        scope = (f"layer{layer}", str(option))
        if list(OPS)[option] == "identity":
            return [_layer(scope, (before,), after)] if self.reduces(layer) else []
        wide = "/".join(scope)
        return [
            _layer((*scope, "expand"), (before,), wide),
            _layer((*scope, "depthwise"), (wide,), wide),
            _layer((*scope, "project"), (wide,), after),
        ]

    @property
    def reduction(self) -> int:
        """See `base.Space.reduction`."""
        return 2 ** len(self.stages)


class MacroNetwork(chain.ChainNetwork):
    """Supernet (`arch` None) or stand-alone network of the chain space; see `base.Space`."""

    def setup(self):
        """Make the submodules, each named as its scope."""
        unit, on, widths = self.unit, self.on, self.tensor_widths
        self.stem = layers_lib.ConvNorm(widths.get("stem", self.filters), relu=True, **unit)
        for i, choice in enumerate(self.space.choices):
            stage = self.space.stage(i)
            width = widths.get(f"stage{stage}", self.filters * 2 ** (1 + stage))
            stride = 2 if self.space.reduces(i) else 1
            builders = [
                functools.partial(
                    op, width, stride=stride, hidden=widths.get(f"{choice.name}/{j}"), **unit
                )
                for j, op in enumerate(OPS.values())
            ]
            setattr(self, choice.name, masked.MixedOp(builders, on[i], self.execution))
        width = widths.get("head", self.space.head * self.filters)
        self.head = layers_lib.ConvNorm(width, (1, 1), relu=True, **unit)

    def enter(self, images: jax.Array) -> jax.Array:
        """Map images to the first layer's input; see `chain.ChainNetwork.enter`."""
        return self.stem(images.astype(self.dtype))

    def layer(self, number: int, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Map x under mask [G, 3] to a layer's output; see `chain.ChainNetwork.layer`."""
        return getattr(self, self.space.choices[number].name)(x, mask)

    @nn.compact
    def leave(self, x: jax.Array) -> jax.Array:
        """Map the last layer's output to logits; see `chain.ChainNetwork.leave`."""
        return self.logits(self.head(x))


def _are_stages(value):
    if not isinstance(value, tuple) or not all(type(layers) is int for layers in value):
        return False
    return sum(value) >= 2 and min(value) >= 1


def _layer(scope, inputs, output):
    """Make the layer of a convolution whose output is normalised."""
    return base.Layer(scope, inputs, output, normed=(output,))
