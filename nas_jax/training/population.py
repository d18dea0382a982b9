"""Population based training: many networks at once, of which the worst go on as the best do.

All members see the same batches; weights, masks and augmentation are each member's own. The state
of a population is a `TrainState` with a leading axis [M] at every leaf; its policy has the members'
factors and their last scores, {"learning_rate", "l2", "r", "score"}, float32 [M] each.

Letters: M members, n candidates, B images.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax.data import augment, dataset
from nas_jax.oneshot import path_dropout, scoring
from nas_jax.runtime import distributed, rng
from nas_jax.storage import workdir
from nas_jax.training.loop import BaseTraining, Task


class Population(BaseTraining):
    """The training of M networks, spread over the devices; `restore` gives the best of them.

    Args:
      task, train, data, devices: as of `BaseTraining`. In masks' and steps' policies the factors of
        one member are float32 [].
      factors: the first ones, {"learning_rate", "l2", "r"}, float32 [M] each.
      exploit: of the strategy.
      examine: (key, step, policy) -> (masks [n, k], images uint8 [B, H, W, C], labels int32 [B]):
        a member's score is its mean accuracy of these architectures on these images.
      every: steps between two turns; after the last step there is one more, which only scores.
      r: that of path dropout, which factors multiply; None if it is not tuned.
    """

    def __init__(
        self,
        task: Task,
        train: ConfigDict,
        data: dataset.Data,
        devices: Sequence[jax.Device] | None = None,
        *,
        factors: dict[str, np.ndarray],
        exploit: Callable,
        examine: Callable,
        every: int,
        r: float | None,
    ):
        super().__init__(task, train, data, devices)
        self.task = dataclasses.replace(
            task, tuned=True, is_due=lambda step: step % every == 0 or step == self.total
        )
        self._exploit, self._examine, self._r = jax.jit(exploit), examine, r
        self._size = len(factors["learning_rate"])
        self._policy = factors | {"score": np.full(self._size, -np.inf, np.float32)}
        self._mesh = distributed.grid(self._size, devices)

    def _read(self, checkpoints, step):
        state = checkpoints.restore(step, self._state_shape)
        best = int(np.argmax(state.policy["score"]))
        return jax.tree.map(lambda x: x[best], state)

    def _first_state(self, seed, params, policy):
        members = [self._new(own, params, {}) for own in self._seeds(seed)]
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return state._replace(policy=policy or self._policy)

    @functools.cached_property
    def _state_shape(self):
        def stacked(one):
            return jax.tree.map(lambda x: jnp.stack([x] * self._size), one)

        shape = jax.eval_shape(stacked, self._shape_of_new)
        return shape._replace(policy=jax.eval_shape(lambda: self._policy))

    def _place(self, state, seed):
        roots = jax.vmap(rng.key)(self._seeds(seed))
        return distributed.put((state, roots), distributed.of_members(self._mesh))

    def _seeds(self, seed):
        """uint32 [M], others for every seed; that of a population of one is the seed itself."""
        return np.arange(self._size, dtype=np.uint32) + np.uint32(seed * self._size)

    def _batches(self, seed, start):
        return self._data.batches(
            self.task.split, self._train.batch_size, seed=seed, start=start, shard=(0, 1)
        )

    # -- a step -----------------------------------------------------------------------------------

    @functools.cached_property
    def _step(self):
        one = self._make_step(self._mesh.shape[distributed.AXIS])

        def step(states, batch, roots):
            states, metrics = self._each(lambda state, root: one(state, batch, root), states, roots)
            return states, _mean_of_sound(distributed.all_members(metrics))

        members, replicas = distributed.MEMBER, distributed.AXIS
        return distributed.spread(
            step,
            self._mesh,
            split=(members, replicas, members),
            split_out=(members, distributed.WHOLE),
            donate=(0,),
        )

    def _each(self, function, *members):
        """`function` of each member of a device: together, unless what is off is skipped, since
        `vmap` would compute both sides of a conditional."""
        if self.task.net.execution == "switch":
            return jax.lax.map(lambda member: function(*member), members)
        return jax.vmap(function)(*members)

    # -- a turn: scores, who goes on as whom ------------------------------------------------------

    def _updater(self, directory, start, state, seed):
        path = directory / "lineage.jsonl"
        if self._owner:
            workdir.cut_jsonl(path, start if start else -1)
        if not start:
            own = np.arange(self._size)
            self._record(path, 0, None, own, jax.device_get(state.policy))
        return functools.partial(self._turn, path, rng.key(seed))

    def _turn(self, path: Path, root, step, state, _):
        key = rng.stream(root, "strategy", step)
        policy = jax.device_get(self._gather(state.policy))
        scores = np.asarray(self._scores(state.params, *self._examine(key, step, policy)))
        parents = np.arange(self._size)
        if step < self.total:
            factors = {name: policy[name] for name in policy if name != "score"}
            key = rng.named(key, "exploit")
            parents, factors = jax.device_get(self._exploit(key, factors, scores))
            policy |= factors
        sound = np.isfinite(scores)
        policy["score"] = np.where(sound, scores, -np.inf).astype(np.float32)[parents]
        self._record(path, step, scores, parents, policy)
        found = scores[sound] if sound.any() else np.full(1, math.nan)
        found = {"mean_score": float(found.mean()), "best_score": float(found.max())}
        return self._inherit(state, parents, policy), found

    @functools.cached_property
    def _gather(self):
        split = (distributed.MEMBER,)
        return distributed.spread(
            distributed.all_members, self._mesh, split=split, split_out=distributed.WHOLE
        )

    @functools.cached_property
    def _scores(self):
        """Compiled (params, masks, images, labels) -> float32 [M]; NaN for a failure."""
        right = scoring.right(self.task.net, prepare=augment.standardiser(self._data))

        def scores(params, archs, images, labels):
            def of_one(params):
                return jnp.mean(right({"params": params}, {}, images, labels, archs)) / len(labels)

            return distributed.all_members(distributed.mean(self._each(of_one, params)))

        split = (distributed.MEMBER, distributed.AXIS, distributed.WHOLE, distributed.WHOLE)
        return distributed.spread(scores, self._mesh, split=split, split_out=distributed.WHOLE)

    @functools.cached_property
    def _inherit(self):
        def inherit(state, parents, policy):
            state = jax.tree.map(lambda x: x[parents], state._replace(policy=()))
            return state._replace(policy=policy)

        return jax.jit(inherit, out_shardings=distributed.of_members(self._mesh), donate_argnums=0)

    def _record(self, path, step, scores, parents, policy):
        """A line of lineage.jsonl; the learning rate is that of the step that comes next."""
        rate = float(self._learning_rate(min(step, self.total - 1)))
        row = {"step": step, "scores": scores, "parents": parents}
        row["learning_rate"] = rate * policy["learning_rate"]
        row["l2"] = self._train.l2 * policy["l2"]
        if self._r is not None:
            row["r"] = path_dropout.tuned(self._r, policy["r"])
        if self._owner:
            workdir.append_jsonl(path, [row])


def _mean_of_sound(metrics):
    """Means [] of metrics [M] over the members whose loss is finite; NaN if there is none."""
    is_sound = jnp.isfinite(metrics["loss"])
    return jax.tree.map(lambda x: jnp.nanmean(jnp.where(is_sound, x, jnp.nan)), metrics)
