"""One training step, a pure function: loss, L2 on the active paths only, gradients, update.

A ghost batch has an architecture of its own. With `archs_per_step` the step has A architectures
instead, and all images go through each of them (`same_images`).

Letters: B images of this device, G ghost batches of it, n images of a ghost batch, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nas_jax.data import augment
from nas_jax.nn import execution
from nas_jax.runtime import distributed, rng
from nas_jax.spaces import Space
from nas_jax.training import losses, optim, same_images
from nas_jax.training.hyperparameters import HyperParameters
from nas_jax.training.landmarks import Landmarks


class TrainState(NamedTuple):
    """The state of a training. Random keys and the order of the data follow from `step`."""

    step: jax.Array  # int32 [], steps done
    params: Any  # float32
    batch_stats: Any  # float32; empty where batch norm is stateless
    opt_state: Any
    sampler_state: Any  # such as a controller's weights; {} if the sampler has none
    average: Any  # moving means of {"params", "batch_stats"}; {} if none are kept

    @property
    def variables(self) -> dict[str, Any]:
        """The params and batch_stats to evaluate with: their moving means, if they are kept."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}


def create(
    variables: Any,
    sampler_state: Any = None,
    *,
    optimizer: optim.Optimizer = optim.SGD,
    averages: bool = False,
) -> TrainState:
    """Make the state before the first step; what is not given is zero, in the host's memory.

    Args:
      variables: params, and batch_stats if there are any.
      sampler_state: the first; None: the sampler has none.
      optimizer: of the training.
      averages: whether moving means of the variables are kept; they begin with the variables.
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        np.zeros((), np.int32),
        params,
        batch_stats,
        optimizer.first_state(params),
        {} if sampler_state is None else sampler_state,
        {"params": params, "batch_stats": batch_stats} if averages else {},
    )


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """The step (state, batch, root, hyper) -> (state, metrics), which a layout compiles.

    Equal steps are compiled once, so its attributes are hashable.

    The batch is {"image": uint8 [B, H, W, C], "label": int32 [B]}; `root` is the key of the run.
    Metrics are float32 [], means over all devices.

    Attributes:
      net: module; `apply(variables, images [G, n, H, W, C], masks)` gives logits [G, n, K]. Its
        batch norm takes the statistics of the images: bn="batch", or "recorded" for moving means.
      prepare: (keys [B], images uint8 [B, H, W, C]) -> float images: augmentation.
      num_groups: ghost batches of one device; divides B.
      groups_at_once: ghost batches that one forward and backward pass takes; divides `num_groups`.
      sampler: mask sampler, (key, the same for all steps; step; global group numbers int32 [G];
        sampler state; hyper-parameters) -> masks [G, k]; None for a network without masks.
      space: the search space, whose `usage` gives the share of groups that use each parameter;
        None: all groups use all parameters.
      penalty: (params, mean of `usage` over all devices) -> float32 [], added to the loss; None: no
        penalty.
      per_use: whether the gradient of a parameter is the mean over the groups of all devices that
        use it; else the mean over all groups, with which rarely used parameters learn slowly.
      l2_norm_params: see `optim.l2`.
      l2_unused: whether L2 also falls on parameters that a group does not use.
      undecayed: scopes at the root of the parameters that L2 does not fall on.
      shares_masks: whether all groups have the same masks, so that the first is drawn alone.
      nesterov: whether the momentum is Nesterov's.
      clips: whether gradients are scaled to a global norm of at most `clip_norm`.
      optimizer: of the weights.
      loss: of the logits.
      mixup: images of a ghost batch are mixed by shares of Beta(mixup, mixup); 0: not at all.
      remat: what the gradients of ops compute again, of `execution.REMAT`.
      ema: decay of the moving means of the variables, if the state has any.
      archs_per_step: A, architectures that all images of the step go through; gradients of the loss
        are their sum, to which L2 and the penalty are added once. 0: each ghost batch has its own
        architecture.
      distils: whether the first of the A architectures is the teacher of the others.
      landmarks: architectures whose order the losses are to have; None: there are none.
    """

    net: nn.Module
    prepare: Callable[[jax.Array, jax.Array], jax.Array]
    num_groups: int
    groups_at_once: int
    sampler: Callable[..., Any] | None = None
    space: Space | None = None
    penalty: Callable[[Any, Any], jax.Array] | None = None
    per_use: bool = False
    l2_norm_params: bool = False
    l2_unused: bool = False
    undecayed: tuple[str, ...] = ()
    shares_masks: bool = False
    nesterov: bool = True
    clips: bool = False
    optimizer: optim.Optimizer = optim.SGD
    loss: losses.Loss = losses.CROSS_ENTROPY
    mixup: float = 0.0
    remat: str = "none"
    ema: float = 0.0
    archs_per_step: int = 0
    distils: bool = False
    landmarks: Landmarks | None = None

    def __call__(
        self, state: TrainState, batch: Any, root: jax.Array, hyper: HyperParameters
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Take one step.

        Raises: ValueError if moving means are kept that the network does not record.
        """
        if state.batch_stats and getattr(self.net, "bn", None) != "recorded":
            raise ValueError("a network with batch_stats is trained with bn='recorded'")
        masks = self._masks(state, root, hyper)
        ghost_batches = self._ghost_batches(state, batch, root)
        (grads, now), metrics = self._of_loss(state, ghost_batches, masks, hyper)
        of_penalties = jax.grad(self._penalties, has_aux=True)
        penalty_grads, terms = of_penalties(state.params, masks, hyper)
        grads, metrics = jax.tree.map(jnp.add, grads, penalty_grads), metrics | terms
        grads, metrics, now = distributed.mean((grads, metrics, now))
        if self.per_use:
            grads = _per_use(grads, distributed.mean(self.space.usage(state.params, masks)))
        if self.landmarks is not None:
            ranking, metrics["ranking"] = self._of_ranking(state, ghost_batches, root, hyper)
            grads = jax.tree.map(jnp.add, grads, ranking)
        updates, opt_state = self._at(hyper).update(grads, state.opt_state, state.params)
        params, step = optax.apply_updates(state.params, updates), state.step + 1
        batch_stats = jax.tree.map(self._moving_mean, state.batch_stats, now)
        average = self._averaged(state, {"params": params, "batch_stats": batch_stats})
        sampler_state = state.sampler_state
        return TrainState(step, params, batch_stats, opt_state, sampler_state, average), metrics

    def _of_loss(self, state, ghost_batches, masks, hyper):
        """Return gradients of the loss by params and batch_stats, and metrics."""
        of_loss = jax.grad(self._loss, argnums=(0, 1), has_aux=True)
        of_loss = functools.partial(of_loss, state.params, state.batch_stats, hyper.label_smoothing)
        if not self.archs_per_step:
            return mean_of_lots(of_loss, (*ghost_batches, masks), self.groups_at_once)
        _, labels, _ = ghost_batches
        none_yet = jnp.zeros((*labels.shape, self.net.num_classes)) if self.distils else None
        options = {"at_once": self.groups_at_once, "predictions": none_yet}
        (grads, now), metrics = same_images.mean(of_loss, ghost_batches, masks, **options)
        return (jax.tree.map(lambda g: g * self.archs_per_step, grads), now), metrics

    def _of_ranking(self, state, ghost_batches, root, hyper):
        """Return the gradient of the ranking loss by params, and that loss, with its weight.

        Both are 0 in the steps between.
        """
        key = rng.stream(root, "landmarks", state.step)
        pairs = self.landmarks.pairs(key, self._groups())
        smoothing = hyper.label_smoothing

        def of_pair(params, images, labels, shares, better, worse, weight):
            given = params, state.batch_stats, smoothing, images, labels, shares
            loss = jnp.maximum(self._loss(*given, better)[0] - self._loss(*given, worse)[0], 0)
            return jnp.mean(weight) * loss

        def ranking():
            grad = functools.partial(jax.value_and_grad(of_pair), state.params)
            return mean_of_lots(grad, (*ghost_batches, *pairs), 1)[::-1]

        def nothing():
            return jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(())

        is_due = state.step % self.landmarks.every == 0
        return distributed.mean(jax.lax.cond(is_due, ranking, nothing))

    def _averaged(self, state, now):
        """Return the moving means; early ones are over the steps so far, not the first weights."""
        if not state.average:
            return {}
        steps = state.step.astype(jnp.float32)
        decay = jnp.minimum(self.ema, (1 + steps) / (10 + steps))
        return jax.tree.map(lambda kept, x: decay * kept + (1 - decay) * x, state.average, now)

    def _moving_mean(self, kept, now):
        momentum = self.net.bn_momentum
        return momentum * kept + (1 - momentum) * now

    def _at(self, hyper):
        return self.optimizer.at(
            hyper.learning_rate,
            momentum=hyper.momentum,
            nesterov=self.nesterov,
            clip_norm=hyper.clip_norm if self.clips else None,
        )

    def _ghost_batches(self, state, batch, root):
        """Augment the images and split the batch: images [G, n, H, W, C], labels [G, n].

        Mixed images have shares [G, n] of their own; without mixup these are None.
        """
        num_images = batch["label"].shape[0]
        first = distributed.replica_index() * num_images
        numbers = first + jnp.arange(num_images, dtype=jnp.int32)
        keys = rng.each(rng.stream(root, "augment", state.step), numbers)
        images = self.prepare(keys, batch["image"])
        images = images.reshape(self.num_groups, -1, *images.shape[1:])
        labels = batch["label"].reshape(self.num_groups, -1)
        if not self.mixup:
            return images, labels, None
        keys = rng.each(rng.stream(root, "mixup", state.step), numbers)
        shares = augment.mixup_shares(keys, self.mixup).reshape(labels.shape)
        return augment.mixed(images, shares), labels, shares

    def _masks(self, state, root, hyper):
        if self.sampler is None:
            return None
        if self.archs_per_step:
            groups = jnp.arange(self.archs_per_step, dtype=jnp.int32)
        else:
            groups = self._groups()[:1] if self.shares_masks else self._groups()
        return self._masks_of(groups, state, root, hyper)

    def _groups(self):
        """Return the global numbers of this device's ghost batches, int32 [G]."""
        first = distributed.replica_index() * self.num_groups
        return first + jnp.arange(self.num_groups, dtype=jnp.int32)

    def _masks_of(self, groups, state, root, hyper):
        key = rng.named(root, "masks")
        return self.sampler(key, state.step, groups, state.sampler_state, hyper)

    def _loss(self, params, batch_stats, smoothing, images, labels, shares, masks, teacher=None):
        """Return the loss and metrics; with a teacher the metrics have "predictions", [G, n, K]."""
        variables = {"params": params, "batch_stats": batch_stats}
        with execution.rematerialising(self.remat):
            logits = self.net.apply(variables, images, masks)
        classes = jax.nn.one_hot(labels, logits.shape[-1])
        if shares is not None:
            classes = augment.mixed(classes, shares)
        loss = self.loss(logits, classes, smoothing)
        correct = jnp.mean((jnp.argmax(logits, -1) == labels).astype(jnp.float32))
        if teacher is None:
            return loss, {"loss": loss, "accuracy": correct}
        loss = jnp.where(teacher.teaches, losses.distilled(logits, teacher.predictions), loss)
        metrics = {"loss": loss, "accuracy": correct}
        return loss, metrics | {same_images.PREDICTIONS: jax.nn.softmax(logits)}

    def _penalties(self, params, masks, hyper):
        used = None if self.space is None else self.space.usage(params, masks)
        decayed, l2_usage = params, None if self.l2_unused else used
        if self.undecayed:
            decayed = _without(self.undecayed, params)
            l2_usage = l2_usage and _without(self.undecayed, l2_usage)
        terms = {"l2": hyper.l2 * optim.l2(decayed, l2_usage, norm_params=self.l2_norm_params)}
        if self.penalty is not None:
            terms["penalty"] = self.penalty(params, distributed.mean(used))
        return sum(terms.values()), terms


def _without(scopes, params):
    return {name: of_scope for name, of_scope in params.items() if name not in scopes}


def _per_use(grads, shares):
    """Turn means over all groups into means over the groups that use a parameter."""
    return jax.tree.map(lambda g, share: g / jnp.where(share, share, 1), grads, shares)


def mean_of_lots(function: Callable, groups: Any, at_once: int) -> Any:
    """Call `function` for `at_once` groups after the other, and return the mean of its results.

    `groups` is a tuple of trees with a leading axis [G]. Activations of one call are in memory at a
    time.
    """
    count = jax.tree.leaves(groups)[0].shape[0] // at_once
    if count == 1:
        return function(*groups)
    function = jax.jit(function)  # so that `eval_shape` and `scan` share one trace
    lots = jax.tree.map(lambda x: x.reshape(count, at_once, *x.shape[1:]), groups)
    shapes = jax.eval_shape(lambda lots: function(*jax.tree.map(lambda x: x[0], lots)), lots)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, lot):
        return jax.tree.map(jnp.add, total, function(*lot)), None

    return jax.tree.map(lambda x: x / count, jax.lax.scan(add, zero, lots)[0])
