"""A surrogate: a Gaussian process (scikit-learn) that predicts scores from masks and sizes.

The first architectures are random. From then on a Gaussian process is fitted to all that was told,
and each architecture that is asked for is the best of a pool by a draw from the process (Thompson
sampling). So it looks where scores are expected to be high, or are unknown. It suits scores that
are dear, such as those of a short training: a fit takes up to a second.

Letters: N architectures told, D Choices, K options of all Choices, m architectures of a pool.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from scipy import linalg, stats

from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range

SIZES = ("params", "flops")  # costs that are features
_MOST = 2_000  # architectures of a fit, the best of those told: its time grows with their cube
_BEST = 4  # whose neighbours are in the pool
_JITTER = 1e-8


def make(
    space: Space,
    *,
    costs: Callable[[Any], dict] | None = None,
    cost_names: tuple = (),
    first: int = 20,
    among: int = 256,
) -> Strategy:
    """Make the strategy.

    Args:
      space: to search in.
      costs: masks [n, k] -> {"params": [n], ..}; None: sizes are no features.
      cost_names: those that `costs` gives.
      first: random architectures before the first fit.
      among: random architectures of which the best is asked for; neighbours of the best that were
        told are added.

    State: decision vectors int32 [N, D] and scores float32 [N] of all that were told, but failures.

    Raises: ValueError if scikit-learn is not installed, or a number is out of its range.
    """
    check_range(2, None, first=first)
    check_range(8, None, among=among)
    names = [name for name in SIZES if costs is not None and name in cost_names]
    search = _Search(space, costs, names, _maker(), among)

    def init(key):
        decisions = np.zeros((0, len(jax.tree.leaves(space.choices))), np.int32)
        return {"decisions": decisions, "scores": np.zeros(0, np.float32)}

    def ask(key, state, n):
        if len(state["scores"]) < first:
            return _random(space, key, range(n))
        return search.ask(key, state, n)

    def tell(state, archs, scores):
        scores = np.asarray(scores, np.float32)
        kept = np.isfinite(scores)
        decisions = np.asarray(space.to_decisions(archs), np.int32)
        return {
            "decisions": np.concatenate([state["decisions"], decisions[kept]]),
            "scores": np.concatenate([state["scores"], scores[kept]]),
        }

    return Strategy(init, ask, tell, on_host=True)


def _maker():
    """Return () -> a Gaussian process that is not fitted."""
    try:
        from sklearn import gaussian_process
        from sklearn.gaussian_process import kernels
    except ImportError as error:
        raise ValueError(
            "config.sweep.strategy='surrogate' needs scikit-learn: pip install -e '.[surrogate]'"
        ) from error

    def make():
        smooth = kernels.ConstantKernel(1.0) * kernels.RBF(2.0, (0.3, 30.0))
        noise = kernels.WhiteKernel(0.1, (1e-3, 1.0))
        return gaussian_process.GaussianProcessRegressor(smooth + noise)

    return make


def _random(space, key, numbers: Iterable[int]):
    """Draw an architecture for each number, whatever the others are."""
    keys = rng.each(key, np.asarray([*numbers], np.uint32))
    return jax.device_get(jax.vmap(space.sample)(keys))


class _Search:
    """Asks by a process that is fitted once for each state."""

    def __init__(self, space, costs, names, make_process, size):
        self._space, self._costs, self._names = space, costs, names
        self._make_process, self._size = make_process, size
        self._fitted = None, None

    def ask(self, key, state, n):
        """Ask for n architectures; the first of them do not depend on n."""
        told, chosen = {*map(bytes, state["decisions"])}, []
        process, half = self._process(state), self._size // 2
        for part in range(-(-n // half)):  # a pool for each half of its size
            chosen += self._draws(jax.random.fold_in(key, part), state, process, told, half)
        return self._space.from_decisions(np.asarray(chosen[:n], np.int32))

    def _draws(self, key, state, process, told, count):
        """Draw `count` decision vectors from a new pool, the best by a draw of scores each.

        Those that were told or drawn already come again only where there are no others.
        """
        decisions = self._pool(key, state)
        known = np.asarray([bytes(row) in told for row in decisions])
        mean, covariance = process.predict(self._features(decisions), return_cov=True)
        root = linalg.cholesky(covariance + _JITTER * np.eye(len(mean)), lower=True)
        draws = np.asarray(jax.random.normal(key, (count, len(mean)))) @ root.T + mean
        rows = []
        for draw in draws:
            best = int(np.argmax(np.where(known, -np.inf, draw) if not known.all() else draw))
            rows.append(decisions[best])
            known[best] = True  # a pool has each once
        return rows

    def _pool(self, key, state):
        """Draw a pool, int32 [m, D]: random architectures, and neighbours of the best told."""
        archs = _random(self._space, key, range(self._size))
        best = state["decisions"][np.argsort(-state["scores"], kind="stable")[:_BEST]]
        near = [
            np.asarray(self._space.to_decisions(self._space.neighbours(self._one(row))))
            for row in best
        ]
        near = np.concatenate(near)
        if len(near) > self._size:
            near = near[:: -(-len(near) // self._size)]
        pool = np.concatenate([np.asarray(self._space.to_decisions(archs)), near])
        return np.unique(pool.astype(np.int32), axis=0)

    def _one(self, decisions):
        return jax.device_get(self._space.from_decisions(decisions))

    def _process(self, state):
        """Fit a process to the ranks of the scores, as numbers of a normal distribution."""
        of = state["decisions"].tobytes() + state["scores"].tobytes()
        if self._fitted[0] != of:
            best = np.argsort(-state["scores"], kind="stable")[:_MOST]
            scores = state["scores"][best]
            normal = stats.norm.ppf((stats.rankdata(scores) - 0.5) / len(scores))
            features = self._features(state["decisions"][best])
            with warnings.catch_warnings():  # of a length or a noise at its bound, which may be
                warnings.simplefilter("ignore")
                self._fitted = of, self._make_process().fit(features, normal)
        return self._fitted[1]

    def _features(self, decisions):
        """Return masks float64 [m, K], and beside them the sizes' logs."""
        archs = self._space.from_decisions(decisions)
        columns = [np.asarray(mask, float) for mask in jax.tree.leaves(archs)]
        if self._names:
            costs = self._costs(archs)
            columns += [np.log1p(np.asarray(costs[name], float))[:, None] for name in self._names]
        return np.concatenate(columns, -1)
