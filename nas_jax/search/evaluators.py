"""Scores and costs of rounds of candidates: the rows of trials.jsonl."""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.data import augment
from nas_jax.oneshot import candidates, path_dropout, scoring
from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.search.short_training import Trained
from nas_jax.training import supernet


class Scorer:
    """Scores and costs of a round of architectures, as rows of trials.jsonl.

    `value` is what ranks, higher is better: an accuracy, or minus the divergence.

    Args:
      run: the run.
      directory: of the supernet, or of the candidates that `sweep.score` "trained" trains.
      step: of the checkpoint to score with; None for the last `sweep.num_checkpoints`.

    Attributes:
      policy: what the strategy learnt while the supernet was trained, or reads out of it; {} where
        it did not.

    Raises: ValueError: no finished supernet, or no such checkpoint.
    """

    def __init__(
        self,
        run: Run,
        directory: Path,
        step: int | None = None,
    ):
        self._space, self._constraints, self.policy = run.space, run.constraints, {}
        sweep = run.config.sweep
        num_images = sweep.kl.num_images if sweep.score == "kl" else sweep.num_images
        self._common = {
            "num_images": num_images,
            "score": sweep.score,
            "bn": sweep.bn,
            "num_batches": 1 if sweep.score == "kl" else num_images // sweep.batch_size,
            "strategy": sweep.strategy,
            "seed": sweep.seed,
            "checkpoint_step": None,
        }
        if sweep.score == "table":
            self._scores = [functools.partial(_table_scores, run.space, run.table)]
            return
        if sweep.score == "trained":
            self._scores = [Trained(run, directory)]
            return
        training = supernet.training(run)
        if step is None:
            states = training.restore(directory, sweep.num_checkpoints)
        else:
            states = [training.restore_step(directory, step)]
        read_out = run.strategy.read_out
        self.policy = read_out(states[0].params) if read_out else states[0].policy
        self._common["checkpoint_step"] = int(states[0].step)
        make = _minus_divergence if sweep.score == "kl" else _network_score
        self._scores = [make(run, training.task, state) for state in states]

    def rows(self, archs: Any) -> list[dict]:
        """Masks [N, k] -> a row each; N a multiple of the devices."""
        values = np.mean([score(archs) for score in self._scores], 0).tolist()
        values = [value if math.isfinite(value) else None for value in values]
        archs = jax.device_get(archs)
        is_one_shot = self._common["score"] in ("accuracy", "table")
        costs = self._constraints.costs(archs)
        return [
            {
                "arch": text,
                "value": value,
                "one_shot_accuracy": value if is_one_shot else None,
                **dict(zip(costs, of_one)),
                "status": "failed" if value is None else "ok",
                **self._common,
            }
            for text, value, *of_one in zip(self._space.to_strs(archs), values, *costs.values())
        ]


def _table_scores(space, table, archs):
    return np.asarray([table.search_accuracy(text) for text in space.to_strs(archs)])


def _network_score(run, task, state):
    """The scorer of one checkpoint, with the statistics that `sweep.bn` names."""
    config, data = run.config, run.data
    sweep, variables, prepare = config.sweep, {"params": state.params}, augment.standardiser(data)

    def training_batches(size):
        count = sweep.calibration_images // size
        images, _ = data.fixed("train", count * size)
        return images.reshape(count, size, *images.shape[1:])

    calibration = None
    if sweep.bn == "recalibrate":
        calibration = training_batches(sweep.batch_size)
    if sweep.bn == "running":  # as many paths as in training: one for each ghost batch
        batches = training_batches(config.supernet.train.ghost_batch_size)
        groups = np.arange(len(batches), dtype=np.int32)
        key = rng.named(rng.key(sweep.seed), "statistics")
        masks = task.sample_masks(key, state.step, groups, state.policy)
        gather = jax.jit(functools.partial(candidates.statistics, task.net, prepare=prepare))
        variables["batch_stats"] = gather(state.params, batches, masks)
    return scoring.one_shot_accuracy(
        task.net,
        variables,
        *data.fixed("valid", sweep.num_images),
        batch_size=sweep.batch_size,
        prepare=prepare,
        calibration=calibration,
    )


def _minus_divergence(run, task, state):
    """The scorer of one checkpoint by `score.kl_divergence`, the higher the better."""
    settings = run.config.sweep.kl
    key = rng.named(rng.key(run.config.sweep.seed), "references")
    references = path_dropout.sample(
        key, run.space.choices, jnp.arange(settings.num_references), r=settings.r, share=1.0
    )
    divergence = scoring.kl_divergence(
        task.net,
        {"params": state.params},
        run.data.fixed("train", settings.num_images)[0],
        references,
        prepare=augment.standardiser(run.data),
    )
    return lambda archs: -divergence(archs)
