"""A unit and a projection, each as one kernel on NVIDIA's GPUs: their inputs are read once.

Between the reads and the write of an op XLA keeps two or three arrays in memory: after batch norm
and ReLU, after the depthwise convolution, the concat. Here they stay in registers, and the sums
that the next batch norm needs are taken of the output while it is there. The kernels are Pallas's
for Triton. Other platforms, and shapes that Triton does not take (`supports`), have the composition
of the other kernels; the gradients of both are those of the composition, computed again.

Letters: G groups, n images of a group, H height, W width, C channels in, D out, P = n H W pixels of
a group.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from nas_jax.nn.kernels import batch_norm, residuals
from nas_jax.nn.kernels.depthwise import depthwise as depthwise_conv
from nas_jax.nn.kernels.pointwise import pointwise as pointwise_conv
from nas_jax.nn.kernels.pointwise import pointwise_of_concat

Sums = tuple[jax.Array, jax.Array, jax.Array]  # an array, the sums of it and of its square

# A product on a GPU takes at least 16 channels. With more than these the registers do not suffice.
_WIDTHS = {"bfloat16": {16, 32, 64, 128}, "float32": {16, 32}}
_SIZES = (3, 5, 7)


def supports(dtype: jnp.dtype, *widths: int, size: int = 3) -> bool:
    """Say whether the kernels take arrays of these numbers of channels, in and out.

    Args:
      dtype: of the activations.
      widths: C and D.
      size: k of the depthwise convolution.
    """
    return set(widths) <= _WIDTHS.get(jnp.dtype(dtype).name, set()) and size in _SIZES


# -- the unit: BN, ReLU, depthwise, 1x1 -----------------------------------------------------------


@functools.partial(jax.jit, inline=True)
def unit(
    x: jax.Array,
    factor: jax.Array,
    shift: jax.Array,
    depthwise: jax.Array,
    pointwise: jax.Array,
    rows: jax.Array | None = None,
) -> Sums:
    """Compute pointwise(depthwise(relu(x * factor + shift))), SAME, stride 1, and its sums.

    Args:
      x: [G, n, H, W, C].
      factor: float32 [G, 1, 1, 1, C].
      shift: float32 [G, 1, 1, 1, C].
      depthwise: [k, k, 1, C], k odd.
      pointwise: [C, D].
      rows: int32 [R], the group of x that each group of the output takes; by default R = G, in
        order. Out of range they are clamped.

    Returns:
      y [R, n, H, W, D] of x's dtype, and of y and its square the sums over (n, H, W), float32
      [R, 1, 1, 1, D].
    """
    if rows is not None:
        rows = jnp.clip(rows, 0, x.shape[0] - 1)
    return tuple(map(residuals.saved, _unit(x, factor, shift, depthwise, pointwise, rows)))


@jax.custom_vjp
def _unit(x, factor, shift, spatial, across, rows):
    args = (x, factor, shift, spatial, across, rows)
    if not supports(x.dtype, *across.shape, size=spatial.shape[0]):
        return _unit_composed(*args)
    return lax.platform_dependent(*args, cuda=_unit_kernel, default=_unit_composed)


def _unit_composed(x, factor, shift, spatial, across, rows):
    if rows is not None:
        x, factor, shift = x[rows], factor[rows], shift[rows]
    x = batch_norm.scale_shift(x, factor, shift, relu=True)
    flat = depthwise_conv(x.reshape(-1, *x.shape[2:]), spatial.astype(x.dtype))
    return _with_sums(pointwise_conv(flat.reshape(x.shape), across))


_unit.defvjp(
    lambda *args: (_unit(*args), args),
    lambda args, g: jax.vjp(_unit_composed, *args)[1](g),
)


def _unit_kernel(x, factor, shift, spatial, across, rows, interpret=False):
    groups, num, height, width, channels = x.shape
    size, features = spatial.shape[0], across.shape[1]
    rows = jnp.arange(groups, dtype=jnp.int32) if rows is None else rows
    warps = _warps(channels, features)
    tile = 8 * 32 * warps // max(channels, features)  # more would not fit into registers
    return _with_sums_of_tiles(
        functools.partial(_unit_tile, tile, height, width),
        warps,
        (rows.shape[0], num, height, width, features),
        x.dtype,
        pl.cdiv(num * width, tile),
        interpret,
        rows,
        x.reshape(groups, -1, channels),
        factor.reshape(groups, channels),
        shift.reshape(groups, channels),
        # As rounded for the composition, but the sums of its products are of float32.
        spatial.astype(x.dtype).astype(jnp.float32).reshape(size, size, channels),
        across.astype(x.dtype),
    )


def _unit_tile(tile, height, width, rows, x, factor, shift, spatial, across, y, sums, squares):
    """Compute the unit for `tile` columns of pixels, which may belong to several images.

    It goes down the images. Each pixel is loaded and normalised once for each tap of a row, and
    added to the `size` rows of the output that it reaches. These stay in registers. The uppermost
    is then complete. One loop does it all: from a loop that stores nothing the compiler would move
    the loads of `spatial`, for which there are not enough registers.
    """
    row, size = pl.program_id(1), spatial.shape[0]
    group, radius = rows[row], size // 2
    number = pl.program_id(0) * tile + jnp.arange(tile, dtype=jnp.int32)  # of a column
    column = lax.rem(number, jnp.full_like(number, width))
    top = (number - column) * height + column
    inside = top < x.shape[1]
    factor, shift, across = factor[group, :], shift[group, :], across[:, :]

    def normalised(h, valid):
        """Apply BN and ReLU: zeros outside of the image."""
        h = jnp.maximum(h.astype(jnp.float32) * factor + shift, 0)
        return jnp.where(valid[:, None], h, 0).astype(x.dtype).astype(jnp.float32)

    def added(i, above):
        """Add row i to the rows of the output from i - radius on."""
        to_right = range(-radius, radius + 1)
        valid = [inside & _between(column + j, width) & (i < height) for j in to_right]
        loaded = [_load(x, group, top + i * width + j, v) for j, v in zip(to_right, valid)]
        for j, h in enumerate(map(normalised, loaded, valid)):
            above = [out + h * spatial[size - 1 - a, j, :] for a, out in enumerate(above)]
        return above

    def completed(i, above, *totals):
        """Store row i of the output."""
        out = _product(above.astype(x.dtype), across).astype(y.dtype)
        _store(y, row, top + i * width, inside, out)
        return _added(totals, out)

    def step(i, carry):
        above, *totals = carry
        first, *rest = added(i, above)
        totals = lax.cond(
            i >= radius,
            lambda: completed(i - radius, first, *totals),
            lambda: tuple(totals),  # rows above the image
        )
        return [*rest, jnp.zeros_like(first)], *totals

    above = [jnp.zeros((tile, x.shape[2]), jnp.float32)] * size
    total = jnp.zeros((tile, y.shape[2]), jnp.float32)
    _, *totals = lax.fori_loop(0, height + radius, step, (above, total, total))
    _store_totals(sums, squares, totals)


# -- the projection: BN, ReLU, mask, 1x1, sum -----------------------------------------------------


@functools.partial(jax.jit, inline=True)
def project(
    parts: Sequence[jax.Array],
    factors: Sequence[jax.Array],
    shifts: Sequence[jax.Array],
    mask: jax.Array | None,
    kernels: Sequence[jax.Array],
) -> Sums:
    """Compute the sum over j of mask_j * relu(x_j * factor_j + shift_j) @ kernel_j, and its sums.

    On a GPU parts under a mask of 0 are not read. No gradient flows to the mask.

    Args:
      parts: k arrays x_j [G or 1, n, H, W, C_j]; one with 1 is shared by all groups.
      factors: of each part, float32 [as the part, 1, 1, 1, C_j].
      shifts: of each part, float32 [as the part, 1, 1, 1, C_j].
      mask: [G or 1, k]; by default all parts are taken.
      kernels: of each part, [C_j, D].

    Returns:
      y [G, n, H, W, D] of the parts' dtype, and of y and its square the sums over (n, H, W),
      float32 [G, 1, 1, 1, D].
    """
    if mask is None:
        mask = jnp.ones((1, len(parts)), parts[0].dtype)
    groups = max(mask.shape[0], *(part.shape[0] for part in parts))
    mask = jnp.broadcast_to(lax.stop_gradient(mask), (groups, len(parts)))
    args = (list(parts), list(factors), list(shifts), mask, list(kernels))
    return tuple(map(residuals.saved, _project(*args)))


@jax.custom_vjp
def _project(parts, factors, shifts, mask, kernels):
    args = (parts, factors, shifts, mask, kernels)
    if not supports(parts[0].dtype, *(width for kernel in kernels for width in kernel.shape)):
        return _project_composed(*args)
    return lax.platform_dependent(*args, cuda=_project_kernel, default=_project_composed)


def _project_composed(parts, factors, shifts, mask, kernels):
    masked = [
        batch_norm.scale_shift(x, factor, shift, relu=True)
        * mask[:, j].reshape(-1, 1, 1, 1, 1).astype(x.dtype)
        for j, (x, factor, shift) in enumerate(zip(parts, factors, shifts))
    ]
    return _with_sums(pointwise_of_concat(masked, jnp.concatenate(kernels)))


_project.defvjp(
    lambda *args: (_project(*args), args),
    lambda args, g: jax.vjp(_project_composed, *args)[1](g),
)


def _project_kernel(parts, factors, shifts, mask, kernels, interpret=False):
    shape = (mask.shape[0], *parts[0].shape[1:4], kernels[0].shape[1])
    pixels, dtype = math.prod(shape[1:4]), parts[0].dtype
    tile = 128
    return _with_sums_of_tiles(
        functools.partial(_project_tile, tile),
        _warps(*(width for kernel in kernels for width in kernel.shape)),
        shape,
        dtype,
        pl.cdiv(pixels, tile),
        interpret,
        mask.astype(dtype),
        *(part.reshape(part.shape[0], pixels, -1) for part in parts),
        *(v.reshape(v.shape[0], -1) for v in (*factors, *shifts)),
        *(kernel.astype(dtype) for kernel in kernels),
    )


def _project_tile(tile, mask, *refs):
    """Compute the projection for `tile` pixels."""
    *of_parts, y, sums, squares = refs
    group, count = pl.program_id(1), mask.shape[1]
    pixels = pl.program_id(0) * tile + jnp.arange(tile, dtype=jnp.int32)
    inside = pixels < y.shape[1]
    total = jnp.zeros((tile, y.shape[2]), jnp.float32)
    for j in range(count):
        x, factor, shift, kernel = of_parts[j::count]
        row, weight = (group if x.shape[0] > 1 else 0), mask[group, j]

        def add(total, x=x, factor=factor, shift=shift, kernel=kernel, row=row, weight=weight):
            h = _load(x, row, pixels, inside).astype(jnp.float32)
            h = jnp.maximum(h * factor[row, :] + shift[row, :], 0).astype(x.dtype) * weight
            return total + _product(h, kernel[:, :])

        total = lax.cond(weight != 0, add, lambda total: total, total)
    out = jnp.where(inside[:, None], total, 0).astype(y.dtype)
    _store(y, group, pixels, inside, out)
    _store_totals(sums, squares, _added((0, 0), out))


# -- what both have in common ---------------------------------------------------------------------


def _warps(*widths):
    return 8 if max(widths) > 64 else 4


def _with_sums(y):
    count = math.prod(y.shape[1:4])
    return y, *(count * mean for mean in batch_norm.moments(y))


def _with_sums_of_tiles(body, warps, shape, dtype, tiles, interpret, *args):
    """Run a kernel for `tiles` tiles of each group, and add the sums of the tiles.

    Args:
      body: of one program: (references to args, y, sums, squares).
      warps: of a program.
      shape: of the result, [G, n, H, W, D].
      dtype: of the result.
      tiles: of a group.
      interpret: whether to run on a CPU, slowly, for tests.
      args: arrays.
    """
    groups, *_, features = shape
    of_tiles = jax.ShapeDtypeStruct((groups, tiles, features), jnp.float32)
    y, *totals = pl.pallas_call(
        body,
        grid=(tiles, groups),
        out_shape=(
            jax.ShapeDtypeStruct((groups, math.prod(shape[1:4]), features), dtype),
            of_tiles,
            of_tiles,
        ),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
    )(*args)
    totals = (jnp.sum(total, 1)[:, None, None, None] for total in totals)
    return y.reshape(shape), *totals


def _between(x, end):
    return (x >= 0) & (x < end)


def _load(ref, group, pixels, valid):
    """Load pixels [T] of an array [G, P, C] -> [T, C]: zeros where not `valid`."""
    at, mask = _places(ref, group, pixels, valid)
    return triton.load(at, mask=mask, other=0)


def _store(ref, group, pixels, valid, value):
    """Store value [T, C] at pixels [T] of an array [G, P, C], where `valid`."""
    at, mask = _places(ref, group, pixels, valid)
    triton.store(at, value, mask=mask)


def _places(ref, group, pixels, valid):
    channels = jnp.arange(ref.shape[2], dtype=jnp.int32)
    mask = jnp.broadcast_to(valid[:, None], (*valid.shape, ref.shape[2]))
    return ref.at[group, pixels[:, None], channels[None, :]], mask


def _product(a, b):
    """Multiply matrices of one dtype -> float32. Products of float32 are not rounded."""
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _added(totals, out):
    """Add to the sums of y and of its square, of y as it is rounded."""
    out = out.astype(jnp.float32)
    return totals[0] + out, totals[1] + out * out


def _store_totals(sums, squares, totals):
    for ref, total in zip((sums, squares), totals):
        ref[pl.program_id(1), pl.program_id(0), :] = jnp.sum(total, 0)
