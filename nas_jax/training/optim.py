"""SGD with Nesterov momentum and its learning-rate schedules (paper, section 4)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from nas_jax import naming

SCHEDULES = ("cosine", "constant", "step")
REFERENCE_BATCH = 1024  # the paper's 0.1 belongs to it


def schedule(
    name: str, *, base_lr: float, batch_size: int, num_steps: int, warmup_share: float
) -> Callable[[jax.Array], jax.Array]:
    """Return the learning rate, float32, as a function of steps, int [] or [n].

    Args:
      name: "cosine" to 0, "constant", or "step" (divided by 10 at 1/2 and 3/4 of the steps). The
        paper names no schedule.
      base_lr: peak at a batch of 1024; scaled linearly with the batch.
      batch_size: images per step over all devices.
      num_steps: length of the training.
      warmup_share: share of the steps in which the rate rises linearly; in [0, 1).

    Raises: ValueError if there is no schedule of that name.
    """
    naming.check("schedule", name, SCHEDULES)
    peak = base_lr * batch_size / REFERENCE_BATCH
    warmup = int(warmup_share * num_steps)
    rest = max(num_steps - warmup, 1)
    half, three_quarters = max(rest // 2, 1), max(3 * rest // 4, 2)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "constant": optax.constant_schedule(peak),
        "step": optax.piecewise_constant_schedule(peak, {half: 0.1, three_quarters: 0.1}),
    }[name]
    if not warmup:
        return after
    # From peak/warmup at step 0, so that no step is spent at a rate of zero.
    rising = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, after], [warmup])


def sgd(
    learning_rate: float | jax.Array | Callable,
    *,
    momentum: float | jax.Array,
    nesterov: bool,
    clip_norm: float | jax.Array | None,
) -> optax.GradientTransformation:
    """Make SGD. Its numbers may be inputs of the step: the optimiser's state has none of them.

    Args:
      learning_rate: float32 [].
      momentum: float32 [].
      nesterov: whether the momentum is Nesterov's.
      clip_norm: gradients are first scaled to a global norm of at most this; None: not at all.
    """
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    return optax.chain(clip, optax.sgd(learning_rate, momentum, nesterov))


def l2(params, usage, *, norm_params: bool) -> jax.Array:
    """Compute the sum of the squared weights, each times the share of groups that use it.

    Args:
      params: tree of float32 arrays.
      usage: the same tree with float32 scalars in [0, 1] (`Space.usage`); None: all 1.
      norm_params: whether scales and offsets count, beside kernels (arrays of several axes).

    Returns: float32 [].
    """
    squares = jax.tree.map(lambda w: jnp.sum(jnp.square(w)), params)
    counted = jax.tree.map(lambda w: float(norm_params or w.ndim > 1), params)
    if usage is not None:
        counted = jax.tree.map(lambda c, u: c * u, counted, usage)
    terms = jax.tree.map(lambda c, s: c * s, counted, squares)
    return sum(jax.tree.leaves(terms), jnp.float32(0))
