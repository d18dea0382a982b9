"""The sweep: ask a strategy for architectures, score them, tell it, write trials.jsonl.

A sweep goes in rounds of a fixed number of candidates. Round i depends on the seed and on the
scores before it only, so a resumed sweep asks again, finds its lines and goes on where they end.
"""

import functools
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax import (
    augment,
    candidates,
    path_dropout,
    rng,
    score,
    strategies,
    tables,
    trainer,
    workdir,
)
from nas_jax import data as data_lib
from nas_jax.spaces import Space
from nas_jax.strategies import exhaustive

logger = logging.getLogger(__name__)


def run(config: ConfigDict, space: Space, data: data_lib.Data, directory: Path) -> list[dict]:
    """Score `sweep.num_candidates` architectures with the supernet in `directory`.

    Returns:
      The rows of trials.jsonl; what it held already is kept.

    Raises:
      ValueError: no finished supernet, or the trials there are not of this sweep.
    """
    sweep = config.sweep
    path = directory / "trials.jsonl"
    rows = workdir.read_jsonl(path)
    if len(rows) >= sweep.num_candidates:
        return rows[: sweep.num_candidates]
    workdir.rewrite_jsonl(path, rows)  # drops a last line that was cut short
    table = tables.load(config.table, space) if config.table else None
    scorer = Scorer(config, space, data, directory, table)
    strategy = strategies.make(sweep.strategy, space, **_options(sweep, space, table))
    root = jax.random.key(sweep.seed)
    state = strategy.init(rng.stream(root, "init"))
    size, began, resumed = sweep.candidates_per_batch, time.perf_counter(), len(rows)
    for number, first in enumerate(range(0, sweep.num_candidates, size)):
        archs = strategy.ask(rng.stream(root, "ask", number), state, size)
        old = rows[first : first + size]
        if len(old) < min(size, sweep.num_candidates - first):
            new = scorer.rows(archs)[: sweep.num_candidates - first]
            workdir.append_jsonl(path, new[len(old) :])
            rows[first:] = new
            _log(len(rows), resumed, sweep.num_candidates, began)
        _check_same(space, archs, old, first)
        scores = [row["value"] for row in rows[first : first + size]]
        state = strategy.tell(state, archs, np.asarray(scores, np.float64))
    return rows


def _check_same(space, archs, old, first):
    for number, (row, text) in enumerate(zip(old, space.to_strs(archs)), first + 1):
        if row["arch"] != text:
            raise ValueError(
                f"trials.jsonl, line {number} holds {row['arch']!r}, this sweep asks for "
                f"{text!r} there: it belongs to another sweep"
            )


def _log(done, resumed, total, began):
    per_second = (done - resumed) / (time.perf_counter() - began)
    logger.info(
        "sweep  %d/%d architectures  %.1f a second  %.0f s left",
        done,
        total,
        per_second,
        (total - done) / per_second,
    )


def _options(sweep, space, table):
    """Options of the strategy: exhaustive search is over the table's architectures, or the space's.

    A sweep that asks for fewer than there are gets a random sample of them.
    """
    if sweep.strategy != "exhaustive":
        return {}
    if table is None:
        decisions = exhaustive.every(space)
    else:
        decisions = np.asarray(space.to_decisions(space.from_strs(sorted(table.rows))))
    generator = np.random.default_rng(sweep.seed)
    return {"among": generator.choice(decisions, sweep.num_candidates, replace=False)}


class Scorer:
    """Scores and costs of a round of architectures, as rows of trials.jsonl.

    `value` is what ranks, higher is better: the accuracy, or minus the divergence.

    Args:
      config, space, data: of the run.
      directory: of the supernet.
      table: what `sweep.score` "table" searches in, else None.
      step: of the checkpoint to score with; None for the last `sweep.num_checkpoints`.

    Raises: ValueError: no finished supernet, or no such checkpoint.
    """

    def __init__(
        self,
        config: ConfigDict,
        space: Space,
        data: data_lib.Data,
        directory: Path,
        table: tables.Table | None = None,
        step: int | None = None,
    ):
        self._config, self._space, self._data = config, space, data
        sweep = config.sweep
        num_images = sweep.kl.num_images if sweep.score == "kl" else sweep.num_images
        self._common = {
            "num_images": num_images,
            "score": sweep.score,
            "bn": sweep.bn,
            "num_batches": 1 if sweep.score == "kl" else num_images // sweep.batch_size,
            "latency_ms": None,
            "strategy": sweep.strategy,
            "seed": sweep.seed,
            "checkpoint_step": None,
        }
        if sweep.score == "table":
            self._scores = [functools.partial(_table_scores, space, table)]
            return
        task = trainer.supernet_task(config, space, data)
        train, last = config.supernet.train, sweep.num_checkpoints
        if step is None:
            states = trainer.restore(task, train, data, directory, last)
        else:
            states = [trainer.restore_step(task, train, data, directory, step)]
        self._common["checkpoint_step"] = int(states[0].step)
        make = _minus_divergence if sweep.score == "kl" else _network_score
        self._scores = [make(config, space, data, task, state) for state in states]

    def rows(self, archs: Any) -> list[dict]:
        """Masks [N, k] -> a row each; N a multiple of the devices."""
        values = np.mean([score(archs) for score in self._scores], 0).tolist()
        values = [value if math.isfinite(value) else None for value in values]
        archs = jax.device_get(archs)
        filters = self._config.supernet.filters
        costs = trainer.network_cost(self._space, archs, filters, self._data)
        return [
            {
                "arch": text,
                "value": value,
                "one_shot_accuracy": None if self._common["score"] == "kl" else value,
                "params": params,
                "flops": flops,
                "status": "failed" if value is None else "ok",
                **self._common,
            }
            for text, value, params, flops in zip(
                self._space.to_strs(archs), values, costs.params.tolist(), costs.flops.tolist()
            )
        ]


def _table_scores(space, table, archs):
    return np.asarray([table.search_accuracy(text) for text in space.to_strs(archs)])


def _network_score(config, space, data, task, state):
    """The scorer of one checkpoint, with the statistics that `sweep.bn` names."""
    sweep, variables, prepare = config.sweep, {"params": state.params}, _standardiser(data)

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
        key = rng.named(jax.random.key(sweep.seed), "statistics")
        masks = task.sample_masks(key, state.step, groups)
        gather = jax.jit(functools.partial(candidates.statistics, task.net, prepare=prepare))
        variables["batch_stats"] = gather(state.params, batches, masks)
    return score.one_shot_accuracy(
        task.net,
        variables,
        *data.fixed("valid", sweep.num_images),
        batch_size=sweep.batch_size,
        prepare=prepare,
        calibration=calibration,
    )


def _minus_divergence(config, space, data, task, state):
    """The scorer of one checkpoint by `score.kl_divergence`, the higher the better."""
    settings = config.sweep.kl
    key = rng.named(jax.random.key(config.sweep.seed), "references")
    references = path_dropout.sample(
        key, space.choices, jnp.arange(settings.num_references), r=settings.r, share=1.0
    )
    divergence = score.kl_divergence(
        task.net,
        {"params": state.params},
        data.fixed("train", settings.num_images)[0],
        references,
        prepare=_standardiser(data),
    )
    return lambda archs: -divergence(archs)


def _standardiser(data):
    return functools.partial(augment.standardise, mean=data.mean, std=data.std)
