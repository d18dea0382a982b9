"""Population based training: many networks train at once, and the worst become copies of the best.

All members see the same batches. Each has its own weights, masks and augmentation. The state of a
population is a `TrainState` whose leaves have a leading axis [M]. Its sampler state has the factors
on the members' hyper-parameters and their last accuracies, such as {"learning_rate", "l2", "r",
"score"}, float32 [M] each; and "recent", float32 [M, W], if members are selected by several.

Letters: M members, W recent accuracies of a member.
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.oneshot.training_variant import Selection
from nas_jax.runtime import distributed, rng
from nas_jax.storage import json_files
from nas_jax.storage.checkpoints import Weights
from nas_jax.training import hyperparameters
from nas_jax.training.hyperparameters import HyperParameters, Schedule
from nas_jax.training.members import Members, of_each

ACCURACY = "score"  # name of the accuracies in the sampler state, and in checkpoints
RECENT = "recent"  # and of those of the last turns


class Population(Members):
    """The layout of M networks, spread over the devices, and the turn that selects among them.

    Args:
      selection: how members are selected.
      factors: the first factors, see `Selection.init`.
      judge: (variables, masks, images, labels) -> the accuracy of a member, float32 [], or another
        metric; NaN for a failure. Several devices may each have a part of the masks: their mean
        counts.
      examine: (key, step) -> (masks, images, labels) of `judge`.
      every: steps between two turns.
      total: steps of the training; the turn after the last step only evaluates.
      tunes_r: whether path dropout's r has an effect; else it is not recorded.
      one_by_one: see `Members`.
      devices: None for all.
    """

    def __init__(
        self,
        selection: Selection,
        factors: dict[str, np.ndarray],
        *,
        judge: Callable,
        examine: Callable,
        every: int,
        total: int,
        tunes_r: bool,
        one_by_one: bool,
        devices: Sequence[jax.Device] | None = None,
    ):
        self._selection, self._judge, self._examine = selection, judge, examine
        self._every, self._total, self._tunes_r = every, total, tunes_r
        options = {"devices": devices, "reported": _mean_of_sound}
        super().__init__(selection.size, one_by_one=one_by_one, **options)
        self._exploit = jax.jit(selection.exploit)
        self.first_sampler_state = factors | _no_accuracies(selection)
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
        factors = hyperparameters.multiplied(of_one, _of_factors(self._factors))
        return super().hyper(factors)

    def begin(self, directory: Path, start: int, state: Any, schedule: Schedule) -> None:
        """Drop lines of lineage.jsonl after `start`, since the run writes them again."""
        self._path, self._schedule = directory / "lineage.jsonl", schedule
        there = jax.device_get(state.sampler_state)
        self._factors = there | self._limited(_of_factors(there))
        if self._leads:
            json_files.cut_jsonl(self._path, start if start else -1)
        if not start:
            self._record(0, None, np.arange(self._size))

    # -- a turn: evaluate the members, then replace the worst ------------------------------------

    def is_due(self, step: int) -> bool:
        """Say whether a turn comes after this step; the last step has one."""
        return step % self._every == 0 or step == self._total

    def _limited(self, factors):
        return hyperparameters.limited(self._schedule.at(0), factors)

    def __call__(self, step, state, root):
        """Evaluate the members, replace the worst, and write a line of lineage.jsonl."""
        key, there = rng.stream(root, "strategy", step), self._factors
        judged = np.asarray(self._judged(state.variables, *self._examine(key, step)))
        recent = np.concatenate([_recent(there)[:, 1:], judged[:, None]], 1)
        factors, parents = _of_factors(there), np.arange(self._size)
        if step < self._total and step // self._every % self._selection.ready == 0:
            key, seen = rng.named(key, "exploit"), recent if RECENT in there else judged
            parents, factors = jax.device_get(self._exploit(key, factors, seen))
            factors = self._limited(factors)
        sound = np.isfinite(judged)
        kept = np.where(np.isfinite(recent), recent, -np.inf).astype(np.float32)[parents]
        self._factors = factors | {ACCURACY: kept[:, -1]}
        if RECENT in there:
            self._factors[RECENT] = kept
        self._record(step, judged, parents)
        finite = judged[sound] if sound.any() else np.full(1, math.nan)
        extra = {"mean_score": float(finite.mean()), "best_score": float(finite.max())}
        return self._inherit(state, parents, self._factors), extra

    @functools.cached_property
    def _judged(self):
        """Compiled (variables, masks, images, labels) -> float32 [M]; NaN for a failure."""

        def judged(variables, archs, images, labels):
            def of_one(variables):
                return self._judge(variables, archs, images, labels)

            return distributed.all_members(
                distributed.mean(of_each(self._one_by_one, of_one, variables))
            )

        split = {"variables": distributed.MEMBER, "archs": distributed.AXIS}
        whole = distributed.WHOLE
        return distributed.spread(judged, self._mesh, split=split, split_out=whole)

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
        for name in HyperParameters._fields:
            if name in self._factors and (name != "r" or self._tunes_r):
                row[name] = getattr(hyper, name)
        if self._leads:
            json_files.append_jsonl(self._path, [row])


def _no_accuracies(selection):
    """Return the accuracies before the first turn: -inf."""
    nobody = np.full((selection.size, selection.recent), -np.inf, np.float32)
    return {ACCURACY: nobody[:, -1]} | ({RECENT: nobody} if selection.recent > 1 else {})


def _of_factors(sampler_state):
    """Return the factors alone, without accuracies."""
    return {name: sampler_state[name] for name in sampler_state if name not in (ACCURACY, RECENT)}


def _recent(sampler_state):
    """Return the accuracies that are kept, [M, W]."""
    return sampler_state.get(RECENT, sampler_state[ACCURACY][:, None])


def shapes_of_members(selection: Selection, params: Any) -> tuple[Any, Any]:
    """Return shapes [M, ...] and dtypes of params and sampler state, from one network's params."""
    factors = jax.eval_shape(selection.init, rng.key(0))

    def of_members(leaf):
        return jax.ShapeDtypeStruct((selection.size, *leaf.shape), leaf.dtype)

    last = jax.eval_shape(lambda: _no_accuracies(selection))
    return jax.tree.map(of_members, params), factors | last


def best_of(sampler_state: Any) -> int:
    """Return the number of the member with the best last accuracy."""
    return int(np.argmax(sampler_state[ACCURACY]))


def best_member(weights: Weights) -> Weights:
    """Pick the weights of the member with the best last accuracy."""
    best = best_of(weights.sampler_state)
    params, sampler_state = jax.tree.map(lambda leaf: leaf[best], weights[1:])
    return Weights(weights.step, params, sampler_state)


def _mean_of_sound(metrics):
    """Compute means of metrics [M] over members with a finite loss; NaN if there is none."""
    is_sound = jnp.isfinite(metrics["loss"])
    return jax.tree.map(lambda x: jnp.nanmean(jnp.where(is_sound, x, jnp.nan)), metrics)
