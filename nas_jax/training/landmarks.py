"""Landmarks: the supernet is trained to rank a few architectures as their own trainings do.

Landmark regularisation (Yu, Ranftl and Salzmann, CVPR 2021): of two architectures whose stand-alone
accuracies are listed, the better one is to have the lower loss. If its loss is higher, the excess,
max(0, loss of the better - loss of the worse), is added to the loss, times a weight.

Differs from the paper in: every so many steps each ghost batch has a pair of its own; the weight is
constant, and landmarks do not change.
"""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.spaces import tabular

FIELD = "config.supernet.landmarks"


@dataclasses.dataclass(frozen=True, eq=False)  # arrays are not hashable
class Landmarks:
    """Architectures whose accuracies a table lists.

    Attributes:
      archs: masks [M, num_options], from the best to the worst.
      accuracies: float [M], per cent.
      weight: of the ranking loss.
      every: steps between two that have it.
    """

    archs: Any
    accuracies: np.ndarray
    weight: float
    every: int

    def pairs(self, key: jax.Array, groups: jax.Array) -> tuple[Any, Any, jax.Array]:
        """Draw a pair for each ghost batch: masks [G, num_options] of the better and the worse.

        Beside them are weights float32 [G], 0 where both are equally good.

        Args:
          key: consumed.
          groups: int32 [G], global numbers of the ghost batches.
        """
        count = len(jax.tree.leaves(self.archs)[0])
        draws = jax.vmap(lambda k: jax.random.permutation(k, count)[:2])(rng.each(key, groups))
        better, worse = jnp.min(draws, 1), jnp.max(draws, 1)
        archs, accuracies = jax.tree.map(jnp.asarray, (self.archs, self.accuracies))
        pair = (jax.tree.map(operator.itemgetter(n), archs) for n in (better, worse))
        return *pair, jnp.where(accuracies[better] > accuracies[worse], self.weight, 0.0)


def of(run: Run) -> Landmarks | None:
    """Make the landmarks of `supernet.landmarks`; None if it has none."""
    settings = run.config.supernet.landmarks
    if not settings.count:
        return None
    chosen = tabular.drawn(run.table, tabular.LEARNT, settings.count)
    ranked = sorted(chosen, key=lambda arch: -run.table.rows[arch].accuracy)
    masks = jax.device_get(run.space.from_strs(ranked))
    accuracies = np.asarray([run.table.rows[arch].accuracy for arch in ranked])
    return Landmarks(masks, accuracies, settings.weight, settings.every)


def check(run: Run) -> None:
    """Check that a table has the landmarks of a config, if it asks for some.

    Raises: ValueError that names the field and the way out.
    """
    count = run.config.supernet.landmarks.count
    if count and run.variant.selection:
        raise ValueError(
            f"{FIELD}.count={count} does not go with supernet.variant="
            f"{run.config.supernet.variant!r}, all of whose members take one compiled step; set it "
            "to 0"
        )
    if count and run.table is None:
        raise ValueError(
            f"{FIELD}.count={count} needs config.table, a file of stand-alone accuracies "
            "(nas_jax/spaces/tabular.py says which)"
        )
    if count and len(there := tabular.drawn(run.table, tabular.LEARNT, count)) < count:
        raise ValueError(
            f"{FIELD}.count={count}, but the first half of config.table has {len(there)}; lower it"
        )
