"""The common part of functions over windows of an image: borders, and gradients of strides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_lax(x, kernel, stride=1, groups=1):
    """Convolve by XLA, padded by half the kernel: with a stride, SAME would be off by a pixel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def conv_of_columns(x, wide):
    """Convolve [N, H, W, C] over blocks of b columns, whose pixels become channels.

    The products also multiply by zeros, but are wide enough to be fast.

    Args:
      x: b divides W.
      wide: [kh, m, b C, b D], made by `taps_of_columns`.
    """
    num, height, width, channels = x.shape
    count = wide.shape[2] // channels
    blocks = x.reshape(num, height, width // count, count * channels)
    return conv_lax(blocks, wide).reshape(num, height, width, -1)


def taps_of_columns(size, count, dtype):
    """Say which tap of a row each pair of pixels has, as 0 and 1: [taps, m, b inputs, b outputs].

    The block of the outputs is in the middle of the m blocks of the inputs.
    """
    reach = -(-(size // 2) // count)  # blocks to each side
    tap, block, i, o = np.ogrid[:size, -reach : reach + 1, :count, :count]
    return jnp.asarray(tap - size // 2 == count * block + i - o, dtype)


def pad(x, radius, value=0.0):
    """Surround [N, H, W, C] by a border of `radius` pixels of `value`.

    The image is written into a full array, as `lax.pad` would test every element.
    """
    num, height, width, channels = x.shape
    border = jnp.full((num, height + 2 * radius, width + 2 * radius, channels), value, x.dtype)
    return lax.dynamic_update_slice(border, x, (0, radius, radius, 0))


def bwd(form, grads, stride, saved, g):
    """Compute the gradients of a convolution with respect to image and kernel.

    Args:
      form: (x, kernel, stride) -> the convolution.
      grads: {platform: (x, kernel, g) -> both gradients}; other platforms differentiate `form`.
      stride: of the convolution.
      saved: (x, kernel).
      g: gradient of the output.
    """

    def differentiated(x, kernel, g):
        return jax.vjp(functools.partial(form, stride=stride), x, kernel)[1](g)

    return lax.platform_dependent(*saved, g, **grads, default=differentiated)


def at_all_pixels(grads, stride):
    """Make (x, kernel, g) -> gradients with a stride from those without."""
    return lambda x, kernel, g: grads(x, kernel, _spread(g, stride, x.shape))


def _spread(g, stride, shape):
    """Spread the gradient of every s-th pixel over all pixels, with zeros between."""
    if stride == 1:
        return g
    return jnp.zeros((*shape[:3], g.shape[-1]), g.dtype).at[:, ::stride, ::stride].set(g)
