"""One training step, pure: loss, L2 on the active paths only, gradients, update.

Letters: B images of this device, G ghost batches of it, K classes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nas_jax.runtime import distributed, rng
from nas_jax.training import optim


class TrainState(NamedTuple):
    """All that a training run remembers; keys and data order follow from `step`."""

    step: jax.Array  # int32 [], steps done
    params: Any  # float32
    batch_stats: Any  # float32; empty where batch norm is stateless
    opt_state: Any
    policy: Any  # what decides the masks: a strategy's state, an architecture; {} for nothing


def create(variables: Any, tx: optax.GradientTransformation, policy: Any = None) -> TrainState:
    """The state before the first step."""
    params = variables["params"]
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        variables.get("batch_stats", {}),
        tx.init(params),
        {} if policy is None else policy,
    )


def make(
    net: nn.Module,
    tx: optax.GradientTransformation,
    *,
    num_groups: int,
    groups_at_once: int,
    prepare: Callable[[jax.Array, jax.Array], jax.Array],
    sample_masks: Callable[[jax.Array, jax.Array, jax.Array, Any], Any],
    usage: Callable[[Any, Any], Any],
    per_use: bool,
    l2: float,
    l2_norm_params: bool,
    label_smoothing: float,
    l2_unused: bool = False,
    penalty: Callable[[Any, Any], jax.Array] | None = None,
    tuned: bool = False,
) -> Callable:
    """Build `step(state, batch, root) -> (state, metrics)`, to be pmapped by `parallel.pmap`.

    Args:
      net: module; `apply(variables, images [G, n, H, W, C], masks)` gives logits [G, n, K].
      tx: optimiser.
      num_groups: ghost batches of one device; divides B.
      groups_at_once: how many of them are computed together, a divisor; the others wait.
      prepare: (keys [B], images uint8 [B, H, W, C]) -> float images: augmentation.
      sample_masks: (key of the run, step, global group numbers int32 [G], the state's policy) ->
        masks [G, k], or None.
      usage: (params, masks) -> share of groups that use each parameter, or None for all.
      per_use: whether the gradient of each parameter is the mean over the groups that use it, of
        all devices; else over all groups, so that what is used rarely learns slowly.
      l2: coefficient lambda of the mean over groups of the squared weights that they use.
      l2_norm_params: see `optim.l2`.
      l2_unused: whether L2 falls on what a group does not use, too.
      label_smoothing: in [0, 1).
      penalty: (params, usage over all devices) -> float32 [], added to the loss.
      tuned: whether the state's policy has factors, float32 [], on the learning rate and on lambda:
        {"learning_rate", "l2"}.

    The step takes a batch {"image": uint8 [B, H, W, C], "label": int32 [B]} and the run's root
    key; its metrics are float32 scalars, means over all devices.
    """

    def cross_entropy(params, batch_stats, images, labels, masks):
        logits, batch_stats = _apply(net, params, batch_stats, images, masks)
        loss = _cross_entropy(logits, labels, label_smoothing)
        correct = jnp.mean((jnp.argmax(logits, -1) == labels).astype(jnp.float32))
        return loss, ({"loss": loss, "accuracy": correct}, batch_stats)

    def penalties(params, masks, policy):
        used = usage(params, masks)
        shrinking = optim.l2(params, None if l2_unused else used, norm_params=l2_norm_params)
        terms = {"l2": l2 * shrinking * (policy["l2"] if tuned else 1)}
        if penalty is not None:
            terms["penalty"] = penalty(params, distributed.mean(used))
        return sum(terms.values()), terms

    def step(state, batch, root):
        num_images = batch["label"].shape[0]
        replica = distributed.replica_index()
        numbers = replica * num_images + jnp.arange(num_images, dtype=jnp.int32)
        images = prepare(rng.each(rng.stream(root, "augment", state.step), numbers), batch["image"])
        images = images.reshape(num_groups, -1, *images.shape[1:])
        labels = batch["label"].reshape(num_groups, -1)
        groups = replica * num_groups + jnp.arange(num_groups, dtype=jnp.int32)
        masks = sample_masks(rng.named(root, "masks"), state.step, groups, state.policy)

        fitted = jax.grad(cross_entropy, has_aux=True)
        fitted = functools.partial(fitted, state.params, state.batch_stats)
        grads, (metrics, batch_stats) = _mean(fitted, (images, labels, masks), groups_at_once)
        shrunk, more = jax.grad(penalties, has_aux=True)(state.params, masks, state.policy)
        grads, metrics = jax.tree.map(jnp.add, grads, shrunk), metrics | more
        grads, metrics, batch_stats = distributed.mean((grads, metrics, batch_stats))
        if per_use:
            shares = distributed.mean(usage(state.params, masks))
            grads = jax.tree.map(lambda g, share: g / jnp.where(share, share, 1), grads, shares)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        if tuned:  # SGD's updates are linear in the rate
            updates = jax.tree.map(lambda u: state.policy["learning_rate"] * u, updates)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state, state.policy), metrics

    return step


def _mean(function, groups, at_once):
    """Mean of `function(*groups)` over its groups, so many at once, one lot after the other.

    What is computed for one lot is forgotten before the next, so memory is that of one.
    """
    count = jax.tree.leaves(groups)[0].shape[0] // at_once
    if count == 1:
        return function(*groups)
    function = jax.jit(function)  # traced once for both uses below
    lots = jax.tree.map(lambda x: x.reshape(count, at_once, *x.shape[1:]), groups)
    shapes = jax.eval_shape(lambda lots: function(*jax.tree.map(lambda x: x[0], lots)), lots)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, lot):
        return jax.tree.map(jnp.add, total, function(*lot)), None

    return jax.tree.map(lambda x: x / count, jax.lax.scan(add, zero, lots)[0])


def _apply(net, params, batch_stats, images, masks):
    variables = {"params": params, "batch_stats": batch_stats}
    logits, changed = net.apply(variables, images, masks, mutable=["batch_stats"])
    return logits, changed.get("batch_stats", batch_stats)


def _cross_entropy(logits, labels, smoothing):
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))
