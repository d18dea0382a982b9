"""Array functions that XLA is slow at on some device, each in a form of its own there.

Letters: G groups, n images of a group, N = G n images, H height, W width, C channels in, D out.

On CPU, XLA's grouped convolutions, window reductions, gradients of convolutions (inside loops and
conditionals) and sums over everything but few channels are five to a hundred times slower than the
forms here. `lax.platform_dependent` keeps those off accelerators. On NVIDIA's GPUs two things are
slow: the gradient of a depthwise convolution and that of a window's maximum. Gradients are written
out (`custom_vjp`), so that only one form is ever differentiated, and so that no more is saved than
needed.
"""

from nas_jax.nn.kernels.batch_norm import moments, scale_shift
from nas_jax.nn.kernels.conv import conv
from nas_jax.nn.kernels.depthwise import depthwise
from nas_jax.nn.kernels.pointwise import concat, pointwise, pointwise_of_concat
from nas_jax.nn.kernels.pooling import avg_pool, halve, max_pool
from nas_jax.nn.kernels.residuals import SAVED

__all__ = [
    "SAVED",
    "avg_pool",
    "concat",
    "conv",
    "depthwise",
    "halve",
    "max_pool",
    "moments",
    "pointwise",
    "pointwise_of_concat",
    "scale_shift",
]
