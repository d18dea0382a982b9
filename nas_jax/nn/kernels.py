"""Array functions that XLA is slow at on some device, each in a form of its own there.

Letters: G groups, n images of a group, N = G n images, H height, W width, C channels in, D out.

On CPU, XLA's grouped convolutions, window reductions, gradients of convolutions (inside loops and
conditionals) and sums over everything but few channels are five to a hundred times slower than the
forms here. `lax.platform_dependent` keeps those off accelerators. On NVIDIA's GPUs two things are
slow: the gradient of a depthwise convolution and that of a window's maximum. Gradients are written
out (`custom_vjp`), so that only one form is ever differentiated, and so that no more is saved than
needed.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

SAVED = "saved"  # name of what is worth keeping for gradients; the rest is cheap to compute again
_FEW = 8  # images that a depthwise convolution's kernel gradient takes at a time


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution [.., C] x [C, D] -> [.., D], as one flat matrix product.

    On arrays of more axes XLA:CPU transposes both operands for the kernel's gradient.
    """
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    return checkpoint_name(flat.reshape(*x.shape[:-1], kernel.shape[-1]), SAVED)


@jax.custom_vjp
def pointwise_of_concat(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """1x1 convolution of the concat of channels, which XLA:CPU need not make.

    Args:
      parts: k arrays [G or 1, n, H, W, C_j].
      kernel: [sum of C_j, D].

    Returns:
      [G, n, H, W, D].
    """
    return lax.platform_dependent(parts, kernel, cpu=_sum_of_products, default=_product_of_concat)


def _sum_of_products(parts, kernel):
    starts = np.cumsum([part.shape[-1] for part in parts])[:-1]
    return sum(map(pointwise, parts, jnp.split(kernel, starts)))


def _product_of_concat(parts, kernel):
    return pointwise(concat(parts), kernel)


def _pointwise_of_concat_bwd(saved, g):
    def by(form):
        return lambda parts, kernel, g: jax.vjp(form, parts, kernel)[1](g)

    return lax.platform_dependent(
        *saved, g, cpu=by(_sum_of_products), default=by(_product_of_concat)
    )


pointwise_of_concat.defvjp(
    lambda parts, kernel: (pointwise_of_concat(parts, kernel), (parts, kernel)),
    _pointwise_of_concat_bwd,
)


def concat(parts: Sequence[jax.Array]) -> jax.Array:
    """Concatenate channels; parts shared by all groups ([1, ...]) are broadcast to [G, ...]."""
    if len(parts) == 1:
        return parts[0]
    groups = max(part.shape[0] for part in parts)
    return jnp.concatenate([jnp.broadcast_to(p, (groups, *p.shape[1:])) for p in parts], -1)


# -- batch norm -----------------------------------------------------------------------------------


def _channel_sums(*factors):
    """Sums of the product of arrays [G, n, H, W, C] -> [G, 1, 1, 1, C]."""
    return lax.platform_dependent(*factors, cpu=_channel_sums_cpu, default=_channel_sums_any)


def _channel_sums_any(*factors):
    return jnp.sum(math.prod(factors), (1, 2, 3), keepdims=True)


def _channel_sums_cpu(*factors):
    """Of each image first: a running sum over all pixels of a large batch loses digits.

    Multiplied before they are reshaped: XLA:CPU's library needs that to be fast.
    """
    product = math.prod(factors)
    groups, num, *_, channels = product.shape
    sums = jnp.sum(product.reshape(groups, num, -1, channels), 2)
    return jnp.sum(sums, 1)[:, None, None, None]


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means of x and of its square per group and channel.

    [G, n, H, W, C] -> two arrays float32 [G, 1, 1, 1, C].
    """
    return checkpoint_name(_moments(x), SAVED)


@jax.custom_vjp
def _moments(x):
    x = x.astype(jnp.float32)
    count = math.prod(x.shape[1:4])
    return _channel_sums(x) / count, _channel_sums(x, x) / count


def _moments_bwd(x, cotangents):
    mean, mean_square = (cotangent / math.prod(x.shape[1:4]) for cotangent in cotangents)
    return ((mean + 2 * x * mean_square).astype(x.dtype),)


_moments.defvjp(lambda x: (_moments(x), x), _moments_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def scale_shift(x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool) -> jax.Array:
    """x * factor + shift, then ReLU if `relu`; its gradient recomputes the sign.

    Args:
      x: [G, n, H, W, C].
      factor: float32 [G, 1, 1, 1, C].
      shift: float32 [G, 1, 1, 1, C].
      relu: whether negative values become zero.

    Returns:
      [G, n, H, W, C] of x's dtype.
    """
    y = x * factor + shift
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


def _scale_shift_bwd(relu, saved, g):
    x, factor, shift = saved
    g = g.astype(jnp.float32)
    if relu:
        g = jnp.where(x * factor + shift > 0, g, 0)
    return (g * factor).astype(x.dtype), _channel_sums(g, x), _channel_sums(g)


scale_shift.defvjp(
    lambda x, factor, shift, relu: (scale_shift(x, factor, shift, relu), (x, factor, shift)),
    _scale_shift_bwd,
)


# -- convolution ----------------------------------------------------------------------------------

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _conv_lax(x, kernel, stride=1, groups=1):
    """Padded by half the kernel: with a stride, SAME would be off by a pixel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution, SAME: [N, H, W, C] x [kh, kw, C, D], kh and kw odd -> [N, H/s, W/s, D].

    With a stride it is every s-th pixel of that without, from the first.
    """
    return checkpoint_name(_conv(x, kernel, stride), SAVED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, stride):
    strided = functools.partial(_conv_lax, stride=stride)
    cpu = _conv_cpu if stride == 1 else strided
    return lax.platform_dependent(x, kernel, cpu=cpu, default=strided)


def _conv_cpu(x, kernel):
    if kernel.shape[1] == 1 and kernel.shape[0] > 1:  # a column: XLA:CPU is faster along a row
        return _turn(_conv_cpu(_turn(x), jnp.swapaxes(kernel, 0, 1)))
    if kernel.shape[0] == 1 and kernel.shape[2] <= 16 and x.shape[2] % 2 == 0:
        return _conv_pairs(x, kernel)
    return _conv_lax(x, kernel)


def _conv_pairs(x, kernel):
    """A row convolution over pairs of pixels, [N, H, W/2, 2 C] -> [N, H, W/2, 2 D].

    Its matrix products do more than they must, but are wide enough for XLA:CPU to be fast.
    """
    num, height, width, channels = x.shape
    size, features = kernel.shape[1], kernel.shape[3]
    reach = -(-(size // 2) // 2)  # pairs to each side
    taps = jnp.pad(kernel[0], ((2 * reach - size // 2 + 1,) * 2, (0, 0), (0, 0)))
    # Input pixel i of pair p, output pixel o: the tap at 2 p + i - o.
    offset = 2 * np.arange(2 * reach + 1)[:, None, None] + np.arange(2)[:, None] - np.arange(2) + 1
    wide = jnp.transpose(taps[offset], (0, 1, 3, 2, 4)).reshape(1, -1, 2 * channels, 2 * features)
    pairs = x.reshape(num, height, width // 2, 2 * channels)
    return _conv_lax(pairs, wide).reshape(num, height, width, features)


def _turn(x):
    return jnp.swapaxes(x, 1, 2)


def _strided_bwd(form, grads, stride, saved, g):
    """Gradients of `form`; `grads` has functions by platform, for stride 1."""

    def strided(x, kernel, g):
        return jax.vjp(functools.partial(form, stride=stride), x, kernel)[1](g)

    def at_all_pixels(grads_of_one, x, kernel, g):
        return grads_of_one(x, kernel, _spread(g, stride, x.shape))

    forms = {name: functools.partial(at_all_pixels, own) for name, own in grads.items()}
    return lax.platform_dependent(*saved, g, **forms, default=strided)


def _spread(g, stride, shape):
    """The gradient of every s-th pixel as that of all, zero at the others."""
    if stride == 1:
        return g
    return jnp.zeros((*shape[:3], g.shape[-1]), g.dtype).at[:, ::stride, ::stride].set(g)


def _conv_grads_cpu(x, kernel, g):
    """Both gradients as convolutions with channels last.

    That of the kernel has the channels C for images, the images N for channels, and the whole
    g as kernel.
    """
    height, width = kernel.shape[:2]
    grad_x = _conv_cpu(g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    if width == 1:
        x, g = _turn(x), _turn(g)
    rows, columns = (1, height) if width == 1 else (height, width)
    grad_kernel = lax.conv_general_dilated(
        jnp.transpose(x, (3, 1, 2, 0)),
        jnp.transpose(g, (1, 2, 0, 3)),
        (1, 1),
        [(rows // 2, rows // 2), (columns // 2, columns // 2)],
        dimension_numbers=_LAYOUT,
    )
    return grad_x, jnp.transpose(grad_kernel, (1, 2, 0, 3)).reshape(kernel.shape)


_conv.defvjp(
    lambda x, kernel, stride: (_conv(x, kernel, stride), (x, kernel)),
    functools.partial(_strided_bwd, _conv_lax, {"cpu": _conv_grads_cpu}),
)


# -- depthwise convolution ------------------------------------------------------------------------


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution, SAME: [N, H, W, C] x [k, k, 1, C], k odd -> [N, H/s, W/s, C]."""
    return checkpoint_name(_depthwise(x, kernel, stride), SAVED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x, kernel, stride):
    cpu = functools.partial(_depthwise_shifts, stride=stride)
    strided = functools.partial(_depthwise_lax, stride=stride)
    return lax.platform_dependent(x, kernel, cpu=cpu, default=strided)


def _depthwise_lax(x, kernel, stride=1):
    return _conv_lax(x, kernel, stride, groups=x.shape[-1])


def _pad(x, radius, value=0.0):
    """[N, H, W, C] with a border, written into a full array: `lax.pad` tests every element."""
    num, height, width, channels = x.shape
    border = jnp.full((num, height + 2 * radius, width + 2 * radius, channels), value, x.dtype)
    return lax.dynamic_update_slice(border, x, (0, radius, radius, 0))


def _depthwise_shifts(x, kernel, stride=1):
    size, (_, height, width, _) = kernel.shape[0], x.shape
    padded = _pad(x, size // 2)

    def row(i):  # a sum of its own: a processor works on several at a time
        window = padded[:, i : i + height : stride]
        return sum(window[:, :, j : j + width : stride] * kernel[i, j, 0] for j in range(size))

    return sum(map(row, range(size)))


def _depthwise_grads_cpu(x, kernel, g):
    """Input gradient: the same shifts, kernel flipped."""
    return _depthwise_shifts(g, kernel[::-1, ::-1]), _depthwise_taps(x, g, kernel.shape)


def _depthwise_taps(x, g, shape):
    """Kernel gradient: of a few images at a time, which stay in the cache, tap by tap.

    Each tap is a step of its own: fused into one loop the k*k reductions take ten times as long.
    W and C are merged so that sums run along contiguous memory.
    """
    size, (num, height, width, channels) = shape[0], x.shape
    few = math.gcd(num, _FEW)
    padded = _pad(x, size // 2).reshape(num, height + size - 1, -1)
    flat_g = g.reshape(num, height, width * channels)
    ones = jnp.ones((1, height), g.dtype)  # a product with it is a faster sum

    def at(array, start, shape):
        start = [jnp.asarray(place, jnp.int32) for place in start]
        return lax.dynamic_slice(array, start, shape, allow_negative_indices=False)

    def add(taps, step):
        first, i, j = step
        row, place = (1, height, width * channels), (i, j, 0, 0)
        product = sum(
            at(padded, (first + m, i, j * channels), row)[0] * at(flat_g, (first + m, 0, 0), row)[0]
            for m in range(few)
        )
        total = at(taps, place, (1, 1, 1, channels))
        total += jnp.sum((ones @ product).reshape(1, 1, 1, width, channels), 3)
        return lax.dynamic_update_slice(taps, total, place, allow_negative_indices=False), None

    steps = np.mgrid[0:num:few, :size, :size].reshape(3, -1).astype(np.int32)
    return lax.scan(add, jnp.zeros(shape, g.dtype), tuple(steps))[0]


def _depthwise_grads_cuda(x, kernel, g):
    """Input gradient: a depthwise convolution again, three to six times as fast as JAX's own form
    of it, whose kernel has the channels elsewhere.
    """
    grad_kernel = jax.vjp(functools.partial(_depthwise_lax, x), kernel)[1](g)[0]
    return _depthwise_lax(g, kernel[::-1, ::-1]), grad_kernel


_depthwise.defvjp(
    lambda x, kernel, stride: (_depthwise(x, kernel, stride), (x, kernel)),
    functools.partial(
        _strided_bwd, _depthwise_lax, {"cpu": _depthwise_grads_cpu, "cuda": _depthwise_grads_cuda}
    ),
)


# -- pooling --------------------------------------------------------------------------------------


def _pool_shifts(x, combine, value):
    """3x3, stride 1, as two separable passes of shifted slices over [N, H, W, C]."""
    height, width = x.shape[1:3]
    padded = _pad(x, 1, value)
    rows = functools.reduce(combine, (padded[:, i : i + height] for i in range(3)))
    return functools.reduce(combine, (rows[:, :, j : j + width] for j in range(3)))


def _pool_lax(x, combine, value):
    window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
    return lax.reduce_window(x, np.asarray(value, x.dtype), combine, window, strides, "SAME")


def _pool_any(x, combine, value):
    by_shifts = functools.partial(_pool_shifts, combine=combine, value=value)
    by_lax = functools.partial(_pool_lax, combine=combine, value=value)
    flat = x.reshape(-1, *x.shape[-3:])
    forms = {"cpu": by_shifts, "cuda": by_shifts}  # the gradient of a window's maximum is slow
    return lax.platform_dependent(flat, **forms, default=by_lax).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pool(x, combine, value):
    return _pool_any(x, combine, value)


def _pool_bwd(combine, value, x, g):
    """Of x alone: eight arrays of comparisons would be saved otherwise."""
    return jax.vjp(lambda x: _pool_any(x, combine, value), x)[1](g)


_pool.defvjp(lambda x, combine, value: (_pool(x, combine, value), x), _pool_bwd)


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum, stride 1, SAME: [.., H, W, C] -> the same shape."""
    return _pool(x, lax.max, -jnp.inf)


def avg_pool(x: jax.Array) -> jax.Array:
    """3x3 mean over the pixels inside the image, stride 1: [.., H, W, C] -> the same shape."""
    ones = jnp.ones((*x.shape[-3:-1], 1), x.dtype)
    return _pool(x, lax.add, 0.0) / _pool(ones, lax.add, 0.0)


def halve(x: jax.Array) -> jax.Array:
    """2x2 mean, stride 2, of even height and width: [.., H, W, C] -> [.., H/2, W/2, C]."""
    *leading, height, width, channels = x.shape
    rows = x.reshape(*leading, height // 2, 2, width, channels)
    rows = rows[..., 0, :, :] + rows[..., 1, :, :]
    pairs = rows.reshape(*leading, height // 2, width // 2, 2, channels)
    return (pairs[..., 0, :] + pairs[..., 1, :]) / 4
