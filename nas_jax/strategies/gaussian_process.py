"""A Gaussian process (scikit-learn) that predicts values of architectures from a few others.

Its features are paths through the graph of a cell or a chain (`spaces.paths`), logs of sizes, and
proxies, if any are given, all scaled to variance 1; and masks, to tell where an op is, scaled down,
as equal networks may have different masks. Values are replaced by their ranks, as numbers of a
normal distribution.

Letters: n architectures.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from scipy import stats

from nas_jax.spaces import Space, paths

SIZES = ("params", "flops")  # costs that are features
_MASKS = 0.35  # scale of masks; chosen on the first halves of two published tables
_FARTHEST = 3.0  # in standard deviations: a proxy may have outliers
_IQR = 1.349  # of a standard normal distribution


class GaussianProcess:
    """Fits values of architectures, masks [n, k], and predicts those of others.

    Args:
      space: of the architectures.
      costs: masks -> {"params": [n], ..}; None: sizes are no features.
      cost_names: those that `costs` gives.
      proxies: masks -> float [n], not finite for a failure, by name.

    Raises: ValueError as `check_installed`.
    """

    def __init__(
        self,
        space: Space,
        costs: Callable[[Any], Mapping] | None = None,
        cost_names: tuple = (),
        proxies: Mapping[str, Callable[[Any], np.ndarray]] | None = None,
    ):
        self._space, self._costs, self._proxies = space, costs, dict(proxies or {})
        self._names = [name for name in SIZES if costs is not None and name in cost_names]
        self._process = _make_process()
        self._scale = None

    def fit(self, archs: Any, scores: np.ndarray) -> "GaussianProcess":
        """Fit the values [n] of architectures."""
        masks, others = self._masks(archs), self._others(archs)
        self._scale = _scale(others)
        normal = stats.norm.ppf((stats.rankdata(scores) - 0.5) / len(scores))
        with warnings.catch_warnings():  # of a length or a noise at its bound, which may be
            warnings.simplefilter("ignore")
            self._process.fit(np.concatenate([masks, self._scaled(others)], -1), normal)
        return self

    def predict(self, archs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predict architectures: means [n] and their covariance [n, n]."""
        return self._process.predict(self._features(archs), return_cov=True)

    def means(self, archs: Any) -> np.ndarray:
        """Predict architectures: means [n] alone, of as many as there are."""
        return self._process.predict(self._features(archs))

    def _features(self, archs):
        return np.concatenate([self._masks(archs), self._scaled(self._others(archs))], -1)

    def _masks(self, archs):
        columns = [np.asarray(mask, float) for mask in jax.tree.leaves(jax.device_get(archs))]
        return _MASKS * np.concatenate(columns, -1)

    def _others(self, archs):
        """Return float [n, f]; not finite where a proxy fails."""
        columns = [*_of_paths(self._space, archs)]
        if self._names:
            costs = self._costs(archs)
            columns += [np.log1p(np.asarray(costs[name], float)) for name in self._names]
        columns += [np.asarray(proxy(archs), float) for proxy in self._proxies.values()]
        return np.stack(columns, -1) if columns else np.zeros((len(self._masks(archs)), 0))

    def _scaled(self, others):
        middle, width = self._scale
        scaled = np.where(np.isfinite(others), (others - middle) / width, -_FARTHEST)
        return np.clip(scaled, -_FARTHEST, _FARTHEST)


def _of_paths(space, archs):
    """Return columns [n]; none where cells share no graph."""
    if not space.outputs():
        return []
    found = paths.of(space, archs)
    longest = 1 + len(jax.tree.leaves(space.choices))  # longer than any
    shortest = np.minimum(found.shortest, longest)
    totals = [np.log1p(total) for total in found.total.values()]
    return [np.log1p(found.count), shortest, *found.most.values(), *totals]


def _scale(columns):
    """Return the middle and the width of columns [n, f]: medians, and 1 where all are equal."""
    finite = np.where(np.isfinite(columns), columns, np.nan)
    with warnings.catch_warnings():  # of a proxy that failed at all of them
        warnings.simplefilter("ignore", RuntimeWarning)
        low, middle, high = np.nanquantile(finite, (0.25, 0.5, 0.75), 0)
        width = np.where(high > low, (high - low) / _IQR, np.nanstd(finite, 0))
    return np.nan_to_num(middle), np.where(width > 0, width, 1.0)


def check_installed(field: str = "config.sweep.strategy='surrogate'") -> None:
    """Check that scikit-learn is installed, which a field of the config needs.

    Raises: ValueError that names the field if it is not.
    """
    try:
        import sklearn.gaussian_process  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{field} needs scikit-learn: pip install -e '.[surrogate]'") from error


def _make_process():
    check_installed()
    from sklearn import gaussian_process
    from sklearn.gaussian_process import kernels

    smooth = kernels.ConstantKernel(1.0) * kernels.Matern(4.0, (0.3, 100.0), nu=2.5)
    noise = kernels.WhiteKernel(0.1, (1e-3, 1.0))
    return gaussian_process.GaussianProcessRegressor(smooth + noise, normalize_y=True)
