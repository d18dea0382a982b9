"""The places of generated kernels in SMASH's tensors, and the architecture-conditional tensor.

SMASH's hypernetwork maps a picture to a picture (Brock et al., section 3.2). One axis has units,
the other positions in the network. A place emits a tile of a kernel: `COMPRESSION * TILE` channels
in, `TILE` channels out. A kernel takes a column for each tile of its input, and a row for each tile
of its output; if it has more than `UNITS` outputs, it takes further columns.

Letters: G groups, N generated kernels, P rows (units), L columns, C channels of the conditional
tensor, W options that own kernels, M options of all Choices.
"""

import dataclasses
import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.spaces import Space, wiring
from nas_jax.spaces import params as params_lib
from nas_jax.spaces.params import Path
from nas_jax.training.variants.hypernetwork import is_pointwise

TILE = 8  # channels of a memory bank, N in the published code
UNITS = 64  # channels out of a column, its N_max
COMPRESSION = 2  # memory banks of a position, its depth compression
TINY = 1e-20  # below any squared norm


def generated(shapes: dict[Path, tuple[int, ...]], space: Space) -> list[Path]:
    """List the kernels of 1x1 convolutions that belong to an option, in order."""
    kernels = (path for path, shape in shapes.items() if is_pointwise(shape))
    return sorted((path for path in kernels if space.owner(path)), key=_natural)


def _natural(path):
    """Sort "cell10" after "cell2"."""
    return [[int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)] for name in path]


@dataclasses.dataclass(frozen=True, eq=False)  # arrays are not hashable
class Places:
    """Where the kernels of a supernet lie, and what each place knows.

    Attributes:
      paths: of the generated kernels, in order.
      sizes: int [N, 2], their channels in and out.
      first: int [N], their first columns.
      rows, columns: P and L.
      channels: what each channel of the conditional tensor says, (kind, value): those of `wired`,
        then those of `fixed`.
      owners: int [N], for each kernel the number of its owner.
      options: int [W], for each owner its place in the concat of all masks.
      wired: float32 [W, C1, M], 1 where an option that is on switches a channel on.
      fixed: float32 [N, C2], the channels that do not depend on the architecture.
      convolution: float32 [N, N], 1 where two kernels are parts of one convolution.
    """

    paths: list[Path]
    sizes: np.ndarray
    first: np.ndarray
    rows: int
    columns: int
    channels: list[tuple[str, Any]]
    owners: np.ndarray
    options: np.ndarray
    wired: np.ndarray
    fixed: np.ndarray
    convolution: np.ndarray

    def conditional(self, masks: Any) -> jax.Array:
        """Make the architecture-conditional tensor [G, P, L, C] of masks [G, k].

        As published, an entry is 1 where its statement holds at a place, and -1 elsewhere. All
        entries of an option that is off are -1, as are those of rows without outputs.
        """
        on = self._on(masks)
        holds = jnp.einsum("wcm,gm->gwc", self.wired, on) > 0
        holds = holds & (on[:, self.options] > 0)[..., None]
        fixed = self.fixed * on[:, self.options][:, self.owners][..., None]
        of_kernels = jnp.concatenate([holds[:, self.owners].astype(jnp.float32), fixed], -1)
        columns, has_outputs = self._columns()
        return 2 * of_kernels[:, None, columns] * has_outputs[..., None] - 1

    def _on(self, masks):
        return jnp.concatenate([(m != 0).astype(jnp.float32) for m in jax.tree.leaves(masks)], -1)

    def _columns(self):
        """Return each column's kernel, int [L], and which rows it uses, float32 [P, L]."""
        kernels, outputs = [], []
        for number, (into, out) in enumerate(self.sizes):
            lots = -(-out // (self.rows * TILE))
            for column in range(-(-into // (COMPRESSION * TILE)) * lots):
                begin = column % lots * self.rows * TILE
                kernels.append(number)
                outputs.append(begin + np.arange(self.rows) * TILE < out)
        return np.asarray(kernels), np.stack(outputs, 1).astype(np.float32)

    def kernels(self, emitted: jax.Array, masks: Any) -> dict[Path, jax.Array]:
        """Cut kernels [G, 1, 1, channels in, channels out] out of what places emit.

        As published, the kernel of a convolution is divided by its norm, here over the inputs that
        are on. Then it is multiplied by what makes its variance 2 / fan-in, with which kernels of a
        stand-alone network begin.

        Args:
          emitted: float32 [G, P, L, COMPRESSION * TILE * TILE].
          masks: [G, k].
        """
        numbers, arrays = [], []
        for size in dict.fromkeys(map(tuple, self.sizes.tolist())):
            same = np.flatnonzero((self.sizes == size).all(1))
            numbers += same.tolist()
            arrays.append(self._cut(emitted, self.first[same], *size))
        squares = [jnp.sum(jnp.square(array), (2, 3)) for array in arrays]
        order = np.argsort(numbers)
        scale = self._scale(jnp.concatenate(squares, 1)[:, order], masks)
        every = [array[:, i] for array in arrays for i in range(array.shape[1])]
        return {
            self.paths[n]: (scale[:, n, None, None] * kernel)[:, None, None]
            for n, kernel in zip(numbers, every)
        }

    def _cut(self, emitted, first, into, out):
        """Cut out n kernels of one size, [G, n, channels in, channels out]."""
        deep, lots = -(-into // (COMPRESSION * TILE)), -(-out // (self.rows * TILE))
        columns = first[:, None] + np.arange(deep * lots)
        tiles = emitted.at[:, :, columns].get(unique_indices=True, mode="promise_in_bounds")
        axes = self.rows, len(first), deep, lots, COMPRESSION * TILE, TILE
        tiles = tiles.reshape(-1, *axes)
        whole = jnp.transpose(tiles, (0, 2, 3, 5, 4, 1, 6))  # G, n, in (2), out (3)
        whole = whole.reshape(*whole.shape[:2], deep * COMPRESSION * TILE, -1)
        return whole[:, :, :into, :out]

    def _scale(self, squares, masks):
        """Return the factor on each kernel [G, N], from the squares of their norms."""
        on = self._on(masks)[:, self.options][:, self.owners]
        of_on, of_all = (on * squares) @ self.convolution, squares @ self.convolution
        norms = jnp.where(on @ self.convolution > 0, of_on, of_all)
        wanted = 2 * self.sizes[:, 1].astype(np.float32)  # of a squared norm: 2 / in * in * out
        return jnp.sqrt(wanted) * jax.lax.rsqrt(jnp.maximum(norms, TINY))


@functools.lru_cache(8)
def of(space: Space, filters: int, num_classes: int, channels: int) -> Places:
    """Lay out the generated kernels of a supernet; arguments as of `params.param_shapes`."""
    shapes = params_lib.param_shapes(space, filters, num_classes, channels)
    paths = generated(shapes, space)
    owners = list(dict.fromkeys(map(space.owner, paths)))
    sizes = np.asarray([shapes[path][2:] for path in paths])
    rows = min(UNITS // TILE, math.ceil(sizes[:, 1].max() / TILE))
    taken = [-(-into // (COMPRESSION * TILE)) * -(-out // (rows * TILE)) for into, out in sizes]
    wired, names = _wired(space, shapes, owners)
    fixed, fixed_names = _fixed(space, paths, sizes)
    return Places(
        paths=paths,
        sizes=sizes,
        first=np.cumsum([0, *taken[:-1]]),
        rows=rows,
        columns=int(sum(taken)),
        channels=[*names, *fixed_names],
        owners=np.asarray([owners.index(space.owner(path)) for path in paths]),
        options=np.asarray([_numbers(space)[owner] for owner in owners]),
        wired=wired,
        fixed=fixed,
        convolution=_convolution(space, paths),
    )


def _numbers(space):
    """Return the place of each option in the concat of all masks."""
    every = [(c.name, j) for c in jax.tree.leaves(space.choices) for j in range(c.num_options)]
    return {option: number for number, option in enumerate(every)}


def _wired(space, shapes, owners):
    """Tabulate what an owner reads, writes and computes: [W, C1, M], and the channels' names."""
    wirings, numbers, sizes = checked_wirings(space), _numbers(space), _kernel_sizes(space, shapes)
    names = {c.name: space.option_names(c) for c in jax.tree.leaves(space.choices)}
    entries = []  # (owner, channel, option)
    for number, owner in enumerate(owners):
        wired_as = wirings[owner]
        entries += [(number, ("reads", tensor), option) for tensor, option in wired_as.reads]
        entries.append((number, ("writes", wired_as.writes), owner))
        for op in wired_as.ops:
            entries.append((number, ("op", names[op[0]][op[1]]), op))
            entries += [(number, ("kernel size", size), op) for size in sizes.get(op, ())]
    kinds = ("reads", "writes", "op", "kernel size")
    channels = {channel for _, channel, _ in entries}
    channels = sorted(channels, key=lambda c: (kinds.index(c[0]), _natural([str(c[1])])))
    wired = np.zeros((len(owners), len(channels), len(numbers)), np.float32)
    for number, channel, option in entries:
        wired[number, channels.index(channel), numbers[option]] = 1
    return wired, channels


def checked_wirings(space: Space) -> dict[wiring.Option, wiring.Wiring]:
    """Return `Space.wirings`, checked as by `wiring.checked`."""
    return wiring.checked(space.wirings(), jax.tree.leaves(space.choices), type(space).__name__)


def _kernel_sizes(space, shapes):
    """Return the sizes (height, width) of each option's kernels, but those of 1x1."""
    sizes: dict[Any, set] = {}
    for path, shape in shapes.items():
        if len(shape) == 4 and not is_pointwise(shape) and (owner := space.owner(path)):
            sizes.setdefault(owner, set()).add(shape[:2])
    return sizes


def _fixed(space, paths, sizes):
    """Tabulate the width of each kernel, its cell, and which of its option's it is: [N, C2]."""
    rows = []
    for path, (_, out) in zip(paths, sizes.tolist()):
        above = path.index(space.owner(path)[0])
        rows.append({("width", out), ("cell", path[:above]), ("part", path[above + 2 :])})
    kinds = ("width", "cell", "part")
    key = {"width": lambda out: [[out]], "cell": _natural, "part": _natural}
    channels = sorted(set().union(*rows), key=lambda c: (kinds.index(c[0]), key[c[0]](c[1])))
    return np.asarray([[float(c in row) for c in channels] for row in rows], np.float32), channels


def _convolution(space, paths):
    """Say which kernels are parts of one convolution, float32 [N, N]."""
    wirings, parts = checked_wirings(space), []
    for path in paths:
        name, number = space.owner(path)
        at = path.index(name)
        joined = wirings[name, number].joined
        parts.append((path[: at + 1], path[at + 2 :]) if joined else path)
    return np.asarray([[float(a == b) for b in parts] for a in parts], np.float32)
