"""Arguments that a user gives to make a data set: they are checked before anything is read."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_jax import naming
from nas_jax.data import splits
from nas_jax.data.records import SPLITS


def check(
    *,
    image_size: int | None,
    shuffle_seed: int,
    fractions: Sequence[float],
    split_seed: int,
    memory_gb: float = 0,
) -> None:
    """Check arguments of `loading.load`, which has them as fields of the section `data`.

    Raises: ValueError that names the field, its value, and what it may be.
    """
    if image_size is not None:
        naming.check_whole("data.image_size", image_size, 1, "or None")
    if shuffle_seed != -1:
        naming.check_whole("data.shuffle_seed", shuffle_seed, 0, "or -1: as stored")
    naming.check_whole("data.split_seed", split_seed, 0)
    if not _are_fractions(fractions):
        raise ValueError(
            f"data.fractions={naming.shown(fractions)} must be three numbers above 0 that sum to "
            f"1, for {', '.join(SPLITS)}: such as {splits.FRACTIONS}"
        )
    is_number = isinstance(memory_gb, numbers.Real) and not isinstance(memory_gb, bool)
    if not is_number or not memory_gb >= 0:  # NaN, too
        raise ValueError(f"data.memory_gb={memory_gb!r} must be a number, 0 or more (10^9 bytes)")


def as_array(name: str, given: Any) -> np.ndarray:
    """Return an array of what a user gives as `name`. Raises: ValueError if it is ragged."""
    try:
        return np.asarray(given)
    except ValueError as error:
        raise ValueError(
            f"{name}={naming.shown(given)} is no array: its items have different sizes"
        ) from error


def _are_fractions(given):
    try:
        shares = as_array("data.fractions", given)
    except ValueError:
        return False
    good = shares.shape == (len(SPLITS),) and shares.dtype.kind in "iuf" and np.all(shares > 0)
    return good and abs(shares.sum() - 1) <= 1e-6
