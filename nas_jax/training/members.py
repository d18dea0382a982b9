"""The layout of many networks that train at once, each on its own masks and weights.

The state is a `TrainState` whose leaves have a leading axis [M]. All members see the same batches.

Letters: M members.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.runtime import distributed, rng
from nas_jax.training.hyperparameters import HyperParameters
from nas_jax.training.layout import KEPT, Layout


class Members(Layout):
    """The layout of M networks, spread over the devices.

    Args:
      size: M.
      one_by_one: whether a device computes its members one after the other. With executions that
        have conditionals it should: `vmap` would compute both sides.
      devices: None for all.
      reported: (metrics [M]) -> what the step reports; None: the metrics of each member.
    """

    def __init__(
        self,
        size: int,
        *,
        one_by_one: bool,
        devices: Sequence[jax.Device] | None = None,
        reported: Callable[[Any], Any] | None = None,
    ):
        self._size, self._one_by_one, self._reported = size, one_by_one, reported
        self._mesh = distributed.grid(size, devices)
        self.num_replicas = self._mesh.shape[distributed.AXIS]

    def shape_of(self, one):
        """Add the axis of the members to the shapes."""

        def stacked(one):
            return jax.tree.map(lambda x: jnp.stack([x] * self._size), one)

        return jax.eval_shape(stacked, one)

    def place(self, state, seed):
        """Spread the members' states and root keys over the devices."""
        roots = jax.vmap(rng.key)(self._seeds(seed))
        return distributed.put((state, roots), distributed.of_members(self._mesh))

    @abc.abstractmethod
    def _seeds(self, seed: int) -> np.ndarray:
        """Return the seed uint32 [M] of each member's masks and augmentation."""

    def batches(self, data, split, size, seed, start):
        """Yield whole batches, which all members share."""
        return data.batches(split, size, seed=seed, start=start, shard=(0, 1))

    def inputs_of(self, state, batch):
        """Leave the batch whole; there is a root key for each member."""
        seeds = np.zeros(self._size, np.uint32)
        return state, batch, jax.eval_shape(jax.vmap(rng.key), seeds)

    def compile(self, step):
        """Compile the step for all members of a device."""
        return _compiled(step, self._mesh, self._one_by_one, self._reported)

    def hyper(self, of_one: HyperParameters) -> HyperParameters:
        """Repeat the hyper-parameters: float32 [M]."""
        ones = np.ones(self._size, np.float32)
        return HyperParameters(*(x * ones for x in of_one))


def of_each(one_by_one: bool, function: Callable, *members: Any) -> Any:
    """Apply `function` to each member of a device, one after the other or all at once."""
    if one_by_one:
        return jax.lax.map(lambda member: function(*member), members)
    return jax.vmap(function)(*members)


@functools.lru_cache(KEPT)
def _compiled(step, mesh, one_by_one, reported):
    def steps(states, batch, roots, hyper):
        def one(state, root, hyper):
            return step(state, batch, root, hyper)

        states, metrics = of_each(one_by_one, one, states, roots, hyper)
        return states, reported(distributed.all_members(metrics)) if reported else metrics

    members, replicas = distributed.MEMBER, distributed.AXIS
    return distributed.spread(
        steps,
        mesh,
        split={"states": members, "batch": replicas, "roots": members, "hyper": members},
        split_out=(members, distributed.WHOLE if reported else members),
        donate={"states"},
    )
