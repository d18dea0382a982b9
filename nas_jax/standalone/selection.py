"""Which architectures are trained alone (paper, section 4.2): groups, and selection.json."""

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
from nas_jax.storage import schemas, workdir

GROUPS = ("random", "stratified", "top", "small", "pareto", "tuned", "narrowed", "all_on")
TOP_SHARE = 200  # of so many "top" is one: the paper's 100 of 20,000


def keep_or_select(
    path: Path,
    run: Run,
    protocol: str,
    trials: list[dict],
    tune: Callable[[str], Mapping],
) -> dict[str, Sequence[str]]:
    """Return the architectures of each group that a protocol asks for, and keep them in a file.

    A run goes on with the selection that it began with, even if an earlier version chose by other
    rules. A selection is made anew (`select`) if it is damaged, names an architecture that was not
    evaluated, or has groups of other sizes than are asked for.

    Args:
      path: of the file, which is written if there is none to keep.
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
    chosen = width_tuning.resolve(chosen, tune)
    if distributed.is_lead():
        workdir.write_json(path, chosen)
    return chosen


def _kept(path, space, trials, chosen):
    """The selection that is there; None if there is none to keep."""
    try:
        selection = workdir.read_json(path, schemas.SELECTION) if path.exists() else {}
    except ValueError:  # damaged
        return None
    known = {row["arch"] for row in trials} | {space.to_str(space.all_on())}
    scored = (selection.get(group, ()) for group in GROUPS if group not in width_tuning.GROUPS)
    sizes, asked = ({g: len(archs) for g, archs in x.items()} for x in (selection, chosen))
    is_whole = sizes == asked and known.issuperset(itertools.chain(*scored))
    return selection if is_whole else None


def select(
    trials: list[dict], space: Space, settings: ConfigDict, rules: ConfigDict, seed: int
) -> dict[str, list[str]]:
    """Choose the architectures of each group that `settings.groups` asks for, as strings.

    Of architectures of equal value `results.tie_breaker` says which come first.

    random: of the trials (with random search, a sample of the space's fixed distribution).
    stratified: spread evenly over buckets of the score (paper, figure 5), in a bucket those
      of `random` first: they are as random, and trained anyway.
    top: one from each of equally many ranks of the best `rules.top_pool` (a stratified sample); 0
      stands for one in `TOP_SHARE`, or as many as are asked for if these are more.
    small: the fewest parameters at or above the `rules.small_quantile` quantile.
    pareto: spread evenly, by parameters, over those that no other beats in both score and
      parameters.
    tuned, narrowed: the best, whose widths are still to be found (`width_tuning.resolve`).
    all_on: every path, not a legal architecture.
    """
    rows = results.ranked(trials)
    generator = np.random.default_rng(seed)
    shuffled = [rows[i] for i in generator.permutation(len(rows))]
    makers = {
        "random": lambda n: shuffled[:n],
        "stratified": lambda n: _stratified(shuffled, n, rules.bucket_width),
        "top": lambda n: _top(rows, rules.top_pool, n, generator),
        "small": lambda n: _small(rows, n, rules.small_quantile),
        "pareto": lambda n: _pareto(rows, n),
        **dict.fromkeys(width_tuning.GROUPS, lambda n: rows[:n]),
        "all_on": lambda n: [space.to_str(space.all_on())] if n else [],
    }
    return {group: _texts(makers[group](settings.groups[group])) for group in GROUPS}


def _texts(rows: Iterable) -> list[str]:
    return [row if isinstance(row, str) else row["arch"] for row in rows]


def _stratified(shuffled, n, width):
    """From every bucket in turn its first that is not taken, until there are n."""
    buckets: dict[int, list] = {}
    for row in shuffled:
        buckets.setdefault(analysis.bucket(row["value"], width), []).append(row)
    names = sorted(buckets)
    names = analysis.evenly(names, n)  # not the lowest, but such as are spread over all
    turns = itertools.zip_longest(*(buckets[name] for name in names))
    return [row for turn in turns for row in turn if row is not None][:n]


def _top(rows, pool, n, generator):
    pool = min(len(rows), pool or max(n, len(rows) // TOP_SHARE))
    strata = np.array_split(np.arange(pool), n) if n else []
    return [rows[generator.choice(stratum)] for stratum in strata if stratum.size]


def _small(rows, n, quantile):
    bar = np.quantile([row["value"] for row in rows], quantile)
    good = [row for row in rows if row["value"] >= bar]
    return sorted(good, key=lambda row: (row["params"], results.tie_breaker(row)))[:n]


def _pareto(rows, n):
    values, params = ([row[field] for row in rows] for field in ("value", "params"))
    return [rows[i] for i in analysis.evenly(analysis.pareto_front(values, params), n)]
