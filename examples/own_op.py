"""Search a chain with an op of your own: python own_op.py"""

import flax.linen as nn
import jax.numpy as jnp

import nas_jax
from nas_jax import spaces

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "supernet.train.num_steps": 50,
    "supernet.train.base_lr": 1.6,  # inverted residuals add up
    "sweep.num_candidates": 8,
    "sweep.candidates_per_batch": 8,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


class SqueezeExcite(nn.Module):
    """3x3 convolution, batch norm, ReLU, and a scale for each channel.

    Attributes:
      features: channels of the output.
      norm: builder of the batch norm.
      kernel_init: from the fan-in to an initialiser.
    """

    features: int
    norm: object
    kernel_init: object

    @nn.compact
    def __call__(self, x):
        """Map [G, n, H, W, C] to [G, n, H, W, features]."""
        init = self.kernel_init(9 * x.shape[-1])
        x = nn.Conv(self.features, (3, 3), use_bias=False, kernel_init=init, dtype=x.dtype)(x)
        x = self.norm(relu=True, name="norm")(x)
        mean = jnp.mean(x, (2, 3), keepdims=True)
        hidden = nn.relu(nn.Dense(max(self.features // 4, 1), dtype=x.dtype)(mean))
        return x * nn.sigmoid(nn.Dense(self.features, dtype=x.dtype)(hidden))


if __name__ == "__main__":
    # Two stages of one layer each: the second halves the resolution and doubles the width.
    chain = spaces.chain(stages=(1, 1), ops=("identity", "mb3_k3", SqueezeExcite))
    found = nas_jax.search("digits", chain, workdir="runs/own_op", fields=QUICK)
    print(repr(found.best), found.paths["report"], sep="\n")
