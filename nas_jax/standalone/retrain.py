"""The training of stand-alone networks from scratch (paper, section 4.2).

There are two protocols. "short" trains on the training split and reports validation accuracy, to
see how well one-shot accuracy ranks. The two share validation images, so their errors are not
independent. "final" trains on training and validation images, and reads the test set
once. Each protocol writes `selection.json`, the architectures of each group, and a `result.json`
per network.
"""

import functools
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax.costs import widths
from nas_jax.data import augment
from nas_jax.oneshot import class_metrics
from nas_jax.report import results
from nas_jax.run import Run
from nas_jax.runtime import distributed, progress
from nas_jax.spaces import arch_id
from nas_jax.standalone import evaluation, named, populations, selection, together, width_tuning
from nas_jax.standalone.together import Job, Together
from nas_jax.storage import json_files, schemas
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

PROTOCOLS = ("short", "final")
SPLITS = {"short": ("train", "valid"), "final": ("train+valid", "test")}  # trained on, judged by
# Networks between two clearings of JAX's caches: it keeps programs of tens of megabytes each.
CLEAR_EVERY = 20


def retrain(run: Run) -> None:
    """Train the networks of both protocols and the named ones, but those that have a result.

    Several processes share the networks; each process trains its part on its own devices.

    Raises: ValueError if trials.jsonl is not complete.
    """
    config, trials = run.config, _trials(run)
    for protocol in PROTOCOLS:
        settings, root = config.retrain[protocol], run.workdir / "retrain" / protocol
        tune = functools.partial(_tune, run, settings.filters[0])
        path, chosen = root / "selection.json", {}
        if trials is not None:
            progress.begin(f"retrain.{protocol}")
            with progress.part(0, 0):  # shares are of networks; widths may be tuned before
                chosen = selection.keep_or_select(path, run, protocol, trials, tune)
        every = jobs(settings, root, chosen)
        if not every:
            continue
        how = keep_or_choose(root / "compile.json", config, protocol)
        _train_all(protocol, trainer_of(run, protocol, every, how), root, every)
        if distributed.is_lead():
            _log_groups(run, protocol, root, chosen)
    if config.retrain.archs:
        root, settings = run.workdir / "retrain" / named.PROTOCOL, config.retrain[named.PROTOCOL]
        trainer = Each(run, named.PROTOCOL, named.weights(run))
        folder, archs = named.FOLDERS[config.retrain.init], {"named": config.retrain.archs}
        _train_all("named", trainer, root, jobs(settings, root, archs, folder))


def _log_groups(run, protocol, root, chosen):
    """Log what the networks of each group reach on average."""
    metric, paths = run.config.metric, jobs(run.config.retrain[protocol], root, chosen)
    done = [results.read_result(path / "result.json") for path in paths if evaluation.is_done(path)]
    means = [
        f"{group.replace('_', '-')} {fmean(n.accuracy for n in networks):.2f} % "
        f"({len(networks)}, F = {filters})"
        for (filters, group), networks in results.grouped(done, chosen, {}, metric).items()
    ]
    words = f"{class_metrics.METRICS[metric]} on {SPLITS[protocol][1]} images"
    logger.info("retrain %s  mean %s: %s", protocol, words, ", ".join(means) or "none")


def _trials(run):
    """Read the trials of which groups are made; None where only the named ones can be trained.

    Raises: ValueError if trials.jsonl is not complete, and no architectures are named.
    """
    config, path = run.config, run.workdir / "trials.jsonl"
    trials = json_files.read_trials(path)
    if len(trials) < config.sweep.num_candidates:
        missing = f"{path} has {len(trials)} of {config.sweep.num_candidates} architectures"
        if config.retrain.archs:
            logger.info("retrain  no groups: %s", missing)
            return None
        raise ValueError(f"{missing}; run --mode=sweep first")
    return trials


def _train_all(name, trainer, root, every):
    """Train the networks that have no result, of a protocol or "named"; processes share them."""
    # Lots are of all networks, not of those to train: a killed run finds its lot again.
    todo = [lot for lot in lots(every, trainer.size) if not all(map(evaluation.is_done, lot))]
    distributed.barrier(name)  # all have seen the same
    if not todo:
        logger.info("retrain %s  all %d networks are trained already", name, len(every))
    index, count = distributed.process()
    mine = todo[index::count]
    elsewhere = sum(map(len, todo)) - sum(map(len, mine))
    _train_lots(name, trainer, root, mine, len(every) - elsewhere)
    distributed.barrier(name)
    if distributed.is_lead():  # lots that were cut for another number of devices
        shutil.rmtree(root / together.LOTS, ignore_errors=True)
        for directory in every:  # a kill may have come between result.json and this
            populations.clear(directory)


def _train_lots(name, trainer, root, lots, total):
    """Train lots, the last of `total` networks of this process, and say which each has."""
    progress.begin(f"retrain.{name}")
    first = total - sum(map(len, lots)) + 1
    for lot in lots:
        last = first + len(lot) - 1
        which = f"network {first}" if first == last else f"networks {first} to {last}"
        logger.info("retrain %s  %s of %d%s", name, which, total, progress.left())
        with progress.part((first - 1) / total, last / total):
            trainer.train(root, lot)
        first = last + 1


def keep_or_choose(path: Path, config: ConfigDict, protocol: str) -> str:
    """Return how networks are trained, as the file says; or choose (`together.choose`), and write.

    Networks of one comparison are thus trained alike, wherever the run goes on.

    Raises: ValueError if the file is damaged.
    """
    if distributed.is_lead() and not path.exists():
        json_files.write_json(path, {"compile": together.choose(config, protocol)})
    distributed.barrier(path.name)
    return json_files.read_json(path, schemas.COMPILE)["compile"]


def trainer_of(run: Run, protocol: str, jobs: Mapping[Path, Job], how: str) -> "Each | Together":
    """Make what trains lots of a protocol's networks; `how` is of `together.choose`."""
    if how == "each":
        return Each(run, protocol)
    most = max((len(same) for same in lots(jobs, len(jobs))), default=1)
    return Together(run, protocol, SPLITS[protocol], -(-most // distributed.process()[1]))


def lots(jobs: Mapping[Path, Job], size: int) -> Iterator[dict[Path, Job]]:
    """Yield lots of up to `size` networks of one width and one seed."""
    by_kind: dict[tuple, dict[Path, Job]] = {}
    for path, job in jobs.items():
        by_kind.setdefault(job[1:], {})[path] = job
    for same in by_kind.values():
        paths = list(same)
        for first in range(0, len(paths), size):
            yield {path: same[path] for path in paths[first : first + size]}


def _tune(run, filters, text):
    path = run.workdir / "retrain" / "widths" / f"F{filters}" / arch_id(text)
    return width_tuning.tune(run, path, text, filters=filters, seed=run.config.seed)


def jobs(
    settings: ConfigDict, root: Path, selection: Mapping[str, Sequence[str]], folder: str = "seed"
) -> dict[Path, Job]:
    """List (architecture, filters, seed) of every network of a selection, by its folder.

    Args:
      settings: the section of the protocol.
      root: folder of the protocol.
      selection: architectures of each group.
      folder: of a network, before its seed.
    """
    return {
        root / f"F{filters}" / arch_id(text) / f"{folder}{seed}": (text, filters, seed)
        for filters in settings.filters
        for seed in range(settings.num_seeds)
        for group in selection.values()
        for text in group
    }


class Each:
    """Trains and evaluates the networks of a protocol, each in a program of its own.

    Args:
      run: the run.
      protocol: "short" or "final".
      weights: {architecture: parameters to begin with}; {}: random ones.

    Attributes:
      size: of a lot: 1.
    """

    size = 1

    def __init__(self, run: Run, protocol: str, weights: Mapping[str, Any] = MappingProxyType({})):
        self._run, self._protocol, self._trained = run, protocol, 0
        self._weights = weights

    def train(self, root: Path, jobs: Mapping[Path, Job]) -> None:
        """Train the network of a lot in its folder, and write its result.json."""
        for path, job in jobs.items():
            train_one(self._run, self._protocol, path, *job, params=self._weights.get(job[0]))
            self._trained += 1
            if self._trained % CLEAR_EVERY == 0:
                jax.clear_caches()


def train_one(
    run: Run,
    protocol: str,
    directory: Path,
    text: str,
    filters: int,
    seed: int,
    params: Any = None,
) -> None:
    """Train the network of architecture `text`, evaluate it, and write result.json in `directory`.

    It begins with `params`, those of a supernet; None: with random ones.

    The string may name the widths (`widths.join`); `filters` then does not change them. Accuracies
    in result.json are in [0, 1]. Its `seconds` are those of this process: a resumed run counts from
    its resumption.
    """
    logger.info("retrain %s  F = %d, seed %d  %s", protocol, filters, seed, text)
    data, began = run.data, time.perf_counter()
    devices, members = jax.local_devices(), populations.size(run.config, run.space, protocol)
    training = training_of(run, protocol, text, filters, devices, seed, f" seed{seed}")
    if populations.are_asked_for(run.config, protocol):
        state = populations.train(run, directory, training, seed=seed, params=params)
    else:
        state = training.fit(directory, seed=seed, params=params)
    counts = evaluation.class_counts(
        training.task.net.clone(bn="running"),
        state.variables,
        data.in_order(SPLITS[protocol][1], run.config.retrain.eval_batch_size),
        prepare=augment.standardiser(data),
    )
    evaluation.write_result(
        run,
        protocol,
        directory,
        (text, filters, seed),
        params=state.params,
        counts=counts,
        epochs=training.epochs,
        seconds=time.perf_counter() - began,
        warm=params is not None,
        population=members,
    )
    populations.clear(directory)
    logger.info("retrain %s  %s", protocol, evaluation.in_words(run, counts))


def training_of(
    run: Run,
    protocol: str,
    text: str,
    filters: int,
    devices: Sequence[jax.Device],
    seed: int = 0,
    note: str = "",
) -> Training:
    """Make the training of a network alone, on as many of the devices as its batches divide among.

    That of a population, where one is asked for. `note` is what the log says behind its name; other
    arguments as of `train_one`.
    """
    train = run.config.retrain[protocol].train
    arch, channels = widths.split(text)
    net = run.standalone(arch, filters=filters, widths=channels, bn="recorded")
    name = f"{arch_id(text)} F{filters}{note}"
    task = Task(name=name, net=net, split=split_of(run.config, protocol))
    if populations.are_asked_for(run.config, protocol):
        return populations.training(run, task, seed, devices)
    return Training(task, train, run.data, devices[: num_devices(train, devices)])


def split_of(config: ConfigDict, protocol: str) -> str:
    """Return the split that a protocol trains on; validation images select among populations."""
    if populations.are_asked_for(config, protocol):
        return populations.SPLIT
    return SPLITS[protocol][0]


def num_devices(train: ConfigDict, devices: Sequence[jax.Device]) -> int:
    """Return among how many of the devices a network alone divides its batches."""
    return math.gcd(train.batch_size // train.ghost_batch_size, len(devices))
