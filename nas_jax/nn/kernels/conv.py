"""Convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nas_jax.nn.kernels import residuals, windows


@functools.partial(jax.jit, static_argnums=2, inline=True)
def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve, SAME: [N, H, W, C] x [kh, kw, C, D], kh and kw odd -> [N, H/s, W/s, D].

    A stride s keeps every s-th pixel of the result without a stride, from the first on.
    """
    return residuals.saved(_conv(x, kernel, stride))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, stride):
    strided = functools.partial(windows.conv_lax, stride=stride)
    cpu = _conv_cpu if stride == 1 else strided
    return lax.platform_dependent(x, kernel, cpu=cpu, default=strided)


def _conv_cpu(x, kernel):
    if kernel.shape[1] == 1 and kernel.shape[0] > 1:  # a column: XLA:CPU is faster along a row
        return _turn(_conv_cpu(_turn(x), jnp.swapaxes(kernel, 0, 1)))
    if kernel.shape[0] == 1 and kernel.shape[2] <= 16 and x.shape[2] % 2 == 0:
        return _conv_pairs(x, kernel)
    return windows.conv_lax(x, kernel)


def _conv_pairs(x, kernel):
    """Convolve over pairs of pixels, [N, H, W/2, 2 C] -> [N, H, W/2, 2 D]."""
    rows, size, channels, features = kernel.shape
    at = windows.taps_of_columns(size, 2, kernel.dtype)
    wide = jnp.einsum("htcd,tmio->hmicod", kernel, at)
    return windows.conv_of_columns(x, wide.reshape(rows, -1, 2 * channels, 2 * features))


def _turn(x):
    return jnp.swapaxes(x, 1, 2)


def _conv_grads_cpu(x, kernel, g):
    """Compute both gradients as convolutions with channels last.

    The kernel's gradient is a convolution whose images are the channels C, whose channels are the
    images N, and whose kernel is the whole of g.
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
        dimension_numbers=windows.LAYOUT,
    )
    return grad_x, jnp.transpose(grad_kernel, (1, 2, 0, 3)).reshape(kernel.shape)


def _strided_grads_cpu(x, kernel, g, stride):
    """Compute both gradients of a square kernel with a stride: products at each tap.

    The gradient of the image is a convolution of g without a stride, whose channels are the
    s x s pixels of a block.
    """
    num, height, width, features = g.shape
    rows, columns, channels, _ = kernel.shape
    padded, flat = windows.pad(x, rows // 2), g.reshape(-1, features)
    ends = (height - 1) * stride + 1, (width - 1) * stride + 1
    taps = [
        lax.slice(
            padded, (0, i, j, 0), (num, i + ends[0], j + ends[1], channels), (1, stride, stride, 1)
        )
        for i in range(rows)
        for j in range(columns)
    ]
    products = [tap.reshape(-1, channels).T @ flat for tap in taps]
    blocks = windows.conv_lax(g, _taps_of_blocks(kernel, stride))
    blocks = blocks.reshape(num, height, width, stride, stride, channels)
    grad_x = jnp.swapaxes(blocks, 2, 3).reshape(num, height * stride, width * stride, channels)
    return grad_x[:, : x.shape[1], : x.shape[2]], jnp.stack(products).reshape(kernel.shape)


def _taps_of_blocks(kernel, stride):
    """Return the kernel from outputs to blocks of s x s pixels: [m, m, D, s s C], m odd."""
    size, _, channels, _ = kernel.shape
    radius = -(-(size // 2) // stride)
    # Pixel s u + a takes tap i of output u + b, where s b = a + size // 2 - i.
    block, a, i = np.ogrid[-radius : radius + 1, :stride, :size]
    at = jnp.asarray(stride * block == a + size // 2 - i, kernel.dtype)
    wide = jnp.einsum("mai,nbj,ijcd->mndabc", at, at, kernel)
    return wide.reshape(*wide.shape[:3], stride * stride * channels)


def _conv_bwd(stride, saved, g):
    rows, columns = saved[1].shape[:2]
    cpu = windows.at_all_pixels(_conv_grads_cpu, stride)
    if stride > 1 and rows == columns:
        cpu = functools.partial(_strided_grads_cpu, stride=stride)
    return windows.bwd(windows.conv_lax, {"cpu": cpu}, stride, saved, g)


_conv.defvjp(lambda x, kernel, stride: (_conv(x, kernel, stride), (x, kernel)), _conv_bwd)
