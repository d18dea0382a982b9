"""The selection of architectures that are trained alone (paper, section 4.2): selection.json."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from nas_jax.report import analysis, results
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import Space
from nas_jax.standalone import width_tuning
from nas_jax.storage import json_files, schemas

GROUPS = ("random", "stratified", "top", "small", "pareto", "tuned", "narrowed", "all_on")
TOP_SHARE = 200  # "top" is a sample of the best 200th: the paper's 100 of 20,000


def keep_or_select(
    path: Path,
    run: Run,
    protocol: str,
    trials: list[dict],
    tune: Callable[[str], Mapping],
) -> dict[str, Sequence[str]]:
    """Return the architectures of each group of a protocol, and keep them in a file.

    A run goes on with its first selection, even if an earlier version chose by other rules. It
    selects anew (`select`) if the file is damaged, names an architecture that was not evaluated, or
    has groups of other sizes than the config.

    Args:
      path: of the file, which is written unless its selection is kept.
      run: the run.
      protocol: "short" or "final".
      trials: rows of trials.jsonl.
      tune: see `width_tuning.resolve`.
    """
    config, space = run.config, run.space
    rules = config.retrain.selection
    chosen = select(trials, space, config.retrain[protocol], rules, config.seed)
    kept = _kept(path, space, trials, chosen)
    if distributed.of_lead(np.int32(kept is not None)):
        return kept
    chosen = width_tuning.resolve(run, chosen, config.retrain[protocol].filters[0], tune)
    if distributed.is_lead():
        json_files.write_json(path, chosen)
    return chosen


def _kept(path, space, trials, chosen):
    """Read the selection of the file; None if it is not to be kept."""
    try:
        selection = json_files.read_json(path, schemas.SELECTION) if path.exists() else {}
    except ValueError:  # damaged
        return None
    allowed = {row["arch"] for row in trials} | {space.to_str(space.all_on())}
    evaluated = (selection.get(group, ()) for group in GROUPS if group not in width_tuning.GROUPS)
    sizes, asked = ({g: len(archs) for g, archs in x.items()} for x in (selection, chosen))
    is_whole = sizes == asked and allowed.issuperset(itertools.chain(*evaluated))
    return selection if is_whole else None


def select(
    trials: list[dict], space: Space, settings: ConfigDict, rules: ConfigDict, seed: int
) -> dict[str, list[str]]:
    """Choose the architectures of each group that `settings.groups` asks for, as strings.

    `results.tie_breaker` orders architectures of equal value.

    random: a random sample of the trials; with random search it has the fixed distribution of the
      space. An architecture that the supernet's training selected (DARTS) is none of them, nor of
      `stratified`.
    stratified: spread evenly over buckets of the value (paper, figure 5). A bucket gives those of
      `random` first, which are as random, and trained anyway.
    top: a stratified sample of the best `rules.top_pool`, one from each of equal ranges of ranks. 0
      stands for the best one in `TOP_SHARE`, or for the size of the group if that is more. One that
      the supernet's training selected comes first, whatever its value.
    small: the fewest parameters, of those at or above the quantile `rules.small_quantile`.
    pareto: spread evenly, by parameters, over the Pareto front of value and parameters.
    tuned, narrowed: the best, whose widths `width_tuning.resolve` then changes.
    all_on: every path, which is not a legal architecture.

    Args:
      trials: rows of trials.jsonl.
      space: the search space.
      settings: the section of the protocol.
      rules: the section `retrain.selection`.
      seed: of the random choices.
    """
    rows = results.ranked(trials)
    learnt = {row["arch"] for row in trials if row.get("selected")}
    selected = [row for row in rows if row["arch"] in learnt]
    asked = [row for row in rows if row["arch"] not in learnt]
    generator = np.random.default_rng(seed)
    shuffled = [asked[i] for i in generator.permutation(len(asked))]
    makers = {
        "random": lambda n: shuffled[:n],
        "stratified": lambda n: _stratified(shuffled, n, rules.bucket_width),
        "top": lambda n: (selected + _top(asked, rules.top_pool, n - len(selected), generator))[:n],
        "small": lambda n: _small(rows, n, rules.small_quantile),
        "pareto": lambda n: _pareto(rows, n),
        **dict.fromkeys(width_tuning.GROUPS, lambda n: rows[:n]),
        "all_on": lambda n: [space.to_str(space.all_on())] if n else [],
    }
    return {group: _texts(makers[group](settings.groups[group])) for group in GROUPS}


def _texts(rows: Iterable) -> list[str]:
    return [row if isinstance(row, str) else row["arch"] for row in rows]


def _stratified(shuffled, n, width):
    """Take the next architecture of each bucket in turn, until there are n."""
    buckets: dict[int, list] = {}
    for row in shuffled:
        buckets.setdefault(analysis.bucket(row["value"], width), []).append(row)
    names = sorted(buckets)
    names = analysis.evenly(names, n)  # spread over all buckets, not only the lowest
    turns = itertools.zip_longest(*(buckets[name] for name in names))
    return [row for turn in turns for row in turn if row is not None][:n]


def _top(rows, num_best, n, generator):
    num_best = min(len(rows), num_best or max(n, len(rows) // TOP_SHARE))
    strata = np.array_split(np.arange(num_best), n) if n > 0 else []
    return [rows[generator.choice(stratum)] for stratum in strata if stratum.size]


def _small(rows, n, quantile):
    bar = np.quantile([row["value"] for row in rows], quantile)
    good = [row for row in rows if row["value"] >= bar]
    return sorted(good, key=lambda row: (row["params"], results.tie_breaker(row)))[:n]


def _pareto(rows, n):
    values, params = ([row[field] for row in rows] for field in ("value", "params"))
    return [rows[i] for i in analysis.evenly(analysis.pareto_front(values, params), n)]
