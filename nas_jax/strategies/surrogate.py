"""A surrogate: a Gaussian process that predicts values of architectures (`gaussian_process`).

The first architectures are random. From then on a Gaussian process is fitted to all that was told,
and each architecture that is asked for is the best of a shortlist by a draw from the process
(Thompson sampling). So it looks where values are expected to be high, or are uncertain. It suits
evaluators that are expensive, such as a short training: a fit takes up to a second.

Letters: N architectures told, D Choices, m architectures of a shortlist.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from scipy import linalg

from nas_jax import naming
from nas_jax.proxies import PROXIES
from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range
from nas_jax.strategies.gaussian_process import GaussianProcess

_MOST = 2_000  # architectures of a fit, the best of those told: its time grows with their cube
_BEST = 4  # whose neighbours are in the pool
_JITTER = 1e-8


def make(
    space: Space,
    *,
    costs: Callable[[Any], dict] | None = None,
    cost_names: tuple = (),
    proxy: Callable[[str], Callable[[Any], np.ndarray]] | None = None,
    first: int = 20,
    among: int = 256,
    proxies: tuple = (),
) -> Strategy:
    """Make the strategy.

    Args:
      space: to search in.
      costs: masks [n, k] -> {"params": [n], ..}; None: sizes are no features.
      cost_names: those that `costs` gives.
      proxy: name of a training-free proxy -> masks [n, k] -> float [n].
      first: random architectures before the first fit.
      among: random architectures of which the best is asked for; neighbours of the best that were
        told are added.
      proxies: names of training-free proxies that are features, such as ("naswot",). They are
        evaluated for every architecture of a shortlist, so each should be far faster than the
        evaluator.

    State: decision vectors int32 [N, D] and values float32 [N] of all that were told, but failures.

    Raises: ValueError if scikit-learn is not installed, or a number is out of its range.
    """
    check_range(2, None, first=first)
    check_range(8, None, among=among)
    if isinstance(proxies, str):
        raise ValueError(f"config.sweep.options: proxies={proxies!r} must be a tuple of names")
    for name in proxies:
        naming.check("config.sweep.options: proxies", name, PROXIES)
    if proxies and proxy is None:
        raise ValueError(f"config.sweep.options: proxies={proxies} need images, those of a run")
    features = {name: _Remembered(space, functools.partial(proxy, name)) for name in proxies}
    process = GaussianProcess(space, costs, cost_names, features)
    search = _Search(space, process, among)

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


class _Remembered:
    """Evaluates masks [n, k] by a proxy, each architecture once."""

    def __init__(self, space, make_proxy):
        self._space, self._make_proxy, self._values = space, make_proxy, {}

    def __call__(self, archs):
        rows = [*map(bytes, np.asarray(self._space.to_decisions(archs), np.int32))]
        new = {row: n for n, row in enumerate(rows) if row not in self._values}
        if new:
            numbers = [*new.values()]
            values = self._proxy(jax.tree.map(lambda mask: np.asarray(mask)[numbers], archs))
            self._values |= dict(zip(new, values, strict=True))
        return np.asarray([self._values[row] for row in rows])

    @functools.cached_property
    def _proxy(self):
        return self._make_proxy()


def _random(space, key, numbers: Iterable[int]):
    """Draw an architecture for each number, whatever the others are."""
    keys = rng.each(key, np.asarray([*numbers], np.uint32))
    return jax.device_get(jax.vmap(space.sample)(keys))


class _Search:
    """Asks by a process that is fitted once for each state."""

    def __init__(self, space, process, size):
        self._space, self._process, self._size = space, process, size
        self._fitted = None

    def ask(self, key, state, n):
        """Ask for n architectures; the first of them do not depend on n."""
        told, chosen = {*map(bytes, state["decisions"])}, []
        self._fit(state)
        half = self._size // 2
        for part in range(-(-n // half)):  # a pool for each half of its size
            chosen += self._draws(jax.random.fold_in(key, part), state, told, half)
        return self._space.from_decisions(np.asarray(chosen[:n], np.int32))

    def _draws(self, key, state, told, count):
        """Draw `count` decision vectors of a new shortlist, each the best by a draw of values.

        Those that were told or drawn already come again only where there are no others.
        """
        decisions = self._pool(key, state)
        known = np.asarray([bytes(row) in told for row in decisions])
        mean, covariance = self._process.predict(self._space.from_decisions(decisions))
        root = linalg.cholesky(covariance + _JITTER * np.eye(len(mean)), lower=True)
        draws = np.asarray(jax.random.normal(key, (count, len(mean)))) @ root.T + mean
        rows = []
        for draw in draws:
            best = int(np.argmax(np.where(known, -np.inf, draw) if not known.all() else draw))
            rows.append(decisions[best])
            known[best] = True  # a pool has each once
        return rows

    def _pool(self, key, state):
        """Draw a shortlist, int32 [m, D]: random architectures, and neighbours of the best."""
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

    def _fit(self, state):
        """Fit the process to what was told, unless it is fitted already."""
        of = state["decisions"].tobytes() + state["scores"].tobytes()
        if self._fitted != of:
            best = np.argsort(-state["scores"], kind="stable")[:_MOST]
            archs = self._space.from_decisions(state["decisions"][best])
            self._process.fit(archs, state["scores"][best])
            self._fitted = of
