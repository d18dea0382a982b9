"""Steps of the alphas between steps of the weights: bilevel search to first order (DARTS).

DARTS (Liu et al., ICLR 2019), algorithm 1 with xi = 0: the gradient of the validation loss by the
alphas, with the weights as they are.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nas_jax.nn import execution
from nas_jax.oneshot import relaxation as relaxation_lib
from nas_jax.oneshot.training_variant import Relaxation
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.training.layout import Replicated
from nas_jax.training.loop import Training
from nas_jax.training.train_step import TrainState, TrainStep, mean_of_lots

SPLIT = "valid"


@dataclasses.dataclass(frozen=True)
class AlphaStep(TrainStep):
    """The step of the alphas: (state, batch, root, share of the training) -> (state, metrics).

    It has the attributes of the step of the weights; its network is executed "relaxed", so that
    masks have a gradient.

    Attributes:
      relaxation: of the masks.
    """

    relaxation: Relaxation | None = None

    def __call__(
        self, state: TrainState, batch: Any, root: jax.Array, hyper: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Take one step; `hyper` is the share of the training that is done, float32 []."""
        root, learnt = rng.named(root, "alphas"), state.sampler_state
        groups = self._groups()

        def of_alphas(alphas, images, labels, shares, groups):
            now = state._replace(sampler_state=learnt | {"alphas": alphas})
            masks = self._masks_of(groups, now, root, None)
            given = state.params, state.batch_stats, 0.0, images, labels, shares, masks
            return self._loss(*given)

        grad = functools.partial(jax.grad(of_alphas, has_aux=True), learnt["alphas"])
        lots = *self._ghost_batches(state, batch, root), groups
        grads, metrics = distributed.mean(mean_of_lots(grad, lots, self.groups_at_once))
        learnt = self.relaxation.update(learnt, grads, hyper)
        told = {f"valid_{name}": metrics[name] for name in ("loss", "accuracy")}
        told["alpha_entropy"] = relaxation_lib.entropy(learnt["alphas"])
        return state._replace(sampler_state=learnt), told


class AlphaTurn:
    """The turn that takes a step of the alphas on the next batch of validation images.

    Args:
      run: of the supernet, whose variant has a relaxation.
      weights: the training of the weights.
      devices: None for all.
    """

    def __init__(self, run: Run, weights: Training, devices: Sequence[jax.Device] | None = None):
        self._relaxation, self._total = run.variant.relaxation, weights.total
        self._layout, self._data, self._seed = Replicated(devices), run.data, run.config.seed
        self._size = run.config.supernet.train.batch_size
        step = weights.step(
            AlphaStep,
            net=run.supernet().clone(execution=execution.RELAXED),
            relaxation=self._relaxation,
            mixup=0.0,
        )
        self._step, self._next, self._batches = self._layout.compile(step), None, None

    def is_due(self, step: int) -> bool:
        """Say whether a step of the alphas comes after this step."""
        return step % self._relaxation.every == 0

    def __call__(
        self, step: int, state: TrainState, root: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Take the step; return the next state and numbers for metrics.jsonl."""
        batch = self._batch(step // self._relaxation.every - 1)
        share = np.float32(step / max(self._total - 1, 1))
        return self._step(state, batch, root, np.minimum(share, np.float32(1)))

    def _batch(self, number):
        """Return batch number 0, 1, ..; one that does not follow the last begins anew there."""
        if number != self._next:
            given = self._data, SPLIT, self._size, self._seed, number
            self._batches = self._layout.batches(*given)
        self._next = number + 1
        return next(self._batches)
