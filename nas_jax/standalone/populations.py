"""Populations of one stand-alone network, `retrain.final.pbt` (Jaderberg et al., 2017).

Each network of the protocol "final" is then trained as a population, and the best member is the
network. The members train on the training split, since validation images select among them; the
test set is read once, by the best. What its training was like is in the folder "population" of
that of the network: metrics.jsonl and lineage.jsonl.

Letters: M members, c batches of B images.
"""

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nas_jax.data import augment
from nas_jax.oneshot import class_metrics
from nas_jax.oneshot.training_variant import OPTIONS, Selection
from nas_jax.run import Run, count_steps
from nas_jax.runtime import distributed, rng
from nas_jax.spaces import Space
from nas_jax.standalone import evaluation
from nas_jax.training import population, variants
from nas_jax.training.hyperparameters import check_tunable
from nas_jax.training.loop import Task, Training
from nas_jax.training.population import Population
from nas_jax.training.train_step import TrainState

PROTOCOL, SPLIT = "final", "train"
FOLDER = "population"  # in that of the network
FIELD = "config.retrain.final.pbt"
TUNES = ("base_lr", "l2")  # where the options name none; no path is dropped


def are_asked_for(config: ConfigDict, protocol: str) -> bool:
    """Say whether the networks of a protocol are trained as populations."""
    return protocol == PROTOCOL and bool(config.retrain[PROTOCOL].pbt)


def size(config: ConfigDict, space: Space, protocol: str) -> int:
    """Return how many networks are trained to get one of a protocol."""
    return selection(config, space).size if are_asked_for(config, protocol) else 1


def selection(config: ConfigDict, space: Space) -> Selection:
    """Make the selection among members that `retrain.final.pbt` describes.

    Raises: ValueError that names the field, if an option is unknown or out of its range.
    """
    options = tuple(config.retrain[PROTOCOL].pbt)
    try:
        made = variants.make("pbt", space, (("tunes", TUNES), *options))
    except ValueError as error:
        raise ValueError(str(error).replace(OPTIONS, FIELD)) from error
    return made.selection


def check(run: Run) -> None:
    """Check that populations, if any are asked for, can be trained.

    Raises: ValueError that names the field, and the way out.
    """
    config, data = run.config, run.data
    if not are_asked_for(config, PROTOCOL):
        return
    settings, chosen = config.retrain[PROTOCOL], selection(config, run.space)
    if config.retrain.compile == "together":
        raise ValueError(
            f"config.retrain.compile='together', but {FIELD} trains each network as a population; "
            "use 'each' or 'auto'"
        )
    check_tunable(chosen.tunes, settings.train, "retrain.final.train")
    most = data.num_images(SPLIT)
    if settings.train.batch_size > most:
        raise ValueError(
            f"config.retrain.final.train.batch_size={settings.train.batch_size} is more than the "
            f"{most} images of {SPLIT}, on which {FIELD} trains"
        )
    total = count_steps(settings.train, most)
    if settings.pbt_every > total:
        raise ValueError(
            f"config.retrain.final.pbt_every={settings.pbt_every}, but there are only {total} "
            "steps: no member would be evaluated during them; lower it"
        )


def training(run: Run, task: Task, seed: int, devices: Sequence[jax.Device]) -> Training:
    """Make the training of a population of one network.

    Args:
      run: the run.
      task: of the network alone.
      seed: of the first factors; its own for each of the network's seeds.
      devices: of this process.
    """
    settings, chosen = run.config.retrain[PROTOCOL], selection(run.config, run.space)
    devices = devices[: num_devices(chosen.size, settings.train, len(devices))]
    examined = _validation_images(run)
    members = Population(
        chosen,
        jax.device_get(chosen.init(rng.stream(rng.key(seed), "init"))),
        judge=_judge(task.net.clone(bn="running"), run),
        examine=lambda key, step: examined,
        every=settings.pbt_every,
        total=count_steps(settings.train, run.data.num_images(SPLIT)),
        tunes_r=False,
        one_by_one=task.net.execution == "switch",
        devices=devices,
    )
    task = dataclasses.replace(task, split=SPLIT, turn=members)
    return Training(task, settings.train, run.data, devices, layout=members)


def num_devices(members: int, train: ConfigDict, available: int) -> int:
    """Return the most devices among which the ghost batches of a member divide."""
    groups = train.batch_size // train.ghost_batch_size
    return max(n for n in range(1, available + 1) if groups % (n // math.gcd(members, n)) == 0)


def _validation_images(run):
    """Return ((), images uint8 [c, B, H, W, C], labels int32 [c, B]): there are no masks."""
    sweep = run.config.sweep
    images, labels = run.data.fixed("valid", sweep.num_images)
    shape = (sweep.num_images // sweep.batch_size, sweep.batch_size)
    return (), images.reshape(*shape, *images.shape[1:]), labels.reshape(shape)


def _judge(net, run):
    """Make (variables, masks, images, labels) -> the metric of a member, float32 []."""
    prepare, metric = augment.standardiser(run.data), run.config.metric

    def judge(variables, archs, images, labels):
        def of_batch(batch):
            logits = net.apply(variables, prepare(batch[0]))
            counts = class_metrics.class_counts(jnp.argmax(logits, -1), batch[1], logits.shape[-1])
            return jnp.where(jnp.all(jnp.isfinite(logits)), counts, jnp.nan)

        counts = jnp.sum(jax.lax.map(of_batch, (images, labels)), 0)
        return class_metrics.of_counts(metric, counts)

    return judge


def train(
    run: Run, directory: Path, training: Training, *, seed: int, params: Any = None
) -> TrainState:
    """Train a population; keep the best member's last checkpoint, and return its state.

    Args:
      run: the run.
      directory: of the network; the population's own files are in its folder "population".
      training: as from `training`.
      seed: of the network.
      params: float32 weights that all members start from; None: random ones.
    """
    states = training.fit(directory / FOLDER, seed=seed, params=params)
    states = distributed.fetch(states)
    best = population.best_of(states.sampler_state)
    one = jax.tree.map(lambda leaf: leaf[best], states._replace(sampler_state={}))
    evaluation.keep_last(directory, training.task.net, run.data, training.total, one)
    return one


def clear(directory: Path) -> None:
    """Remove the population's checkpoints, once the network has its result."""
    shutil.rmtree(directory / FOLDER / "checkpoints", ignore_errors=True)
