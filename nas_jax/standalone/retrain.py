"""Stand-alone networks trained from scratch (paper, section 4.2).

Two protocols: "short" trains on the training split and reports validation accuracy, to see how well
one-shot scores rank (which are of some of the same images: their errors are not independent);
"final" trains on training and validation images and reads the test set once.
Each writes `selection.json` (which architectures, and why) and a `result.json` per network.
"""

import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from nas_jax.costs import params_flops, widths
from nas_jax.data import augment
from nas_jax.report import analysis, results
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import Space, arch_id
from nas_jax.standalone import evaluation, width_tuning
from nas_jax.storage import schemas, workdir
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

PROTOCOLS = ("short", "final")
GROUPS = ("random", "stratified", "top", "small", "pareto", "tuned", "narrowed", "all_on")
TOP_SHARE = 200  # of so many "top" is one: the paper's 100 of 20,000
# Networks; JAX keeps the programs of those that are gone, tens of megabytes each.
CLEAR_EVERY = 20


def retrain(run: Run) -> None:
    """Train what both protocols ask for; networks that have a result are skipped, and a selection
    that is there is kept.

    Several processes share the networks, each trains its own on its own devices.

    Raises: ValueError if trials.jsonl is not complete.
    """
    config, directory = run.config, run.workdir
    trials = workdir.read_trials(directory / "trials.jsonl")
    if len(trials) < config.sweep.num_candidates:
        raise ValueError(
            f"{directory}/trials.jsonl has {len(trials)} of {config.sweep.num_candidates} "
            "architectures; run --mode=sweep first"
        )
    for protocol in PROTOCOLS:
        settings, root = config.retrain[protocol], directory / "retrain" / protocol
        tune = functools.partial(_tune, run, settings.filters[0])
        selection = keep_or_select(root / "selection.json", run, protocol, trials, tune)
        index, count = distributed.process()
        todo = [job for job in jobs(settings, root, selection).items() if not is_done(job[0])]
        distributed.barrier(protocol)  # all have seen the same
        for number, (path, job) in enumerate(todo[index::count], 1):
            train_one(run, protocol, path, *job)
            if number % CLEAR_EVERY == 0:
                jax.clear_caches()
        distributed.barrier(protocol)


def keep_or_select(
    path: Path,
    run: Run,
    protocol: str,
    trials: list[dict],
    tune: Callable[[str], Mapping],
) -> dict[str, Sequence[str]]:
    """The architectures of each group that a protocol asks for (`select`), in a file.

    A selection that is there is kept, so that a run goes on with the networks that it began with,
    even if an earlier version chose them by other rules; unless it is damaged, names what has no
    score, or its groups are of other sizes than are asked for.

    Args:
      path: of the file, which is written if there is none to keep.
      run: the run.
      protocol: one of `PROTOCOLS`.
      trials: rows of trials.jsonl.
      tune: see `widths_task.resolve`.
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


def _tune(run, filters, text):
    path = run.workdir / "retrain" / "widths" / f"F{filters}" / arch_id(text)
    return width_tuning.tune(run, path, text, filters=filters, seed=run.config.seed)


def jobs(
    settings: ConfigDict, root: Path, selection: Mapping[str, Sequence[str]]
) -> dict[Path, tuple[str, int, int]]:
    """(architecture, filters, seed) of every network that a protocol asks for, by its folder."""
    return {
        root / f"F{filters}" / arch_id(text) / f"seed{seed}": (text, filters, seed)
        for filters in settings.filters
        for seed in range(settings.num_seeds)
        for group in selection.values()
        for text in group
    }


def is_done(directory: Path) -> bool:
    """Whether the network of this folder is trained and measured."""
    return (directory / "result.json").exists()


def train_one(
    run: Run,
    protocol: str,
    directory: Path,
    text: str,
    filters: int,
    seed: int,
) -> None:
    """Train the network of architecture `text`, measure it, and write result.json in `directory`.

    The string may name widths of its own (`widths.join`), which `filters` then does not change.
    Accuracies there are in [0, 1], `seconds` those of this process (a resumed run counts from its
    resumption).
    """
    logger.info("retrain %s  F = %d, seed %d  %s", protocol, filters, seed, text)
    config, data = run.config, run.data
    settings, began = config.retrain[protocol], time.perf_counter()
    final = protocol == "final"
    arch, own = widths.split(text)
    net = run.standalone(arch, filters=filters, widths=own, bn="running")
    task = Task(
        name=f"{arch_id(text)} F{filters} seed{seed}",
        net=net,
        split="train+valid" if final else "train",
    )
    training = Training(task, settings.train, data, distributed.unshared_devices())
    state = training.fit(directory, seed=seed)
    split = "test" if final else "valid"
    measured = evaluation.accuracy(
        net,
        {"params": state.params, "batch_stats": state.batch_stats},
        data.in_order(split, config.retrain.eval_batch_size),
        prepare=augment.standardiser(data),
    )
    costs = params_flops.of_network(run.space, state.params, data.image_shape[:2])
    num_trained = training.total * settings.train.batch_size
    result = {
        "arch": text,
        "filters": filters,
        "seed": seed,
        "params": int(costs.params),
        "flops": int(costs.flops),
        "epochs": round(num_trained / data.num_images(task.split), 3),
        "valid_accuracy": None if final else measured,
        "test_accuracy": measured if final else None,
        "seconds": round(time.perf_counter() - began, 1),
    }
    workdir.write_json(directory / "result.json", result)
    logger.info("retrain %s  accuracy %.2f %%", protocol, 100 * measured)


# -- which architectures --------------------------------------------------------------------------


def select(
    trials: list[dict], space: Space, settings: ConfigDict, rules: ConfigDict, seed: int
) -> dict[str, list[str]]:
    """The architectures of each group that `settings.groups` asks for, as strings. Of equal ones
    those that `findings.tie_breaker` puts first.

    random: of the trials (with random search, a sample of the space's fixed distribution).
    stratified: spread evenly over buckets of the score (paper, figure 5), in a bucket those
      of `random` first: they are as random, and trained anyway.
    top: one from each of equally many ranks of the best `rules.top_pool` (a stratified sample); 0
      stands for one in `TOP_SHARE`, or as many as are asked for if these are more.
    small: the fewest parameters at or above the `rules.small_quantile` quantile.
    pareto: spread evenly, by parameters, over those that no other beats in both score and
      parameters.
    tuned, narrowed: the best, whose widths are still to be found (`widths_task.resolve`).
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
