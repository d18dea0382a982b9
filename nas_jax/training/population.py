"""Population based training: many networks train at once, and the worst become copies of the best.

All members see the same batches. Each has its own weights, masks and augmentation. The state of a
population is a `TrainState` whose leaves have a leading axis [M]. Its sampler state has the factors
on the members' hyper-parameters and their last accuracies: {"learning_rate", "l2", "r", "score"},
float32 [M] each.

Letters: M members, n candidates, B images.
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.data import augment
from nas_jax.data.dataset import Data
from nas_jax.oneshot import accuracy, class_metrics, path_dropout
from nas_jax.oneshot.training_variant import Selection
from nas_jax.runtime import distributed, rng
from nas_jax.storage import json_files
from nas_jax.storage.checkpoints import Weights
from nas_jax.training.hyperparameters import HyperParameters, Schedule
from nas_jax.training.members import Members, of_each

ACCURACY = "score"  # name of the accuracies in the sampler state, and in checkpoints


class Population(Members):
    """The layout of M networks, spread over the devices, and the turn that selects among them.

    Args:
      net: the supernet.
      data: images.
      selection: how members are selected.
      factors: the first factors, see `Selection.init`.
      examine: (key, step) -> (masks [n, k], images uint8 [B, H, W, C], labels int32 [B]); the
        accuracy of a member is the mean over these architectures on these images.
      every: steps between two turns.
      total: steps of the training; the turn after the last step only evaluates.
      tunes_r: whether path dropout's r is one of the hyper-parameters.
      metric: of `class_metrics.METRICS`, by which members are selected.
      devices: None for all.
    """

    def __init__(
        self,
        net: nn.Module,
        data: Data,
        selection: Selection,
        factors: dict[str, np.ndarray],
        *,
        examine: Callable,
        every: int,
        total: int,
        tunes_r: bool,
        metric: str = "accuracy",
        devices: Sequence[jax.Device] | None = None,
    ):
        self._net, self._data, self._examine = net, data, examine
        self._every, self._total = every, total
        self._tunes_r, self._metric = tunes_r, metric
        options = {"devices": devices, "reported": _mean_of_sound}
        super().__init__(selection.size, one_by_one=net.execution == "switch", **options)
        self._exploit = jax.jit(selection.exploit)
        nobody = np.full(self._size, -np.inf, np.float32)
        self.first_sampler_state = factors | {ACCURACY: nobody}
        self._factors = self.first_sampler_state
        self._leads = distributed.is_lead(devices)

    # -- the layout -------------------------------------------------------------------------------

    def first_state(self, new, seed):
        """Make and stack the states of all members, each from a seed of its own."""
        members = [new(member_seed) for member_seed in self._seeds(seed)]
        state = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
        return state._replace(sampler_state=self.first_sampler_state)

    def shape_of(self, one):
        """Add the axis of the members to the shapes; the sampler state has the factors."""
        shape = super().shape_of(one)
        return shape._replace(sampler_state=jax.eval_shape(lambda: self.first_sampler_state))

    def _seeds(self, seed):
        """Return distinct seeds uint32 [M]; a population of one has the seed itself."""
        return np.arange(self._size, dtype=np.uint32) + np.uint32(seed * self._size)

    def hyper(self, of_one: HyperParameters) -> HyperParameters:
        """Multiply the hyper-parameters by each member's factors: float32 [M]."""
        factors, repeated = self._factors, super().hyper(of_one)
        return repeated._replace(
            learning_rate=of_one.learning_rate * factors["learning_rate"],
            l2=of_one.l2 * factors["l2"],
            r=path_dropout.times_factor(of_one.r, factors["r"]),
        )

    def begin(self, directory: Path, start: int, state: Any, schedule: Schedule) -> None:
        """Drop lines of lineage.jsonl after `start`, since the run writes them again."""
        self._path, self._schedule = directory / "lineage.jsonl", schedule
        self._factors = jax.device_get(state.sampler_state)
        if self._leads:
            json_files.cut_jsonl(self._path, start if start else -1)
        if not start:
            self._record(0, None, np.arange(self._size))

    # -- a turn: evaluate the members, then replace the worst ------------------------------------

    def is_due(self, step: int) -> bool:
        """Say whether a turn comes after this step; the last step has one."""
        return step % self._every == 0 or step == self._total

    def __call__(self, step, state, root):
        """Evaluate the members, replace the worst, and write a line of lineage.jsonl."""
        key, factors = rng.stream(root, "strategy", step), self._factors
        accuracies = np.asarray(
            self._accuracies(state.variables["params"], *self._examine(key, step))
        )
        parents = np.arange(self._size)
        if step < self._total:
            old = {name: factors[name] for name in factors if name != ACCURACY}
            key = rng.named(key, "exploit")
            parents, new = jax.device_get(self._exploit(key, old, accuracies))
            factors = factors | new
        sound = np.isfinite(accuracies)
        last = np.where(sound, accuracies, -np.inf).astype(np.float32)[parents]
        self._factors = factors | {ACCURACY: last}
        self._record(step, accuracies, parents)
        finite = accuracies[sound] if sound.any() else np.full(1, math.nan)
        extra = {"mean_score": float(finite.mean()), "best_score": float(finite.max())}
        return self._inherit(state, parents, self._factors), extra

    @functools.cached_property
    def _accuracies(self):
        """Compiled (params, masks, images, labels) -> float32 [M]; NaN for a failure."""
        prepare, metric = augment.standardiser(self._data), self._metric
        count = accuracy.correct(self._net, prepare, metric)

        def accuracies(params, archs, images, labels):
            def of_one(params):
                answers = count({"params": params}, {}, images, labels, archs)
                if metric != "accuracy":
                    return jnp.mean(class_metrics.of_counts(metric, answers))
                return jnp.mean(answers) / len(labels)

            return distributed.all_members(
                distributed.mean(of_each(self._one_by_one, of_one, params))
            )

        split = {"params": distributed.MEMBER, "archs": distributed.AXIS}
        whole = distributed.WHOLE
        return distributed.spread(accuracies, self._mesh, split=split, split_out=whole)

    @functools.cached_property
    def _inherit(self):
        def inherit(state, parents, sampler_state):
            state = jax.tree.map(lambda x: x[parents], state._replace(sampler_state=()))
            return state._replace(sampler_state=sampler_state)

        return jax.jit(inherit, out_shardings=distributed.of_members(self._mesh), donate_argnums=0)

    def _record(self, step, accuracies, parents):
        """Write a line of lineage.jsonl; the learning rate is that of the next step."""
        hyper = self.hyper(self._schedule.at(min(step, self._total - 1)))
        row = {"step": step, "scores": accuracies, "parents": parents}
        row |= {"learning_rate": hyper.learning_rate, "l2": hyper.l2}
        if self._tunes_r:
            row["r"] = hyper.r
        if self._leads:
            json_files.append_jsonl(self._path, [row])


def shapes_of_members(selection: Selection, params: Any) -> tuple[Any, Any]:
    """Return shapes [M, ...] and dtypes of params and sampler state, from one network's params."""
    factors = jax.eval_shape(selection.init, rng.key(0))
    last = jax.ShapeDtypeStruct((selection.size,), np.float32)

    def of_members(leaf):
        return jax.ShapeDtypeStruct((selection.size, *leaf.shape), leaf.dtype)

    return jax.tree.map(of_members, params), factors | {ACCURACY: last}


def best_member(weights: Weights) -> Weights:
    """Pick the weights of the member with the best last accuracy."""
    best = int(np.argmax(weights.sampler_state[ACCURACY]))
    params, sampler_state = jax.tree.map(lambda leaf: leaf[best], weights[1:])
    return Weights(weights.step, params, sampler_state)


def _mean_of_sound(metrics):
    """Compute means of metrics [M] over members with a finite loss; NaN if there is none."""
    is_sound = jnp.isfinite(metrics["loss"])
    return jax.tree.map(lambda x: jnp.nanmean(jnp.where(is_sound, x, jnp.nan)), metrics)
