"""The training loop: resume, step, log, checkpoint. Every network is trained by `fit`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nas_jax import (
    augment,
    cost,
    execution,
    optim,
    parallel,
    path_dropout,
    samplers,
    supernet,
    train_step,
)
from nas_jax import data as data_lib
from nas_jax.checkpoints import Checkpoints
from nas_jax.progress import Progress
from nas_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class Task:
    """What distinguishes training a supernet from training a stand-alone network.

    Attributes:
      name: for the log.
      net: the module.
      split: the data split that it is trained on.
      init_args: what `net` takes beside images when it is initialised.
      sample_masks: (key of the run, step, group numbers [G]) -> masks [G, k], or None.
      usage: (params, masks) -> share of groups that use each parameter, or None for all.
      per_use: see `train_step.make`.
      known: (step) -> what to log beside the metrics.
    """

    name: str
    net: nn.Module
    split: str
    init_args: tuple = ()
    sample_masks: Callable = lambda key, step, groups: None
    usage: Callable = lambda params, masks: None
    per_use: bool = False
    known: Callable = lambda step: {}


def network_options(config: ConfigDict, bn: str) -> dict[str, Any]:
    """Options of `Space.supernet` and `Space.standalone`; dtype "auto" is float32 on CPU only."""
    dtype = config.network.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {
        "bn": bn,
        "bn_momentum": config.network.bn_momentum,
        "bn_epsilon": config.network.bn_epsilon,
        "relu_before_bn": config.network.relu_before_bn,
        # A stand-alone network has no masks, but its ghost batches too go one by one in "switch".
        "execution": execution.resolve(config.supernet.execution),
        "dtype": jnp.dtype(dtype),
    }


def count_steps(train: ConfigDict, num_images: int) -> int:
    """Steps of a training: `num_steps` if given, else those of `num_epochs`, rounded up."""
    return train.num_steps or math.ceil(train.num_epochs * num_images / train.batch_size)


def network_cost(space: Space, archs: Any, filters: int, data: data_lib.Data) -> cost.Cost:
    """Parameters and multiply-adds of architectures (masks [..., k]) on images of `data`."""
    size, _, channels = data.image_shape
    return cost.of(
        space,
        archs,
        filters=filters,
        image_size=size,
        num_classes=data.num_classes,
        channels=channels,
    )


def supernet_task(config: ConfigDict, space: Space, data: data_lib.Data) -> Task:
    """The one-shot model, trained on the architectures of `supernet.sampler`."""
    dropout, train = config.supernet.path_dropout, config.supernet.train
    total = count_steps(train, data.num_images("train"))
    net = space.supernet(
        num_classes=data.num_classes,
        filters=config.supernet.filters,
        **network_options(config, "batch"),
    )
    sample_masks = samplers.make(
        config.supernet.sampler,
        space.choices,
        num_steps=total,
        num_groups=train.batch_size // train.ghost_batch_size,
        extremes=_extremes(config, space),
        **dropout.to_dict(),
    )

    def known(step):
        if config.supernet.sampler != "path_dropout":
            return {}
        return {"drop_rate": float(path_dropout.ramp(step - 1, total, dropout.schedule))}

    return Task(
        name="supernet",
        net=net,
        split="train",
        init_args=(space.all_on(),),
        sample_masks=sample_masks,
        usage=space.usage,
        per_use=config.supernet.per_use_gradients,
        known=known,
    )


def _extremes(config, space):
    """The largest and the smallest architecture, where they are sampled."""
    if config.supernet.sampler != "sandwich":
        return None
    return cost.extremes(space, config.supernet.filters)


def run(config: ConfigDict, space: Space, data: data_lib.Data, directory: Path) -> None:
    """Train the supernet in `directory`, see `fit`; none where the sweep searches in a table.

    Raises: ValueError if it would leave fewer checkpoints than the sweep averages over.
    """
    if config.sweep.score == "table":
        return
    train, asked = config.supernet.train, config.sweep.num_checkpoints
    total = count_steps(train, data.num_images("train"))
    saved = math.ceil(total / (train.checkpoint_every or total))
    if saved < asked:
        raise ValueError(
            f"config.sweep.num_checkpoints={asked}, but a training of {total} steps with "
            f"checkpoint_every={train.checkpoint_every} saves {saved}; lower one of the two"
        )
    fit(supernet_task(config, space, data), train, data, directory, seed=config.seed)


def restore(
    task: Task, train: ConfigDict, data: data_lib.Data, directory: Path, last: int = 1
) -> list[train_step.TrainState]:
    """The states of the `last` checkpoints of a training that is done, the final one first.

    Raises: ValueError if they are not there.
    """
    total = count_steps(train, data.num_images(task.split))
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if checkpoints.latest != total:
            raise ValueError(
                f"no {task.name} of {total} steps in {directory} (last checkpoint: "
                f"{checkpoints.latest}); run --mode={task.name} first"
            )
        steps = checkpoints.steps[-last:]
        if len(steps) < last:
            raise ValueError(
                f"{directory}/checkpoints has {len(steps)} checkpoints, not the {last} of "
                f"sweep.num_checkpoints; {task.name}.train.keep_checkpoints and checkpoint_every "
                "decide how many there are"
            )
        like = _state_shape(task, train, data, total)
        return [checkpoints.restore(step, like) for step in reversed(steps)]


def restore_step(
    task: Task, train: ConfigDict, data: data_lib.Data, directory: Path, step: int
) -> train_step.TrainState:
    """The state of one checkpoint. Raises: ValueError if it is not there."""
    total = count_steps(train, data.num_images(task.split))
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if step not in checkpoints.steps:
            raise ValueError(f"{directory}/checkpoints has none of step {step}")
        return checkpoints.restore(step, _state_shape(task, train, data, total))


def fit(
    task: Task,
    train: ConfigDict,
    data: data_lib.Data,
    directory: Path,
    *,
    seed: int,
    devices: Sequence[jax.Device] | None = None,
) -> train_step.TrainState:
    """Train from the last checkpoint, or from scratch, to the end.

    Args:
      task: the network and what is particular to it.
      train: a `train` section of the config.
      data: images.
      directory: gets `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
      seed: of initial weights, data order, augmentation and masks.
      devices: None for all.

    Returns:
      The last state. A resumed run equals the uninterrupted one bit for bit.

    Raises:
      Diverged: the loss is not finite.
    """
    total = count_steps(train, data.num_images(task.split))
    with Checkpoints(directory / "checkpoints", train.keep_checkpoints) as checkpoints:
        start = checkpoints.latest
        if start is None:
            state = _initial_state(task, train, data, total, seed)
        else:
            state = checkpoints.restore(start, _state_shape(task, train, data, total))
        if int(state.step) < total:
            state = _loop(task, train, data, directory, checkpoints, state, total, seed, devices)
    return state


def _loop(task, train, data, directory, checkpoints, state, total, seed, devices):
    start = int(state.step)
    step_fn, learning_rate = _step_fn(task, train, data, total, devices)
    state, root = parallel.replicate((state, jax.random.key(seed)), devices)
    batches = data.batches(
        task.split, train.batch_size, seed=seed, start=start, shard=parallel.process()
    )
    progress = Progress(
        directory,
        task.name,
        start=start,
        total=total,
        log_every=train.log_every,
        batch_size=train.batch_size,
    )
    with progress:
        for step in range(start + 1, total + 1):
            batch = parallel.shard(next(batches), parallel.num_local(devices))
            state, metrics = step_fn(state, batch, root)
            if progress.add(step, metrics, checkpoints.latest):
                rate = float(learning_rate(step - 1))
                progress.write(step, learning_rate=rate, **task.known(step))
            if step == total or (train.checkpoint_every and step % train.checkpoint_every == 0):
                checkpoints.save(step, state)
    return state


def _optimiser(train, total):
    learning_rate = optim.schedule(
        train.schedule,
        base_lr=train.base_lr,
        batch_size=train.batch_size,
        num_steps=total,
        warmup_share=train.warmup_share,
    )
    tx = optim.sgd(
        learning_rate,
        momentum=train.momentum,
        nesterov=train.nesterov,
        clip_norm=train.clip_norm,
    )
    return tx, learning_rate


def _initial_state(task, train, data, total, seed):
    variables = supernet.init(jax.random.key(seed), task.net, *_init_args(task, data))
    return train_step.create(variables, _optimiser(train, total)[0])


def _state_shape(task, train, data, total):
    """The state's shapes and dtypes; nothing is computed."""
    variables = jax.eval_shape(task.net.init, jax.random.key(0), *_init_args(task, data))
    create = functools.partial(train_step.create, tx=_optimiser(train, total)[0])
    return jax.eval_shape(create, variables)


def _init_args(task, data):
    return jnp.zeros((1, *data.image_shape), jnp.float32), *task.init_args


def _step_fn(task, train, data, total, devices):
    tx, learning_rate = _optimiser(train, total)
    augment_fn = functools.partial(augment.augment, **train.augment.to_dict())
    num_groups = train.batch_size // train.ghost_batch_size // parallel.num_global(devices)
    step = train_step.make(
        task.net,
        tx,
        num_groups=num_groups,
        groups_at_once=1 if task.net.execution == "switch" else num_groups,
        prepare=lambda keys, x: augment_fn(keys, augment.standardise(x, data.mean, data.std)),
        sample_masks=task.sample_masks,
        usage=task.usage,
        per_use=task.per_use,
        l2=train.l2,
        l2_norm_params=train.l2_norm_params,
        l2_unused=train.l2_unused,
        label_smoothing=train.label_smoothing,
    )
    split = (False, True, False)
    pmapped = parallel.pmap(step, split=split, split_out=False, donate=(0,), devices=devices)
    return pmapped, learning_rate
