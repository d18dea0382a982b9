"""Widths of a network's tensors: their costs, and MorphNet's choice (Gordon et al., CVPR 2018).

The strength of a channel is the largest absolute batch-norm scale that multiplies it. An L1 penalty
on the strengths, weighted by the channels' costs, shows which channels are worth their cost
(section 4 of the paper). A layer adds two terms: its inputs that are alive times the strengths of
its outputs, and the strengths of its inputs times its outputs that are alive. A channel is alive if
its strength is above a threshold.

Differs from the paper in:

- The penalty is a share of the full network's cost, so its factor has the same meaning for every
  network. The paper's has the cost's unit.
- A depthwise kernel counts once, as in the cost. The published code counts it twice.
- Batch norm stands before a convolution in the cells, so the scales of all readers of a tensor
  count. The paper's stands behind the convolution that makes the tensor.
- In a supernet a scale counts by the share of ghost batches that use it.
- Latency is measured here (`Widths`). That of the published code is the larger of the times for
  computing and for memory, by the peaks of a device.

Letters: T tensors, in the order of `Space.tensors`.
"""

import collections
import copy
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
    """Write the string of a stand-alone network of these widths: 'architecture@8,5,..'."""
    return f"{text}{_SEPARATOR}{','.join(map(str, widths))}"


def split(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Split into the architecture's string and the widths (None without): inverse of `join`."""
    arch, _, widths = text.partition(_SEPARATOR)
    try:
        return arch, tuple(map(int, widths.split(","))) if widths else None
    except ValueError:
        raise ValueError(f"{text!r}: widths after {_SEPARATOR!r} are whole numbers") from None


class Widths:
    """Costs and strengths of the channels of one architecture's network.

    Args:
      space: the space; must have `layers`.
      text: string of the architecture, or of `all_on`.
      shapes: {path: shape} of the parameters of its network.
      image_size: pixels, (height, width) or the side of a square.
      resource: the cost, "flops" (multiply-adds), "params" or "latency_ms" (milliseconds).
      latencies: for "latency_ms": milliseconds of the options in a network with these shapes, as
        `latency.per_option` gives them. Those of an option are shared out among its kernels by
        their multiply-adds; those of an option without kernels do not depend on the widths.

    Attributes:
      text: as given.
      names: of the tensors.
      full: widths int [T] of the network with these parameters.

    Raises: ValueError if the space's networks have no widths, there is no such resource, or no
      latencies are given for "latency_ms", or no kernel takes any time by them.
    """

    def __init__(
        self,
        space: Space,
        text: str,
        shapes: Mapping[Path, tuple[int, ...]],
        *,
        image_size: ImageSize,
        resource: str = "flops",
        latencies: Mapping[str | None, np.ndarray] | None = None,
    ):
        naming.check("resource", resource, schemas.RESOURCES)
        self._space, self.text, self._layers = space, text, space.layers(text)
        self.names = space.tensors(text)
        outputs = {x.output: _out_channels(shapes, x.scope) for x in self._layers}
        self.full = np.asarray([outputs[name] for name in self.names])
        self._is_timed, self._constant = resource == "latency_ms", 0.0

        def cost_of(path, shape):
            if resource == "params":
                return math.prod(shape)
            return space.multiply_adds(path, shape, image_size)

        found = [
            (layer, path, cost_of(path, shape))
            for layer in self._layers
            for path, shape in shapes.items()
            if path[: len(layer.scope)] == layer.scope
        ]
        if self._is_timed:
            found, self._constant = self._timed(found, latencies)
        terms = [self._term(*each) for each in found]
        self._factors, self._in, self._out = (np.asarray(x) for x in zip(*terms, strict=True))

    def _timed(self, found, latencies):
        """Turn multiply-adds of arrays into milliseconds; return those, and those of no array."""
        if latencies is None:
            raise ValueError("resource='latency_ms' needs the latencies of options")
        masks = jax.tree.leaves(self._space.from_str(self.text))
        left = {None: float(latencies[None])}
        for choice, mask in zip(jax.tree.leaves(self._space.choices), masks):
            left |= {(choice.name, int(j)): latencies[choice.name][j] for j in np.flatnonzero(mask)}
        sums = collections.Counter()
        for _, path, flops in found:
            sums[self._space.owner(path)] += flops
        rates = {owner: left.pop(owner) / flops for owner, flops in sums.items() if flops}
        if not any(rates.values()):
            raise ValueError(
                f"{self.text!r}: by these latencies no kernel takes any time, so widths change "
                "nothing; choose resource='flops'"
            )
        timed = [
            (layer, path, flops and flops * rates[self._space.owner(path)])
            for layer, path, flops in found
        ]
        return timed, sum(left.values())

    def _term(self, layer, path, cost):
        """Write the cost of an array of parameters as factor * (ins @ w) * (outs @ w).

        w are the widths, and 1 as the last. Returns: factor, and rows [T + 1], ins and outs.
        """
        last = path[-1]
        ins = layer.normed if path[-2] == "norm" else layer.inputs if last != "bias" else ()
        outs = (layer.output,) if last in ("kernel", "pointwise") else ()
        rows = [self._row(names) for names in (ins, outs)]
        at_full = math.prod(float(row @ np.append(self.full, 1)) for row in rows)
        return cost / at_full, *rows

    def _row(self, names):
        """Mark the tensors whose widths add up; without any, mark the last, a constant one."""
        positions = [self.names.index(name) for name in names if name is not None]
        row = np.zeros(len(self.names) + 1)
        row[positions or [-1]] = 1
        return row

    def with_widths(self, widths: Iterable[int]) -> "Widths":
        """Return the same costs, for the parameters of the network with widths [T]."""
        own = copy.copy(self)
        own.full = np.asarray(widths)
        return own

    def cost(self, widths: Any) -> int | float:
        """Compute the cost of the network with widths [T], as `costs.params_flops` counts.

        It is a whole number, but for milliseconds.
        """
        w = np.append(np.asarray(widths, np.float64), 1)
        amount = self._constant + float(np.sum(self._factors * (self._in @ w) * (self._out @ w)))
        return amount if self._is_timed else round(amount)

    def marginal(self, widths: Any) -> jax.Array:
        """Compute the cost of one more channel of each tensor, float32 [T], at widths [T].

        It is the gradient of `cost`.
        """
        w = jnp.append(jnp.asarray(widths, jnp.float32), 1)
        of_ins = (self._factors * (self._out @ w)) @ self._in
        of_outs = (self._factors * (self._in @ w)) @ self._out
        return (of_ins + of_outs)[:-1]

    def strengths(self, params: Any, usage: Any = None) -> dict[str, jax.Array]:
        """Return {tensor: strength of each channel, float32 [C]}.

        Tensors that no batch norm scales are left out. If `usage` (of `Space.usage`) is given, it
        multiplies the scales: a scale counts by the share of groups that use it.
        """
        flat = flax.traverse_util.flatten_dict(params)
        shares = {} if usage is None else flax.traverse_util.flatten_dict(usage)
        scales: dict[str, list] = {}
        for layer in self._layers:
            if layer.normed:
                path = (*layer.scope, "norm", "scale")
                sizes = [self.full[self.names.index(name)] for name in layer.normed]
                scale = jnp.abs(flat[path]) * shares.get(path, 1.0)
                for name, part in zip(layer.normed, jnp.split(scale, np.cumsum(sizes)[:-1])):
                    scales.setdefault(name, []).append(part)
        return {name: jnp.max(jnp.stack(parts), 0) for name, parts in scales.items()}

    def penalty(self, params: Any, usage: Any = None, *, threshold: float) -> jax.Array:
        """Compute MorphNet's penalty as a share of the full network's cost, float32 [].

        It is the sum over channels of strength times cost. A channel's cost depends on how many
        channels of the other tensors are stronger than `threshold`; it is a constant in the
        gradient.
        """
        strengths = self.strengths(params, usage)
        left = self._left(self.strengths(params), threshold)
        prices = jax.lax.stop_gradient(self.marginal(jnp.stack(left)))
        sums = [jnp.sum(strengths.get(name, jnp.zeros(1))) for name in self.names]
        return jnp.dot(prices, jnp.stack(sums)) / self.cost(self.full)

    def _left(self, strengths, threshold):
        """Count the channels of each tensor that are stronger than `threshold`."""
        return [
            jnp.sum(strengths[name] > threshold) if name in strengths else jnp.asarray(full)
            for name, full in zip(self.names, self.full)
        ]

    def read_out(self, params: Any, threshold: float) -> tuple[str, tuple[int, ...]]:
        """Return the architecture without the options that vanished, and its widths.

        A width counts the channels that are stronger than `threshold`, but at least one.
        """

        @jax.jit
        def read(params):
            left = jnp.stack(self._left(self.strengths(params), threshold))
            return left, self.without_vanished(params, threshold)

        counts, masks = jax.device_get(read(params))
        left, text = dict(zip(self.names, counts)), self._space.to_str(masks)
        return text, tuple(max(int(left[name]), 1) for name in self._space.tensors(text))

    def without_vanished(self, params: Any, threshold: float, min_share: float = 0.0) -> Any:
        """Return masks bool [k] of the architecture without the options that vanished.

        An option vanishes if one of its batch norms has, over all cells, a share of `min_share` or
        less of scales above `threshold`. The best option of a Choice stays. Traceable.
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
        """Return {(Choice's name, option): the least share of scales left in a batch norm}."""
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
        """Multiply widths [T] by the largest factor at which the network costs `limit` or less.

        Raises: ValueError if a network of one channel for each tensor costs more.
        """

        def at(factor):
            return np.maximum(np.round(factor * np.asarray(widths)), 1).astype(int)

        least = self.cost(at(0))
        if least > limit:
            form = "{:,.3g} ms" if self._is_timed else "{:,.0f}"
            least, most = map(form.format, (least, limit))
            raise ValueError(
                f"one channel of every tensor costs {least} already, more than the {most} that "
                f"{self.text!r} may cost"
            )
        low, high = 0.0, 1.0
        while self.cost(at(high)) <= limit:
            low, high = high, 2 * high
        for _ in range(50):  # then the factor is exact to far less than a channel
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(at(middle)) <= limit else (low, middle)
        return tuple(at(low).tolist())


def _out_channels(shapes, scope):
    """Return the size of the last axis of the layer's last kernel."""
    names = [name for name in ("kernel", "pointwise", "depthwise") if (*scope, name) in shapes]
    return shapes[(*scope, names[0])][-1]
