"""The order in which candidates are evaluated: neighbours share their beginnings."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nas_jax.spaces import choices


def evaluate_sorted(evaluate: Callable[[Any], np.ndarray], archs: Any) -> np.ndarray:
    """Evaluate masks [N, k] in sorted order, and return the values [N] in the order given.

    A chain (`spaces.nasbench_macro`) computes the layers that neighbours share once. The order is
    found on the host, where all masks are known, so the program does not depend on it. Each device
    gets a run of neighbours.
    """
    archs = jax.device_get(archs)
    order = choices.sorted_order(archs)
    values = evaluate(jax.tree.map(lambda mask: mask[order], archs))
    return values[np.argsort(order)]
