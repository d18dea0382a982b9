"""The training loop: resume, step, log, checkpoint. `BaseTraining.fit` trains every network."""

import abc
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax.data import augment, dataset
from nas_jax.nn import masked
from nas_jax.runtime import distributed, preemption, rng
from nas_jax.storage import file_paths, identity, workdir
from nas_jax.storage.checkpoints import Checkpoints, Resumed
from nas_jax.training import optim, train_step
from nas_jax.training.metrics import Diverged, Progress
from nas_jax.training.train_step import TrainState

logger = logging.getLogger(__name__)

SLOWER = 0.1  # the learning rate after a restart


@dataclasses.dataclass(frozen=True)
class Task:
    """What distinguishes training a supernet from training a stand-alone network.

    Attributes:
      name: for the log.
      net: the module.
      split: the data split that it is trained on.
      init_args: (policy of the first state) -> what `net` takes beside images when initialised.
      sample_masks: (key of the run, step, group numbers [G], policy) -> masks [G, k], or None.
      usage: (params, masks) -> share of groups that use each parameter, or None for all.
      per_use: see `train_step.make`.
      penalty: see `train_step.make`.
      known: (step) -> what to log beside the metrics.
      tuned: see `train_step.make`.
      policy: that of the first state, see `TrainState`.
      identify: (net, data) -> what its checkpoints are of.
      is_due: (step) -> whether to update after it.
      update: (step, state, key of the run) -> (state, what to log).
    """

    name: str
    net: nn.Module
    split: str
    init_args: Callable = lambda policy: ()
    sample_masks: Callable = lambda key, step, groups, policy: None
    usage: Callable = lambda params, masks: None
    per_use: bool = False
    penalty: Callable | None = None
    known: Callable = lambda step: {}
    tuned: bool = False
    policy: Any = None
    identify: Callable = identity.of
    is_due: Callable = lambda step: False
    update: Callable = lambda step, state, root: (state, {})


def count_steps(train: ConfigDict, num_images: int) -> int:
    """Steps of a training: `num_steps` if given, else those of `num_epochs`, rounded up."""
    return train.num_steps or math.ceil(train.num_epochs * num_images / train.batch_size)


class BaseTraining(abc.ABC):
    """A task with its settings: an optimiser and a step that is compiled once, for many runs.

    What is trained, one network or many, and where it lies, its subclasses say.

    Args:
      task: the network and what is particular to it.
      train: a `train` section of the config.
      data: images.
      devices: None for all.

    Attributes:
      task: as given.
    """

    def __init__(
        self,
        task: Task,
        train: ConfigDict,
        data: dataset.Data,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.task, self._train, self._data, self._devices = task, train, data, devices
        self.total = count_steps(train, data.num_images(task.split))
        self._optimise(train.base_lr)

    def _optimise(self, base_lr):
        train = self._train
        vars(self).pop("_step", None)  # what was compiled for another rate
        self._learning_rate = optim.schedule(
            train.schedule,
            base_lr=base_lr,
            batch_size=train.batch_size,
            num_steps=self.total,
            warmup_share=train.warmup_share,
        )
        self._tx = optim.sgd(
            self._learning_rate,
            momentum=train.momentum,
            nesterov=train.nesterov,
            clip_norm=train.clip_norm,
        )

    def fit(
        self, directory: str | Path, *, seed: int, params: Any = None, policy: Any = None
    ) -> TrainState:
        """Train from the last checkpoint, or from the start, to the end.

        Args:
          directory: gets `checkpoints/`, `metrics.jsonl` and `tensorboard/`. Where the last
            checkpoint is damaged, the one before serves.
          seed: of initial weights, data order, augmentation and masks.
          params: to start from, float32; None: random ones.
          policy: of the first state; None: the task's.

        Returns:
          The last state. A resumed run equals the uninterrupted one bit for bit.

        Raises:
          Diverged: the loss is not finite, once more than `train.restarts`.
          Interrupted: the process was asked to stop; there is a checkpoint of the last step.
        """
        directory = file_paths.local(directory, "directory")
        path = directory / "restarts.jsonl"
        while True:
            done = int(distributed.of_owner(np.int32(self._count(path)), self._devices))
            if done:
                self._optimise(self._train.base_lr * SLOWER**done)
            try:
                return self._fit(directory, seed, params, policy)
            except Diverged as error:
                if done == self._train.restarts:
                    raise
                logger.warning("%s; going on with %g times the learning rate", error, SLOWER)
                if self._owner:
                    workdir.append_jsonl(path, [{"error": str(error)}])

    def _count(self, path):
        return len(workdir.read_jsonl(path)) if self._owner else 0

    @property
    def _owner(self):
        return distributed.is_owner(self._devices)

    def _fit(self, directory, seed, params, policy):
        folder, keep = directory / "checkpoints", self._train.keep_checkpoints
        with Checkpoints(folder, keep, self._owner, self._identity) as checkpoints:
            found = checkpoints.resume(self._state_shape)
            if found is None:
                found = Resumed(0, self._first_state(seed, params, policy), {})
            step, state = distributed.of_owner((found.step, found.state), self._devices)
            found = Resumed(int(step), state, found.pending)
            if found.step == self.total:
                return found.state
            return self._loop(directory, checkpoints, found, seed)

    def restore(self, directory: str | Path, last: int = 1) -> list[TrainState]:
        """The states of the `last` checkpoints of a training that is done, the final one first.

        Raises: ValueError if they are not there.
        """
        directory, name = file_paths.local(directory, "directory"), self.task.name
        with Checkpoints(directory / "checkpoints", identity=self._identity) as checkpoints:
            if checkpoints.latest != self.total:
                raise ValueError(
                    f"no {name} of {self.total} steps in {directory} (last checkpoint: "
                    f"{checkpoints.latest}); run --mode={name} first"
                )
            steps = checkpoints.steps[-last:]
            if len(steps) < last:
                raise ValueError(
                    f"{directory}/checkpoints has {len(steps)} checkpoints, not the {last} of "
                    f"sweep.num_checkpoints; {name}.train.keep_checkpoints and checkpoint_every "
                    "decide how many there are"
                )
            return [self._read(checkpoints, step) for step in reversed(steps)]

    def restore_step(self, directory: str | Path, step: int) -> TrainState:
        """The state of one checkpoint. Raises: ValueError if it is not there."""
        directory = file_paths.local(directory, "directory")
        with Checkpoints(directory / "checkpoints", identity=self._identity) as checkpoints:
            if step not in checkpoints.steps:
                raise ValueError(f"{directory}/checkpoints has none of step {step}")
            return self._read(checkpoints, step)

    @property
    def _identity(self):
        return self.task.identify(self.task.net, self._data)

    def _loop(self, directory, checkpoints, found, seed):
        task, train, start = self.task, self._train, found.step
        update = self._updater(directory, start, found.state, seed)
        state, root = self._place(found.state, seed)
        batches = self._batches(seed, start)
        progress = Progress(
            directory,
            task.name,
            start=start,
            total=self.total,
            log_every=train.log_every,
            batch_size=train.batch_size,
            pending=found.pending,
            owner=self._owner,
        )
        with progress:
            for step in range(start + 1, self.total + 1):
                state, metrics = self._step(state, next(batches), root)
                if task.is_due(step):
                    state, known = update(step, jax.block_until_ready(state), root)
                    progress.know(**known)
                if progress.add(step, metrics, checkpoints.latest):
                    rate = float(self._learning_rate(step - 1))
                    progress.write(step, learning_rate=rate, **task.known(step))
                if step == self.total or (
                    train.checkpoint_every and step % train.checkpoint_every == 0
                ):
                    checkpoints.save(step, distributed.fetch(state))
                elif distributed.stop_requested(self._devices):
                    checkpoints.interrupt(step, distributed.fetch(state), progress.pending)
                    raise preemption.Interrupted
        return state

    # -- what subclasses say ----------------------------------------------------------------------

    @abc.abstractmethod
    def _first_state(self, seed, params, policy):
        """The state before the first step."""

    @property
    @abc.abstractmethod
    def _state_shape(self):
        """Its shapes and dtypes; nothing is computed."""

    @abc.abstractmethod
    def _place(self, state, seed):
        """State and root keys, where the step wants them."""

    @abc.abstractmethod
    def _batches(self, seed, start):
        """Batches as the step wants them, from step `start` on."""

    @property
    @abc.abstractmethod
    def _step(self):
        """Compiled (state, batch, root keys) -> (state, metrics)."""

    @abc.abstractmethod
    def _updater(self, directory, start, state, seed):
        """`Task.update`, for one run."""

    @abc.abstractmethod
    def _read(self, checkpoints, step):
        """The state of a checkpoint, that of one network."""

    # -- what they are made of --------------------------------------------------------------------

    def _new(self, seed, params, policy):
        """The first state of one network."""
        if params is None:
            variables = masked.init(rng.key(seed), self.task.net, *self._init_args(policy))
        else:
            variables = {"params": params}
        state = train_step.create(variables, self._tx, policy)
        return jax.tree.map(jnp.copy, state)  # the first step will take its memory

    @functools.cached_property
    def _shape_of_new(self):
        args = self._init_args(self.task.policy)
        variables = jax.eval_shape(self.task.net.init, rng.key(0), *args)
        create = functools.partial(train_step.create, tx=self._tx, policy=self.task.policy)
        return jax.eval_shape(create, variables)

    def _init_args(self, policy):
        images = jnp.zeros((1, *self._data.image_shape), jnp.float32)
        return images, *self.task.init_args(policy)

    def _make_step(self, num_devices):
        """The pure step of one of so many devices."""
        task, train, data = self.task, self._train, self._data
        standardise = augment.standardiser(data)
        augment_fn = functools.partial(augment.augment, **train.augment.to_dict())
        num_groups = train.batch_size // train.ghost_batch_size // num_devices
        return train_step.make(
            task.net,
            self._tx,
            num_groups=num_groups,
            groups_at_once=1 if task.net.execution == "switch" else num_groups,
            prepare=lambda keys, x: augment_fn(keys, standardise(x)),
            sample_masks=task.sample_masks,
            usage=task.usage,
            per_use=task.per_use,
            penalty=task.penalty,
            l2=train.l2,
            l2_norm_params=train.l2_norm_params,
            l2_unused=train.l2_unused,
            label_smoothing=train.label_smoothing,
            tuned=task.tuned,
        )


class Training(BaseTraining):
    """The training of one network; all devices share each batch."""

    def _first_state(self, seed, params, policy):
        return self._new(seed, params, self.task.policy if policy is None else policy)

    @property
    def _state_shape(self):
        return self._shape_of_new

    def _place(self, state, seed):
        return distributed.replicate((state, rng.key(seed)), self._devices)

    def _batches(self, seed, start):
        split, size = self.task.split, self._train.batch_size
        shard = distributed.process(self._devices)
        for batch in self._data.batches(split, size, seed=seed, start=start, shard=shard):
            yield distributed.shard(batch, distributed.num_local(self._devices))

    @functools.cached_property
    def _step(self):
        step = self._make_step(distributed.num_global(self._devices))
        split = (False, True, False)
        return distributed.pmap(
            step, split=split, split_out=False, donate=(0,), devices=self._devices
        )

    def _updater(self, directory, start, state, seed):
        return self.task.update

    def _read(self, checkpoints, step):
        return checkpoints.restore(step, self._state_shape)
