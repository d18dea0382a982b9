"""Widths of a network's tensors, found by MorphNet (Gordon et al., CVPR 2018) and in general.

A channel is as strong as the largest batch-norm scale that multiplies it. An L1 penalty on that
strength, weighted by what the channel costs, lets batch norm say which channels are worth it.

Letters: T tensors, in the order of `Space.tensors`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.spaces import Space
from nas_jax.spaces.base import Path
from nas_jax.spaces.image_size import ImageSize
from nas_jax.storage import schemas

_SEPARATOR = "@"


def join(text: str, widths: Iterable[int]) -> str:
    """The string of a stand-alone network of these widths: 'architecture@8,5,..'."""
    return f"{text}{_SEPARATOR}{','.join(map(str, widths))}"


def split(text: str) -> tuple[str, tuple[int, ...] | None]:
    """The architecture's string and the widths, None if there are none: the inverse of `join`."""
    text, _, widths = text.partition(_SEPARATOR)
    return text, tuple(map(int, widths.split(","))) if widths else None


class Widths:
    """What the channels of one architecture's network cost, and which of them are strong.

    Args:
      space: the space; must have `layers`.
      text: string of the architecture, also of `all_on`.
      shapes: {path: shape} of the parameters of its network.
      image_size: pixels, (height, width) or the side of a square.
      resource: what is counted, "flops" (multiply-adds) or "params".

    Attributes:
      text: as given.
      names: of the tensors.
      full: widths int [T] of the network with those parameters.

    Raises: ValueError if the space's networks have no widths, or there is no such resource.
    """

    def __init__(
        self,
        space: Space,
        text: str,
        shapes: Mapping[Path, tuple[int, ...]],
        *,
        image_size: ImageSize,
        resource: str = "flops",
    ):
        naming.check("resource", resource, schemas.RESOURCES)
        self._space, self.text, self._layers = space, text, space.layers(text)
        self.names = space.tensors(text)
        outputs = {x.output: _out_channels(shapes, x.scope) for x in self._layers}
        self.full = np.asarray([outputs[name] for name in self.names])

        def costs_of(path, shape):
            if resource == "params":
                return math.prod(shape)
            return space.multiply_adds(path, shape, image_size)

        terms = [
            self._term(layer, path, costs_of(path, shape))
            for layer in self._layers
            for path, shape in shapes.items()
            if path[: len(layer.scope)] == layer.scope
        ]
        self._factors, self._in, self._out = (np.asarray(x) for x in zip(*terms, strict=True))

    def _term(self, layer, path, cost):
        """An array of parameters costs factor * (ins @ w) * (outs @ w), w being the widths and 1.

        Returns: factor, and rows [T + 1] of ins and outs.
        """
        last = path[-1]
        ins = layer.normed if path[-2] == "norm" else layer.inputs if last != "bias" else ()
        outs = (layer.output,) if last in ("kernel", "pointwise") else ()
        rows = [self._row(names) for names in (ins, outs)]
        at_full = math.prod(float(row @ np.append(self.full, 1)) for row in rows)
        return cost / at_full, *rows

    def _row(self, names):
        """Which tensors' widths add up; the last is a constant one, where none does."""
        known = [self.names.index(name) for name in names if name is not None]
        row = np.zeros(len(self.names) + 1)
        row[known or [-1]] = 1
        return row

    def cost(self, widths: Any) -> int:
        """What the network with widths [T] costs, as `nas_jax.costs.params_flops` counts."""
        w = np.append(np.asarray(widths, np.float64), 1)
        return round(float(np.sum(self._factors * (self._in @ w) * (self._out @ w))))

    def marginal(self, widths: Any) -> jax.Array:
        """What one more channel of each tensor costs, float32 [T], at widths [T]: the gradient of
        `cost`."""
        w = jnp.append(jnp.asarray(widths, jnp.float32), 1)
        of_ins = (self._factors * (self._out @ w)) @ self._in
        of_outs = (self._factors * (self._in @ w)) @ self._out
        return (of_ins + of_outs)[:-1]

    def strengths(self, params: Any, usage: Any = None) -> dict[str, jax.Array]:
        """By tensor, float32 [C]: the largest absolute batch-norm scale of each channel.

        Tensors that no batch norm scales are left out. `usage` is as from `Space.usage`: a scale
        counts by the share of groups that use it.
        """
        flat = flax.traverse_util.flatten_dict(params)
        shares = {} if usage is None else flax.traverse_util.flatten_dict(usage)
        found: dict[str, list] = {}
        for layer in self._layers:
            if layer.normed:
                path = (*layer.scope, "norm", "scale")
                sizes = [self.full[self.names.index(name)] for name in layer.normed]
                scale = jnp.abs(flat[path]) * shares.get(path, 1.0)
                for name, part in zip(layer.normed, jnp.split(scale, np.cumsum(sizes)[:-1])):
                    found.setdefault(name, []).append(part)
        return {name: jnp.max(jnp.stack(parts), 0) for name, parts in found.items()}

    def penalty(self, params: Any, usage: Any = None, *, threshold: float) -> jax.Array:
        """MorphNet's penalty as a share of what the full network costs, float32 [].

        The sum over channels of strength times what the channel costs, given what is left of the
        other tensors (channels stronger than `threshold`), which is a constant in the gradient.
        """
        strengths = self.strengths(params, usage)
        left = self._left(self.strengths(params), threshold)
        prices = jax.lax.stop_gradient(self.marginal(jnp.stack(left)))
        sums = [jnp.sum(strengths.get(name, jnp.zeros(1))) for name in self.names]
        return jnp.dot(prices, jnp.stack(sums)) / self.cost(self.full)

    def _left(self, strengths, threshold):
        """Number of channels of each tensor that are stronger than `threshold`."""
        return [
            jnp.sum(strengths[name] > threshold) if name in strengths else jnp.asarray(full)
            for name, full in zip(self.names, self.full)
        ]

    def read_out(self, params: Any, threshold: float) -> tuple[str, tuple[int, ...]]:
        """What is left: the architecture without the options that vanished, and its widths.

        A tensor with no channel left keeps one.
        """
        left = dict(zip(self.names, self._left(self.strengths(params), threshold)))
        text = self._space.to_str(self.without_vanished(params, threshold))
        return text, tuple(max(int(left[name]), 1) for name in self._space.tensors(text))

    def without_vanished(self, params: Any, threshold: float, min_share: float = 0.0) -> Any:
        """Masks bool [k] of the architecture without the options that vanished.

        An option vanishes if of the scales of one of its batch norms, over all cells, a share of
        `min_share` or less is above `threshold`; but the best of a Choice stays. Traceable.
        """
        shares = self._shares_left(params, threshold)
        masks, treedef = jax.tree.flatten(self._space.from_str(self.text))
        kept = []
        for choice, mask in zip(jax.tree.leaves(self._space.choices), masks):
            share = jnp.stack([shares.get((choice.name, j), 1.0) for j in range(len(mask))])
            share = jnp.where(mask != 0, share, -1.0)
            left = share > min_share
            kept.append(jnp.where(jnp.any(left), left, share == jnp.max(share)))
        return treedef.unflatten(kept)

    def _shares_left(self, params, threshold):
        """By (name of the Choice, option): the least share of its batch norms."""
        flat, scales = flax.traverse_util.flatten_dict(params), {}
        for layer in self._layers:
            path = (*layer.scope, "norm", "scale")
            owner = self._space.owner(path)
            if owner is not None and layer.normed:
                below = layer.scope[layer.scope.index(owner[0]) :]  # the same in every cell
                scales.setdefault(owner, {}).setdefault(below, []).append(jnp.abs(flat[path]))
        return {
            owner: jnp.min(
                jnp.stack([jnp.mean(jnp.concatenate(each) > threshold) for each in by.values()])
            )
            for owner, by in scales.items()
        }

    def scaled(self, widths: Any, limit: float) -> tuple[int, ...]:
        """Widths [T] times the largest factor at which the network costs `limit` or less.

        Raises: ValueError if one channel of each tensor costs more.
        """

        def at(factor):
            return np.maximum(np.round(factor * np.asarray(widths)), 1).astype(int)

        if self.cost(at(0)) > limit:
            raise ValueError(
                f"one channel of every tensor costs {self.cost(at(0)):,} already, more than the "
                f"{limit:,.0f} that {self.text!r} may cost"
            )
        low, high = 0.0, 1.0
        while self.cost(at(high)) <= limit:
            low, high = high, 2 * high
        for _ in range(50):  # far below what changes a width
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(at(middle)) <= limit else (low, middle)
        return tuple(at(low).tolist())


def _out_channels(shapes, scope):
    """The last axis of the layer's last kernel."""
    names = [name for name in ("kernel", "pointwise", "depthwise") if (*scope, name) in shapes]
    return shapes[(*scope, names[0])][-1]
