"""What the functions over windows of an image share: borders, and strides with their gradients."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_lax(x, kernel, stride=1, groups=1):
    """Padded by half the kernel: with a stride, SAME would be off by a pixel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def pad(x, radius, value=0.0):
    """[N, H, W, C] with a border, written into a full array: `lax.pad` tests every element."""
    num, height, width, channels = x.shape
    border = jnp.full((num, height + 2 * radius, width + 2 * radius, channels), value, x.dtype)
    return lax.dynamic_update_slice(border, x, (0, radius, radius, 0))


def strided_bwd(form, grads, stride, saved, g):
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
