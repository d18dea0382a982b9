"""The sweep: ask a strategy for architectures, evaluate them, tell it, write trials.jsonl.

A sweep has rounds of `sweep.candidates_per_batch` candidates. What a round asks for depends on the
seed and on the values of earlier rounds alone. So no state is saved: a resumed sweep asks again
from the first round on. As far as trials.jsonl has lines, it checks that they are of the same
architectures and takes their values; the other rounds it evaluates.
"""

import itertools
import logging
import time
from pathlib import Path

import jax
import numpy as np

from nas_jax import strategies
from nas_jax.candidates import evaluators
from nas_jax.run import Run
from nas_jax.runtime import distributed, events, preemption, progress, rng
from nas_jax.spaces import choices as choices_lib
from nas_jax.storage import json_files, schemas
from nas_jax.strategies import exhaustive
from nas_jax.training.ranking_metrics import ranking_metric

logger = logging.getLogger(__name__)


def search(run: Run, supernet: str | Path | None = None) -> None:
    """Evaluate `sweep.num_candidates` architectures.

    Lines are added to trials.jsonl in the workdir; those of an earlier call are kept. If it has
    none, selections that `retrain` made of trials that are gone are removed.

    Args:
      run: the run.
      supernet: folder of the supernet; None: the workdir.

    Raises:
      ValueError: the supernet is not finished, the trials in the workdir are of another sweep, or
        too few architectures keep to the constraints.
    """
    sweep, path = run.config.sweep, run.workdir / "trials.jsonl"
    resumed = int(distributed.of_lead(np.int32(_count_sound_lines(path))))
    if resumed >= sweep.num_candidates:
        logger.info("sweep  all %d architectures are evaluated already", sweep.num_candidates)
        return
    if not resumed and distributed.is_lead():  # they were made of trials that are gone
        for old in (run.workdir / "retrain").glob("*/selection.json"):
            old.unlink()
    run.constraints.check()
    evaluation = evaluators.make(run, supernet or run.workdir)
    lines, size = _lines(path, resumed), sweep.candidates_per_batch
    log = _Log(resumed, run.config)
    allows = _constraints(run, evaluation.left)
    state = evaluation.strategy_state or _first_state(run, allows, evaluation.left)
    repair = _repair(run.space.choices, evaluation.left)
    for number, first in enumerate(range(0, sweep.num_candidates, size)):
        if distributed.stop_requested():
            raise preemption.Interrupted
        key = rng.stream(rng.key(sweep.seed), "ask", number)
        archs = strategies.ask_allowed(key, run.strategy, state, size, allows, repair)
        has_selected = not number and evaluation.selected is not None
        if has_selected:
            archs = jax.tree.map(_with_first, archs, evaluation.selected)
        wanted = min(size, sweep.num_candidates - first)
        rows = list(itertools.islice(lines, wanted))  # of this round; none if it is new
        if rows:
            _check_same(run.space, archs, rows, first)
        is_new = len(rows) < wanted
        if is_new:  # or cut short: then it is evaluated again, and the missing lines are added
            num_there = len(rows)
            with progress.part(
                first / sweep.num_candidates, (first + wanted) / sweep.num_candidates
            ):
                rows = evaluators.rows(run, evaluation, archs)[:wanted]
                if has_selected:
                    rows[0]["selected"] = True
                progress.done(1)
            if distributed.is_lead():
                json_files.append_jsonl(path, rows[num_there:])
                events.emit("candidates", run.workdir, rows[num_there:], first + num_there)
        values = [row["value"] for row in rows]
        log.add(values, is_new)
        if len(values) == size:  # the last round may be smaller; nothing is asked after it
            state = run.strategy.tell(state, archs, np.asarray(values, np.float64))


def _with_first(masks, first):
    """Put a mask [k] in the place of the first of masks [n, k]."""
    return np.concatenate([np.asarray(first, masks.dtype)[None], masks[1:]])


def _count_sound_lines(path):
    """Cut off a damaged last line, and count the others; 0 in all processes but the lead."""
    if not distributed.is_lead():
        return 0
    json_files.mend_jsonl(path, schemas.TRIAL)
    return sum(1 for _ in json_files.iterate_jsonl(path, schemas.TRIAL))


def _lines(path, count):
    """Yield the first `count` rows, one by one; the sweep appends to the file meanwhile."""
    return itertools.islice(json_files.iterate_jsonl(path, schemas.TRIAL), count)


def _check_same(space, archs, old, first):
    for number, (row, text) in enumerate(zip(old, space.to_strs(archs)), first + 1):
        if row["arch"] != text:
            raise ValueError(
                f"trials.jsonl, line {number} holds {row['arch']!r}, this sweep asks for "
                f"{text!r} there: it belongs to another sweep; remove the file to begin anew, or "
                "use another --workdir"
            )


class _Log:
    """Logs how far the sweep is, and how long it will take."""

    def __init__(self, resumed, config):
        self._resumed, self._began = resumed, time.perf_counter()
        self._total = config.sweep.num_candidates
        self._metric = ranking_metric(config.sweep.score, config.metric)
        self._done, self._best = 0, None

    def add(self, values, is_new):
        """Take the values of a round; log if it is new."""
        self._done += len(values)
        finite = [value for value in (self._best, *values) if value is not None]
        self._best = max(finite, default=None)
        if is_new:
            self._log()

    def _log(self):
        done, best = self._done, self._best
        per_second = (done - self._resumed) / (time.perf_counter() - self._began)
        logger.info(
            "sweep  %d/%d architectures  best %s  %.1f a second  %s left%s",
            done,
            self._total,
            "none" if best is None else self._metric.written(best),
            per_second,
            progress.duration((self._total - done) / per_second),
            progress.left(),
        )


def _constraints(run, left):
    """Make masks [n, k] -> bool [n]: which architectures the sweep may evaluate."""
    if left is None:
        return run.constraints.allows
    choices = run.space.choices
    return lambda archs: run.constraints.allows(archs) & choices_lib.are_left(choices, left, archs)


def _repair(choices, left):
    """Make (key, masks [n, k]) -> masks [n, k] of options that are left; None: all are."""
    if left is None:
        return None
    return lambda key, archs: choices_lib.with_left_alone(key, choices, left, archs)


def _first_state(run, allows, left):
    """Make the first state of the strategy.

    An exhaustive search gets the allowed architectures, in sorted order; if there are more than
    `sweep.num_candidates`, a random sample of them. Random search draws of the options that are
    left, since hardly any architecture of all options has only those.
    """
    sweep, space = run.config.sweep, run.space
    if sweep.strategy == "random_search" and left is not None:
        return left
    if sweep.strategy != "exhaustive":
        return run.first_strategy_state()
    if run.table is None:
        decisions = exhaustive.every(space)
    else:
        decisions = np.asarray(space.to_decisions(space.from_strs(sorted(run.table.rows))))
    decisions = decisions[allows(space.from_decisions(decisions))]
    if len(decisions) < sweep.num_candidates:
        raise ValueError(
            f"config.sweep.num_candidates={sweep.num_candidates}, but only {len(decisions)} "
            "architectures keep to config.sweep.constraints and to what the supernet leaves; lower "
            "it to that"
        )
    generator = np.random.default_rng(sweep.seed)
    chosen = generator.choice(decisions, sweep.num_candidates, replace=False)
    return exhaustive.first_state(chosen)
