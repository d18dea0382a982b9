"""The evaluator of few-shot supernets, which are parts of a split one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.training import few_shot


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The evaluator that asks, for each candidate, those whose part of the split space has it.

    Values are means over them: one of each checkpoint, and of each of `sweep.supernets`.

    Attributes:
      run: the run.
      masks: of the part of each evaluator.
      evaluators: as many.
    """

    run: Run
    masks: list[tuple[np.ndarray, ...]]
    evaluators: list[Callable[[Any], np.ndarray]]

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]: float [N]."""
        archs, places = jax.device_get(archs), self.run.config.supernet.split.choices
        places = few_shot.places(self.run.space, places)
        total, count = 0.0, 0
        for masks, evaluator in zip(self.masks, self.evaluators, strict=True):
            within = few_shot.has(masks, places, archs)
            total = total + _where(within, evaluator, archs)
            count = count + within
        return total / count


def _where(within, evaluator, archs):
    """Evaluate those of masks [N, k] that are `within`: float [N], 0 for the others.

    So that few shapes are compiled, it is asked for a number of them that doubles, and some more
    than once.
    """
    values, chosen = np.zeros(len(within)), np.flatnonzero(within)
    if len(chosen):
        filled = chosen[distributed.filled(len(chosen))]
        asked = evaluator(jax.tree.map(lambda m: m[filled], archs))
        values[chosen] = asked[: len(chosen)]
    return values
