"""The sweep: ask a strategy for architectures, score them, tell it, write trials.jsonl.

A sweep goes in rounds of a fixed number of candidates. Round i depends on the seed and on the
scores before it only, so a resumed sweep asks again, finds its lines and goes on where they end.
"""

import logging
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from nas_jax import data as data_lib
from nas_jax import interruption, parallel, rng, strategies, supernet_task, tables, workdir
from nas_jax.constraints import Constraints
from nas_jax.scorer import Scorer
from nas_jax.spaces import Space
from nas_jax.strategies import exhaustive

logger = logging.getLogger(__name__)


def run(
    config: ConfigDict,
    space: Space,
    data: data_lib.Data,
    directory: Path,
    supernet: Path | None = None,
) -> list[dict]:
    """Score `sweep.num_candidates` architectures with the supernet in `directory`.

    Args:
      config, space, data: of the run.
      directory: gets trials.jsonl; what it held already is kept.
      supernet: folder of the supernet, if it is not `directory`.

    Returns:
      The rows of trials.jsonl.

    Raises:
      ValueError: no finished supernet, the trials there are not of this sweep, or there are no
        architectures within the constraints.
    """
    sweep = config.sweep
    path = directory / "trials.jsonl"
    with parallel.owner_first("trials"):
        rows = workdir.read_trials(path)
        if len(rows) < sweep.num_candidates and parallel.is_owner():
            workdir.rewrite_jsonl(path, rows)  # drops a last line that was cut short
    if len(rows) >= sweep.num_candidates:
        return rows[: sweep.num_candidates]
    table = tables.load(config.table, space) if config.table else None
    searched = table if sweep.score == "table" else None
    constraints = Constraints(config, space, data, directory, searched)
    scorer = Scorer(config, space, data, supernet or directory, constraints, table)
    told = _told(sweep, space, table, constraints)
    strategy = supernet_task.make_strategy(config, space, constraints, **told)
    state = scorer.policy or supernet_task.first_policy(config, strategy)
    root, progress = jax.random.key(sweep.seed), _Progress(len(rows), sweep.num_candidates)
    size = sweep.candidates_per_batch
    for number, first in enumerate(range(0, sweep.num_candidates, size)):
        if parallel.stop_requested():
            raise interruption.Interrupted
        key = rng.stream(root, "ask", number)
        archs = strategies.ask_allowed(key, strategy, state, size, constraints.allows)
        old = rows[first : first + size]
        if len(old) < min(size, sweep.num_candidates - first):
            new = scorer.rows(archs)[: sweep.num_candidates - first]
            if parallel.is_owner():
                workdir.append_jsonl(path, new[len(old) :])
            rows[first:] = new
            progress.log(rows)
        _check_same(space, archs, old, first)
        values = [row["value"] for row in rows[first : first + size]]
        if len(values) == size:  # else it was the last
            state = strategy.tell(state, archs, np.asarray(values, np.float64))
    return rows


def _check_same(space, archs, old, first):
    for number, (row, text) in enumerate(zip(old, space.to_strs(archs)), first + 1):
        if row["arch"] != text:
            raise ValueError(
                f"trials.jsonl, line {number} holds {row['arch']!r}, this sweep asks for "
                f"{text!r} there: it belongs to another sweep"
            )


class _Progress:
    """How far the sweep is, and how long it will take."""

    def __init__(self, resumed, total):
        self._resumed, self._total, self._began = resumed, total, time.perf_counter()

    def log(self, rows):
        done = len(rows)
        per_second = (done - self._resumed) / (time.perf_counter() - self._began)
        values = [row["value"] for row in rows if row["value"] is not None]
        logger.info(
            "sweep  %d/%d architectures  best %s  %.1f a second  %.0f s left",
            done,
            self._total,
            f"{max(values):.4f}" if values else "none",
            per_second,
            (self._total - done) / per_second,
        )


def _told(sweep, space, table, constraints):
    """What only exhaustive search is told: the table's architectures, or the space's.

    A sweep that asks for fewer than there are gets a random sample of them.
    """
    if sweep.strategy != "exhaustive":
        return {}
    if table is None:
        decisions = exhaustive.every(space)
    else:
        decisions = np.asarray(space.to_decisions(space.from_strs(sorted(table.rows))))
    decisions = decisions[constraints.allows(space.from_decisions(decisions))]
    if len(decisions) < sweep.num_candidates:
        raise ValueError(
            f"config.sweep.num_candidates={sweep.num_candidates}, but only {len(decisions)} "
            "architectures keep to config.sweep.constraints; lower it to that"
        )
    generator = np.random.default_rng(sweep.seed)
    return {"among": generator.choice(decisions, sweep.num_candidates, replace=False)}
