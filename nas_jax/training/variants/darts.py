"""DARTS (Liu et al., ICLR 2019) and GDAS (Dong & Yang, CVPR 2019): architectures by gradient.

A logit, alpha, for each legal subset of a Choice relaxes the masks to real numbers. Steps of the
weights on training images and steps of the alphas on validation images alternate. The largest
alphas are the architecture that is selected: the sweep's first candidate, which is evaluated like
any other. The group "top" begins with it; "random" and "stratified" leave it out.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_jax import naming
from nas_jax.oneshot import relaxation
from nas_jax.oneshot.training_variant import OPTIONS, TrainingVariant, check_range
from nas_jax.spaces import Space

BETAS = (0.5, 0.999)  # of Adam, on the alphas: DARTS, section 3.1
ORDERS = ("first",)


def make(
    space: Space,
    *,
    sample: str = "softmax",
    order: str = "first",
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    temperatures: tuple[float, float] = (10.0, 0.1),
    every: int = 1,
) -> TrainingVariant:
    """Make a variant that learns relaxed masks beside the weights; the defaults are the papers'.

    Gradients are those of DARTS's first-order approximation (section 2.3, xi = 0; algorithm 1): of
    the validation loss by the alphas, with the weights as they are.

    Differs from the papers in:
    - alphas are of the legal subsets of a Choice, not of ops alone, and the largest is chosen of
      all, as NAS-Bench-201 does it; DARTS keeps the two strongest inputs of a node and leaves out
      the op that passes nothing. Where a Choice has one option on the relaxation is the same;
    - with "gumbel" each ghost batch has a draw of its own, where GDAS has one for a step. The
      gradient is that of all options, which are all computed for the steps of the alphas; GDAS
      computes the one that is drawn;
    - a step of the weights comes first; a batch of the alphas is as large as theirs;
    - DARTS and GDAS halve the training set, here alphas are learnt on `data.valid`. The accuracy of
      the selected candidate on these images is no estimate of its accuracy on others;
    - GDAS lowers the temperature after each epoch, here after each step of the alphas;
    - batch norms have scale and offset during the search, too, where DARTS's have none;
    - weights are learnt as `supernet.train` says, not with the papers' SGD (rate, momentum, decay).

    Args:
      space: the search space.
      sample: "softmax" (DARTS: a mixture of all options) or "gumbel" (GDAS: one legal architecture
        for each ghost batch, drawn).
      order: "first". DARTS's second-order gradient is not there.
      learning_rate: of Adam on the alphas; `BETAS` are its decays.
      weight_decay: of the alphas, as L2.
      temperatures: the first and the last of "gumbel", linear in the steps; above 0.
      every: steps of the weights for one of the alphas, 1 or more.

    Raises: ValueError if an option is unknown or out of its range.
    """
    naming.check(f"{OPTIONS}: sample", sample, relaxation.SAMPLES)
    naming.check(f"{OPTIONS}: order", order, ORDERS)
    check_range(0, None, learning_rate=learning_rate, weight_decay=weight_decay)
    check_range(1, None, every=every)
    if np.shape(temperatures) != (2,):
        raise ValueError(
            f"{OPTIONS}: temperatures={temperatures!r} must be two numbers, the first and the last"
        )
    first, last = temperatures
    check_range(1e-3, None, temperatures=min(first, last))
    temperatures = float(first), float(last)
    learnt = Darts(space, sample, learning_rate, weight_decay, temperatures, int(every))
    return TrainingVariant(relaxation=learnt)


@dataclasses.dataclass(frozen=True)
class Darts:
    """The relaxation (`Relaxation`); `make` explains the fields.

    The sampler state is {"alphas", "adam": of the alphas, "temperature": float32 []}.
    """

    space: Space
    sample: str
    learning_rate: float
    weight_decay: float
    temperatures: tuple[float, float]
    every: int

    @property
    def sampler(self) -> relaxation.RelaxedSampler:
        """The sampler of relaxed masks."""
        return relaxation.RelaxedSampler(self.space, self.sample)

    @property
    def _adam(self):
        decay = optax.add_decayed_weights(self.weight_decay)
        return optax.chain(decay, optax.adam(self.learning_rate, *BETAS))

    def init(self, key: jax.Array) -> Any:
        """Make the first sampler state; alphas are nearly equal."""
        alphas = relaxation.first_alphas(key, self.space.choices)
        temperature = jnp.float32(self.temperatures[0])
        return {"alphas": alphas, "adam": self._adam.init(alphas), "temperature": temperature}

    def update(self, state: Any, grads: Any, share: jax.Array) -> Any:
        """Take a step of Adam, unless a gradient is not finite; set the temperature."""
        learnt = {name: state[name] for name in ("alphas", "adam")}
        updates, adam = self._adam.update(grads, state["adam"], state["alphas"])
        new = {"alphas": optax.apply_updates(state["alphas"], updates), "adam": adam}
        sound = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)]).all()
        kept = jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, learnt)
        first, last = self.temperatures
        return kept | {"temperature": jnp.float32(first + (last - first) * share)}

    def select(self, state: Any) -> Any:
        """Return the architecture of the largest alphas."""
        return relaxation.largest(self.space.choices, state["alphas"])
