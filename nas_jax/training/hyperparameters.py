"""Hyper-parameters of a training step: numbers that are inputs of the compiled step.

One program therefore serves any values and any number of steps. The host computes the learning rate
and the ramp of path dropout, which depend on the step.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from nas_jax import naming
from nas_jax.oneshot import path_dropout
from nas_jax.training import optim

LOT = 1024  # steps whose values are computed at once
TUNABLE = {  # field of a `train` section, and path dropout's r: the hyper-parameter of the step
    "base_lr": "learning_rate",
    "momentum": "momentum",
    "clip_norm": "clip_norm",
    "l2": "l2",
    "label_smoothing": "label_smoothing",
    "r": "r",
}
MOST = {"momentum": 0.999, "label_smoothing": 0.99, "r": 0.99}  # below 1, by rule


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


# -- factors on hyper-parameters, which populations have ------------------------------------------


def multiplied(of_one: HyperParameters, factors: Mapping[str, np.ndarray]) -> HyperParameters:
    """Multiply hyper-parameters of a step by factors.

    Args:
      of_one: float32 [].
      factors: {name of a hyper-parameter: float32 [M]}.

    Returns: float32 [M] where there is a factor; a share stays at or below its value in `MOST`.
    """
    values = {
        name: np.minimum(getattr(of_one, name) * factor, MOST.get(name, np.inf)).astype(np.float32)
        for name, factor in factors.items()
    }
    return of_one._replace(**values)


def limited(of_one: HyperParameters, factors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lower the factors on shares, so that what they multiply is at most its value in `MOST`.

    A factor beyond that would have to come down again before it has any effect.
    """
    most = {name: MOST[name] / float(getattr(of_one, name) or 1) for name in MOST}
    return {
        name: np.minimum(factor, np.float32(most.get(name, np.inf)))
        for name, factor in factors.items()
    }


def check_tunable(
    names: Sequence[str], train: ConfigDict, section: str, dropout: ConfigDict | None = None
) -> None:
    """Check that a factor on each of these fields changes the training.

    Args:
      names: of `TUNABLE`.
      train: a `train` section of the config.
      section: its name, such as "supernet.train".
      dropout: the section `supernet.path_dropout`; None where no path is dropped.

    Raises: ValueError that names the field, and the way out.
    """
    for name in names:
        place = f"config.{section}.{name}"
        if name == "r" and not dropout:
            raise ValueError(f"{name!r} cannot be tuned: no path is dropped; leave it out of tunes")
        if name == "r":
            place = "config.supernet.path_dropout.r"
        value = (dropout if name == "r" else train)[name]
        if not value:
            raise ValueError(
                f"{place}={value!r} cannot be tuned: a factor leaves it at 0; give it a first "
                "value, or leave it out of tunes"
            )
        if name == "momentum" and "momentum" not in naming.keywords(optim.of(train).make):
            raise ValueError(
                f"{place} cannot be tuned: {section}.optimizer={train.optimizer!r} has no "
                "momentum; leave it out of tunes"
            )
