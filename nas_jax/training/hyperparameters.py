"""Hyper-parameters of a training step: numbers that are inputs of the compiled step.

One program therefore serves any values and any number of steps. The host computes the learning rate
and the ramp of path dropout, which depend on the step.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from nas_jax.oneshot import path_dropout
from nas_jax.training import optim

LOT = 1024  # steps whose values are computed at once


class HyperParameters(NamedTuple):
    """The hyper-parameters of one step: float32 [], or [M] for the members of a population."""

    learning_rate: np.ndarray
    momentum: np.ndarray
    clip_norm: np.ndarray  # not read where `train.clip_norm` is 0
    l2: np.ndarray
    label_smoothing: np.ndarray
    r: np.ndarray  # path dropout: a node loses all its inputs with probability r
    drop_share: np.ndarray  # share of the final drop rates, in [0, 1]; r decides these rates


class Schedule:
    """The hyper-parameters of every step of a training.

    Args:
      train: a `train` section of the config.
      num_steps: steps of the whole training.
      dropout: the section `supernet.path_dropout`; None where no path is dropped.
      slower: factor on the learning rate; below 1 after a restart.
    """

    def __init__(
        self,
        train: ConfigDict,
        num_steps: int,
        dropout: ConfigDict | None = None,
        slower: float = 1.0,
    ):
        self._num_steps, self._dropout, self._lot = num_steps, dropout, None
        self._learning_rate = optim.schedule(
            train.schedule,
            base_lr=train.base_lr * slower,
            batch_size=train.batch_size,
            num_steps=num_steps,
            warmup_share=train.warmup_share,
        )
        self._constant = HyperParameters(
            learning_rate=np.float32(0),
            momentum=np.float32(train.momentum),
            clip_norm=np.float32(train.clip_norm),
            l2=np.float32(train.l2),
            label_smoothing=np.float32(train.label_smoothing),
            r=np.float32(dropout.r if dropout else 0),
            drop_share=np.float32(0),
        )

    def at(self, step: int) -> HyperParameters:
        """Return the hyper-parameters, float32 [], of a step in 0 .. num_steps - 1."""
        number, place = divmod(step, LOT)
        if self._lot is None or self._lot[0] != number:
            steps = np.arange(number * LOT, (number + 1) * LOT, dtype=np.int32)
            self._lot = number, self._values(steps)
        return self._constant._replace(**{name: v[place] for name, v in self._lot[1].items()})

    def _values(self, steps):
        values = {"learning_rate": self._learning_rate(steps)}
        if self._dropout:
            ramp = path_dropout.ramp(steps, self._num_steps, self._dropout.schedule)
            values["drop_share"] = ramp
        return {  # a constant schedule gives one value for all steps
            name: np.broadcast_to(np.asarray(value, np.float32), steps.shape)
            for name, value in values.items()
        }

    def logged(self, step: int) -> dict[str, float]:
        """Return the learning rate and the drop share of a step, as metrics.jsonl has them."""
        values = self.at(step)
        row = {"learning_rate": float(values.learning_rate)}
        return row | ({"drop_share": float(values.drop_share)} if self._dropout else {})
