"""The training of stand-alone networks from scratch (paper, section 4.2).

There are two protocols. "short" trains on the training split and reports validation accuracy, to
see how well one-shot accuracy ranks. The two share validation images, so their errors are not
independent. "final" trains on training and validation images, and reads the test set
once. Each protocol writes `selection.json`, the architectures of each group, and a `result.json`
per network.
"""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from nas_jax.costs import params_flops, widths
from nas_jax.data import augment
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import arch_id
from nas_jax.standalone import evaluation, selection, width_tuning
from nas_jax.storage import json_files
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

PROTOCOLS = ("short", "final")
# Networks between two clearings of JAX's caches: it keeps programs of tens of megabytes each.
CLEAR_EVERY = 20


def retrain(run: Run) -> None:
    """Train the networks of both protocols, and skip those that have a result.

    Several processes share the networks; each process trains its part on its own devices.

    Raises: ValueError if trials.jsonl is not complete.
    """
    config, directory = run.config, run.workdir
    trials = json_files.read_trials(directory / "trials.jsonl")
    if len(trials) < config.sweep.num_candidates:
        raise ValueError(
            f"{directory}/trials.jsonl has {len(trials)} of {config.sweep.num_candidates} "
            "architectures; run --mode=sweep first"
        )
    for protocol in PROTOCOLS:
        settings, root = config.retrain[protocol], directory / "retrain" / protocol
        tune = functools.partial(_tune, run, settings.filters[0])
        chosen = selection.keep_or_select(root / "selection.json", run, protocol, trials, tune)
        index, count = distributed.process()
        todo = [job for job in jobs(settings, root, chosen).items() if not is_done(job[0])]
        distributed.barrier(protocol)  # all have seen the same
        for number, (path, job) in enumerate(todo[index::count], 1):
            train_one(run, protocol, path, *job)
            if number % CLEAR_EVERY == 0:
                jax.clear_caches()
        distributed.barrier(protocol)


def _tune(run, filters, text):
    path = run.workdir / "retrain" / "widths" / f"F{filters}" / arch_id(text)
    return width_tuning.tune(run, path, text, filters=filters, seed=run.config.seed)


def jobs(
    settings: ConfigDict, root: Path, selection: Mapping[str, Sequence[str]]
) -> dict[Path, tuple[str, int, int]]:
    """List (architecture, filters, seed) of every network of a selection, by its folder.

    Args:
      settings: the section of the protocol.
      root: folder of the protocol.
      selection: architectures of each group.
    """
    return {
        root / f"F{filters}" / arch_id(text) / f"seed{seed}": (text, filters, seed)
        for filters in settings.filters
        for seed in range(settings.num_seeds)
        for group in selection.values()
        for text in group
    }


def is_done(directory: Path) -> bool:
    """Say whether the network of this folder is trained and evaluated."""
    return (directory / "result.json").exists()


def train_one(
    run: Run,
    protocol: str,
    directory: Path,
    text: str,
    filters: int,
    seed: int,
) -> None:
    """Train the network of architecture `text`, evaluate it, and write result.json in `directory`.

    The string may name the widths (`widths.join`); `filters` then does not change them. Accuracies
    in result.json are in [0, 1]. Its `seconds` are those of this process: a resumed run counts from
    its resumption.
    """
    logger.info("retrain %s  F = %d, seed %d  %s", protocol, filters, seed, text)
    config, data = run.config, run.data
    settings, began = config.retrain[protocol], time.perf_counter()
    final = protocol == "final"
    arch, channels = widths.split(text)
    net = run.standalone(arch, filters=filters, widths=channels, bn="running")
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
    json_files.write_json(directory / "result.json", result)
    logger.info("retrain %s  accuracy %.2f %%", protocol, 100 * measured)
