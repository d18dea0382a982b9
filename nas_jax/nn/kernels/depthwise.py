"""Depthwise convolution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nas_jax.nn.kernels import residuals, windows

_FEW = 8  # images that the kernel gradient takes at a time
_LANES = 128  # of a TPU: products of fewer channels leave the others idle


@functools.partial(jax.jit, static_argnums=2, inline=True)
def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve depthwise, SAME: [N, H, W, C] x [k, k, 1, C], k odd -> [N, H/s, W/s, C]."""
    return residuals.saved(_depthwise(x, kernel, stride))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x, kernel, stride):
    cpu = functools.partial(_depthwise_shifts, stride=stride)
    strided = functools.partial(_depthwise_lax, stride=stride)
    tpu = _depthwise_columns if stride == 1 else strided
    return lax.platform_dependent(x, kernel, cpu=cpu, tpu=tpu, default=strided)


def _depthwise_lax(x, kernel, stride=1):
    return windows.conv_lax(x, kernel, stride, groups=x.shape[-1])


def _depthwise_shifts(x, kernel, stride=1):
    size, (_, height, width, _) = kernel.shape[0], x.shape
    padded = windows.pad(x, size // 2)

    def row(i):  # independent sums: a processor works on several at a time
        window = padded[:, i : i + height : stride]
        return sum(window[:, :, j : j + width : stride] * kernel[i, j, 0] for j in range(size))

    return sum(map(row, range(size)))


def _depthwise_columns(x, kernel):
    """Convolve all channels with all over blocks of columns, which together fill the lanes.

    Most products are by zero. Still, a TPU's compiler counts up to 17 times fewer cycles, more of
    them for large kernels and few channels (benchmarks/depthwise.py).
    """
    count, channels = _block(x), x.shape[-1]
    if count == 1:
        return _depthwise_lax(x, kernel)
    at = windows.taps_of_columns(kernel.shape[1], count, kernel.dtype)
    taps = jnp.einsum("htc,tmio->hmico", kernel[:, :, 0], at, precision="highest")  # exact
    wide = taps[..., None] * jnp.eye(channels, dtype=kernel.dtype)[:, None]  # [.., C, o, C]
    return windows.conv_of_columns(x, wide.reshape(*wide.shape[:2], count * channels, -1))


def _block(x):
    """Return how many columns, at most, fill the lanes and divide the width; 1: none."""
    width, channels = x.shape[2:]
    return max((n for n in range(1, _LANES // channels + 1) if width % n == 0), default=1)


def _depthwise_grads_cpu(x, kernel, g):
    """Compute the input gradient by the same shifts with a flipped kernel, and the kernel's."""
    return _depthwise_shifts(g, kernel[::-1, ::-1]), _depthwise_taps(x, g, kernel.shape)


def _depthwise_taps(x, g, shape):
    """Compute the kernel gradient tap by tap, for a few images at a time, which stay in the cache.

    Each tap is a separate step: fused into one loop, the k*k reductions take ten times as long. W
    and C are merged so that sums run along contiguous memory.
    """
    size, (num, height, width, channels) = shape[0], x.shape
    few = math.gcd(num, _FEW)
    padded = windows.pad(x, size // 2).reshape(num, height + size - 1, -1)
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


def _depthwise_grads(form, x, kernel, g):
    """Compute the input gradient as a depthwise convolution, too, of the same form.

    On NVIDIA's GPUs it is three to six times as fast as JAX's gradient, whose kernel has the
    channels elsewhere.
    """
    grad_kernel = jax.vjp(functools.partial(form, x), kernel)[1](g)[0]
    return form(g, kernel[::-1, ::-1]), grad_kernel


def _depthwise_grads_tpu(x, kernel, g):
    if _block(x) == 1:  # JAX's own gradient is the faster one there
        return jax.vjp(_depthwise_lax, x, kernel)[1](g)
    return _depthwise_grads(_depthwise_columns, x, kernel, g)


_GRADS = {
    "cpu": _depthwise_grads_cpu,
    "cuda": functools.partial(_depthwise_grads, _depthwise_lax),
    "tpu": _depthwise_grads_tpu,
}


def _bwd(stride, saved, g):
    # TPUs have no form of their own for strides: neither here nor in `_depthwise`.
    grads = {
        name: windows.at_all_pixels(form, stride)
        for name, form in _GRADS.items()
        if stride == 1 or name != "tpu"
    }
    return windows.bwd(_depthwise_lax, grads, stride, saved, g)


_depthwise.defvjp(lambda x, kernel, stride: (_depthwise(x, kernel, stride), (x, kernel)), _bwd)
