"""The evaluator that combines others by rank: `sweep.score="ensemble"`.

Values of different evaluators have different units, so their ranks are combined. A candidate's rank
is taken among random architectures, the references, not among the candidates: its value then
depends on no other candidate, and any strategy can be told it. Weights are fixed in the config;
nothing is fitted.

Letters: N candidates, R references.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.run import Run
from nas_jax.runtime import rng

Evaluator = Callable[[Any], np.ndarray]


class Ensemble:
    """Evaluates masks [N, k]: values float [N] in (0, 1).

    The value is the mean, by the members' weights, of a candidate's ranks as shares in (0, 1), 1
    the best: the arithmetic one ("mean"), or the "geometric" one, with which a bad rank weighs more
    than a good one, and whose log is the sum of logs of AZ-NAS (Lee and Ham, CVPR 2024). A member
    that fails ranks a candidate last. A candidate at which all fail gets NaN.

    Args:
      run: the run.
      members: an evaluator by its name.
    """

    def __init__(self, run: Run, members: Mapping[str, Evaluator]):
        settings = run.config.sweep.ensemble
        self.members, self._geometric = dict(members), settings.combine == "geometric"
        self._weights = dict(settings.members)
        self._count, size = settings.num_references, run.config.sweep.candidates_per_batch
        self._rounds = list(_references(run, self._count, size))
        self._ranks = None

    def values(self, archs: Any) -> dict[str, np.ndarray]:
        """Evaluate masks [N, k] by each member: float [N] by name."""
        return {name: np.asarray(member(archs), float) for name, member in self.members.items()}

    def combined(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Combine the values of the members, [N] by name: float [N]."""
        if self._ranks is None:
            self._ranks = {name: Ranks(each) for name, each in self._of_references().items()}
        shares = {name: self._ranks[name](values[name]) for name in self.members}
        weights = [self._weights[name] for name in shares]
        ranks = np.asarray([*shares.values()])
        mean = np.average(np.log(ranks) if self._geometric else ranks, 0, weights)
        failed = np.all([~np.isfinite(values[name]) for name in self.members], 0)
        return np.where(failed, np.nan, np.exp(mean) if self._geometric else mean)

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]."""
        return self.combined(self.values(archs))

    def _of_references(self):
        """Evaluate the references, in rounds as large as those of the sweep."""
        rounds = [self.values(archs) for archs in self._rounds]
        joined = {name: np.concatenate([each[name] for each in rounds]) for name in self.members}
        return {name: values[: self._count] for name, values in joined.items()}


def _references(run, count, size):
    """Yield rounds of `size` of `count` random architectures; the last is filled up with more.

    Each has a key of its own, so that they do not depend on the size of a round.
    """
    keys = rng.each(rng.named(rng.key(run.config.sweep.seed), "ranked among"), jnp.arange(count))
    archs = jax.device_get(jax.vmap(run.space.sample)(keys))
    for first in range(0, count, size):
        numbers = np.minimum(np.arange(first, first + size), count - 1)
        yield jax.tree.map(lambda masks, numbers=numbers: masks[numbers], archs)


class Ranks:
    """Estimates ranks among references, as shares in (0, 1): maps values [N] to shares [N].

    Between references the log-odds of the share are linear in the value. Beyond them they go on
    with the slope of the outer tenth, up to 30. So of two candidates that are better than all
    references, the one with the higher value has the higher rank.

    Args:
      values: of the references, float [R]; those that are not finite are left out.
    """

    def __init__(self, values: np.ndarray):
        values = values[np.isfinite(values)]
        self._points, counts = np.unique(values, return_counts=True)
        shares = (np.cumsum(counts) - counts / 2) / max(len(values), 1)
        self._odds = np.log(shares) - np.log1p(-shares)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values [N] to shares [N]; of one that is not finite the share is least."""
        x, y = self._points, self._odds
        if len(x) < 2:
            return np.where(np.isfinite(values), 0.5, _LEAST)
        odds = np.interp(values, x, y)
        tenth = max(math.ceil(len(x) / 10), 1)
        low, high = (y[tenth] - y[0]) / (x[tenth] - x[0]), (y[-1] - y[~tenth]) / (x[-1] - x[~tenth])
        odds += low * np.minimum(values - x[0], 0) + high * np.maximum(values - x[-1], 0)
        shares = 1 / (1 + np.exp(-np.clip(odds, *_ODDS)))
        return np.where(np.isfinite(values), shares, _LEAST)


_ODDS = (-30, 30)  # so that a share is neither 0 nor 1
_LEAST = 1 / (1 + math.exp(30))
