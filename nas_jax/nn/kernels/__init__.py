"""Array functions that XLA compiles badly for some device, in a form that is fast there.

Letters: G groups, n images of a group, N = G n images, H height, W width, C channels in, D out.

On a CPU, four of XLA's functions are five to a hundred times slower than the forms here: grouped
convolutions, window reductions, gradients of convolutions (inside loops and conditionals), and sums
over all axes but one of few channels. On NVIDIA's GPUs two gradients are slow: that of a depthwise
convolution and that of a window's maximum. `lax.platform_dependent` chooses the form for each
device. Gradients are written out (`custom_vjp`): JAX would differentiate every form, and save more
than is needed.

Functions whose tracing takes long are traced once for equal shapes (`jit`), and then written into
their caller (`inline`): the compiled program is the same.
"""

import os

from nas_jax.nn.kernels.batch_norm import moments, recorded, scale_shift
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
    "fuses",
    "halve",
    "max_pool",
    "moments",
    "pointwise",
    "pointwise_of_concat",
    "recorded",
    "scale_shift",
]


def fuses() -> bool:
    """Say whether networks use the kernels of `fused`: where $NAS_JAX_FUSED_KERNELS is 1.

    These have not been timed on a GPU. A process must not change it: programs are traced once.
    """
    return os.environ.get("NAS_JAX_FUSED_KERNELS") == "1"
