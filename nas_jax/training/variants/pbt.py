"""Population based training (Jaderberg et al., 2017): many supernets are trained at once.

The worst go on from copies of the best, with perturbed hyper-parameters: the learning rate, L2 and
path dropout's r. `supernet.sampler` draws the architectures, as for one supernet. The sweep
evaluates candidates with the best member.
"""

import math

import jax
import jax.numpy as jnp

from nas_jax.oneshot.training_variant import Selection, TrainingVariant, check_range
from nas_jax.spaces import Space

HYPERPARAMETERS = ("learning_rate", "l2", "r")


def make(
    space: Space,
    *,
    population: int = 8,
    share: float = 0.25,
    spread: float = 4.0,
    perturb: float = 1.25,
) -> TrainingVariant:
    """Make a variant with truncation selection.

    A member that is replaced perturbs each factor of its parent, up or down. The paper replaces a
    fifth of the members, and perturbs by 1.2 or 0.8, whose product is 0.96. Here a quarter is
    replaced, and a factor is multiplied or divided by `perturb`.

    Args:
      space: is not used.
      population: number of members M, 1 or more.
      share: share of the members that is replaced, the worst, and that is copied, the best; in
        [0, 0.5].
      spread: the first factors are log-uniform in [1/spread, spread]; 1 or more.
      perturb: a factor is multiplied or divided by it; 1 or more.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, population=population, spread=spread, perturb=perturb)
    check_range(0, 0.5, share=share)
    count = min(math.ceil(share * population), population // 2)

    def init(key):
        exponents = jax.random.uniform(key, (len(HYPERPARAMETERS), population), minval=-1, maxval=1)
        return dict(zip(HYPERPARAMETERS, jnp.float32(spread) ** exponents))

    def exploit(key, factors, accuracies):
        draw_key, step_key = jax.random.split(key)
        parents, is_replaced = _parents(draw_key, jnp.asarray(accuracies, jnp.float32), count)
        ups = jax.random.bernoulli(step_key, shape=(len(HYPERPARAMETERS), population))
        moves = jnp.where(is_replaced, jnp.where(ups, perturb, 1 / perturb), 1)
        return parents, {
            name: factors[name][parents] * move for name, move in zip(HYPERPARAMETERS, moves)
        }

    return TrainingVariant(selection=Selection(population, init, exploit))


def _parents(key, accuracies, count):
    """Return parents int32 [M], and bool [M] that says which members are replaced.

    The worst `count` members and all that failed are replaced by draws from the best `count` that
    did not fail. None is replaced if all failed.
    """
    is_sound = ~jnp.isnan(accuracies)
    numbers = jnp.arange(len(accuracies), dtype=jnp.int32)
    order = jnp.argsort(jnp.where(is_sound, -accuracies, jnp.inf))  # the best first; stable
    places = jnp.zeros_like(numbers).at[order].set(numbers)
    is_replaced = ((places >= len(accuracies) - count) | ~is_sound) & jnp.any(is_sound)
    best = jnp.clip(jnp.sum(is_sound), 1, max(count, 1))
    drawn = order[jax.random.randint(key, numbers.shape, 0, best)].astype(jnp.int32)
    return jnp.where(is_replaced, drawn, numbers), is_replaced
