"""Optimisers, by `train.optimizer`, and the schedules of their learning rate (paper, section 4).

The paper's is SGD with Nesterov momentum. One of a user or a plug-in is a function (learning_rate)
-> optax.GradientTransformation. Its options are keyword-only; if it has keywords `momentum` and
`nesterov`, it is given those of `train`. The learning rate is an input of the compiled step, so the
transformation uses the number and does not keep it in its state.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_jax import naming, plugins

SCHEDULES = ("cosine", "warm_restarts", "constant", "step")
CYCLES, FLOOR = 5, 0.02  # of warm restarts: ENAS, section 3.2, from 0.05 to 0.001 each time
REFERENCE_BATCH = 1024  # the paper's 0.1 belongs to it


def schedule(
    name: str, *, base_lr: float, batch_size: int, num_steps: int, warmup_share: float
) -> Callable[[jax.Array], jax.Array]:
    """Return the learning rate, float32, as a function of steps, int [] or [n].

    Args:
      name: "cosine" to 0; "warm_restarts", five cosines to a fiftieth, each twice as long as the
        one before (SGDR, Loshchilov and Hutter, ICLR 2017, with the numbers of ENAS); "constant";
        or "step" (divided by 10 at 1/2 and 3/4 of the steps). The paper names no schedule.
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
        "warm_restarts": _warm_restarts(peak, rest),
        "constant": optax.constant_schedule(peak),
        "step": optax.piecewise_constant_schedule(peak, {half: 0.1, three_quarters: 0.1}),
    }[name]
    if not warmup:
        return after
    # From peak/warmup at step 0, so that no step is spent at a rate of zero.
    rising = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, after], [warmup])


def _warm_restarts(peak, num_steps):
    """Join cosines whose lengths are 1, 2, 4, .. shares of the steps."""
    shares = 2 ** np.arange(1, CYCLES + 1) - 1
    ends = [round(num_steps * share / shares[-1]) for share in shares]
    lengths = np.maximum(np.diff([0, *ends]), 1).tolist()
    cosines = [optax.cosine_decay_schedule(peak, length, FLOOR) for length in lengths]
    return optax.join_schedules(cosines, ends[:-1])


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
    return SGD.at(learning_rate, momentum=momentum, nesterov=nesterov, clip_norm=clip_norm)


def adam(
    learning_rate: jax.Array, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Make Adam (Kingma and Ba, ICLR 2015); `train.l2` is part of the gradient that it sees.

    Args:
      learning_rate: float32 [].
      b1, b2: decay of the means of gradients and of their squares; in [0, 1).
      eps: added to the root of the latter.
    """
    return optax.adam(learning_rate, b1, b2, eps)


def adamw(
    learning_rate: jax.Array,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
) -> optax.GradientTransformation:
    """Make AdamW (Loshchilov and Hutter, ICLR 2019).

    Its weight decay falls on all parameters, used or not, and comes beside `train.l2`.

    Args:
      learning_rate: float32 [].
      b1, b2: decay of the means of gradients and of their squares; in [0, 1).
      eps: added to the root of the latter.
      weight_decay: of the weights, times the learning rate.
    """
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def _sgd(learning_rate, *, momentum, nesterov):
    """Make SGD without clipping."""
    return optax.sgd(learning_rate, momentum, nesterov)


FIELD = "train.optimizer"
OPTIMIZERS = {"sgd": _sgd, "adam": adam, "adamw": adamw}
_CONTEXT = ("momentum", "nesterov")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser with its options; equal ones share the compiled step.

    Attributes:
      name: in errors.
      make: (learning_rate, **options) -> optax.GradientTransformation.
      options: (option, value) pairs.
    """

    name: str = "sgd"
    make: Callable[..., optax.GradientTransformation] = _sgd
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def _is_plugin(self):
        return not plugins.is_named(self.name, OPTIMIZERS)

    def at(
        self, learning_rate: Any, *, momentum: Any, nesterov: bool, clip_norm: Any
    ) -> optax.GradientTransformation:
        """Return the transformation for the numbers of a step; arguments as of `sgd`."""
        keywords = naming.keywords(self.make)
        context = {"momentum": momentum, "nesterov": nesterov}
        given = dict(self.options) | {k: v for k, v in context.items() if k in keywords}
        made = plugins.call(FIELD, self.name, self.make, learning_rate, **given)
        if not isinstance(made, optax.GradientTransformation):
            raise ValueError(
                f"{FIELD}={self.name!r} made a {type(made).__name__}, not an "
                "optax.GradientTransformation"
            )
        clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
        return optax.chain(clip, made)

    def first_state(self, params: Any) -> Any:
        """Make the state before the first step, for float32 params; it depends on no number."""
        init = self.at(0.0, momentum=0.0, nesterov=True, clip_norm=None).init
        if self._is_plugin:
            return jax.jit(init)(params)
        shapes = jax.eval_shape(init, params)  # all zeros; each would be a program on a device
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

    def check(self) -> None:
        """Check that updates follow the learning rate, which comes after the state is made.

        Raises: ValueError, in one line that names the optimiser.
        """
        params = {"scope": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        state, updates = self.first_state(params), []
        for learning_rate in (0.0, 1.0):
            made = self.at(learning_rate, momentum=0.9, nesterov=True, clip_norm=None)
            updates.append(plugins.call(FIELD, self.name, made.update, params, state, params)[0])
        if all(map(np.array_equal, *map(jax.tree.leaves, updates))):
            raise ValueError(
                f"{FIELD}={self.name!r} makes the same update at any learning rate: use the "
                "number that it is given, as optax.scale(-learning_rate) does, and keep it in no "
                "state (optax.inject_hyperparams does)"
            )


SGD = Optimizer()


def of(train: Any) -> Optimizer:
    """Make the optimiser of a `train` section of the config.

    Raises: ValueError, in one line, if there is none, if an option does not fit, or if it is a
      user's or a plug-in's and raises or makes something else.
    """
    name, options = train.optimizer, train.optimizer_options
    make = plugins.maker(FIELD, name, OPTIMIZERS, "optimizers")
    given = plugins.options_of(FIELD, name, make, options, "train.optimizer_options", _CONTEXT)
    made = Optimizer(name, make, plugins.hashable(given))
    if not plugins.is_named(name, OPTIMIZERS):
        made.check()
    return made


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
