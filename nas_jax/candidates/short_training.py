"""The evaluator that trains each candidate alone, for a short time.

The supernet's module is trained with the masks of one architecture. It then equals the stand-alone
network in value and gradient, and one compiled step trains all candidates. The initial weights have
the distribution of the stand-alone network's. With `sweep.inherit` a candidate starts from the
weights of the nearest earlier candidate, as in Real et al. (ICML 2017).
"""

import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nas_jax.data import augment
from nas_jax.oneshot import class_metrics, path_samplers
from nas_jax.oneshot.accuracy import compiled_correct
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import Space, arch_id
from nas_jax.spaces.choices import unstack
from nas_jax.storage import file_paths, json_files
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)


class ShortTraining:
    """The evaluator that trains candidates, by `retrain.short.train` and `supernet.filters`.

    Its values are `config.metric`, [N] in [0, 1], on validation images, with batch statistics. The
    training of a candidate lies in candidates/<arch id> of `directory`, and is not repeated.
    """

    def __init__(self, run: Run, directory: str | Path):
        self._config, self._space = run.config, run.space
        self._directory = file_paths.local(directory, "directory")
        self._net = run.plain_supernet(run.config.supernet.filters, "batch")
        task = Task(
            name="candidate",
            net=self._net,
            split="train",
            sampler=path_samplers.fixed,
            sampler_state=run.space.all_on(),
            init_args=lambda arch: (arch,),  # so the weights suit the fan-ins of its network
            space=run.space,
        )
        self._training = Training(task, run.config.retrain.short.train, run.data)
        self._images, self._labels = run.data.fixed("valid", run.config.sweep.num_images)
        self._devices = jax.local_devices()[:1]
        self._correct = compiled_correct(
            self._net,
            prepare=augment.standardiser(run.data),
            devices=self._devices,
            metric=run.config.metric,
        )

    def __call__(self, archs: Any) -> np.ndarray:
        """Train each architecture of masks [N, k] in turn; parents are of the rounds before."""
        distributed.barrier("trials")  # the lead process has written the round before
        trials = json_files.read_trials(self._directory / "trials.jsonl")
        trials = [row for row in trials if row["value"] is not None]
        return np.asarray([self._accuracy(arch, trials) for arch in unstack(archs)])

    def _folder(self, text):
        return self._directory / "candidates" / arch_id(text)

    def _parent(self, arch, trials):
        """Read the weights of the nearest candidate."""
        folder = self._folder(nearest(self._space, arch, trials))
        if not folder.exists():
            raise ValueError(
                f"{folder} is gone, whose weights a candidate inherits; trials.jsonl says it was "
                "trained: remove that, too, to begin again"
            )
        return self._training.trained(folder).last()[0].params

    def _accuracy(self, arch, trials):
        params = self._parent(arch, trials) if self._config.sweep.inherit and trials else None
        folder = self._folder(self._space.to_str(arch))
        try:
            state = self._training.fit(
                folder, seed=self._config.seed, params=params, sampler_state=arch
            )
        except FloatingPointError as error:  # a failed candidate; the search goes on
            logger.warning("%s", error)
            return math.nan
        params = jax.device_get(state.variables["params"])
        variables = distributed.replicate({"params": params}, self._devices)
        size, correct = self._config.sweep.batch_size, 0
        masks = jax.tree.map(lambda mask: np.asarray(mask)[None, None], arch)
        for first in range(0, len(self._images), size):
            part = slice(first, first + size)
            correct += self._correct(variables, {}, self._images[part], self._labels[part], masks)
        metric, correct = self._config.metric, np.asarray(correct)[0, 0]
        return float(class_metrics.of_answers(metric, correct, len(self._images)))


def nearest(space: Space, arch: Any, trials: list[dict]) -> str:
    """Find the architecture of a trial that differs from `arch` in the fewest Choices.

    Of equally near ones the highest value decides, then the order. For a mutated child this is its
    parent, or one that is as near and at least as good.

    Args:
      space: the search space.
      arch: masks [k].
      trials: rows of trials.jsonl that have a value.
    """
    rows = np.asarray(space.to_decisions(space.from_strs([row["arch"] for row in trials])))
    distances = np.sum(rows != np.asarray(space.to_decisions(arch)), -1)
    values = [row["value"] for row in trials]
    return trials[np.lexsort((-np.asarray(values), distances))[0]]["arch"]
