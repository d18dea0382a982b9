"""The training loop: resume, step, log, checkpoint. `Training.fit` trains every network."""

import dataclasses
import functools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from nas_jax.data import augment
from nas_jax.data.dataset import Data
from nas_jax.nn.init import init
from nas_jax.oneshot import path_samplers
from nas_jax.oneshot.path_samplers import Sampler
from nas_jax.run import count_steps
from nas_jax.runtime import distributed, preemption, rng
from nas_jax.spaces import Space
from nas_jax.storage import file_paths, identity, json_files
from nas_jax.storage.checkpoints import Checkpoints, Resumed
from nas_jax.storage.identity import Identity
from nas_jax.storage.trained import Trained
from nas_jax.training import losses, optim, train_step
from nas_jax.training.hyperparameters import Schedule
from nas_jax.training.landmarks import Landmarks
from nas_jax.training.layout import Layout, Replicated, Turn
from nas_jax.training.metrics import Diverged, Progress
from nas_jax.training.train_step import TrainState, TrainStep

logger = logging.getLogger(__name__)

SLOWER = 0.1  # factor on the learning rate, applied once more at every restart


class Trial(NamedTuple):
    """What a program takes.

    Attributes:
      seconds: of one run of it, the median of some.
      compilation: seconds of tracing and compiling, or of reading it from the cache.
      memory: XLA's own count, see `jax.stages.Compiled.memory_analysis`; None where it has none.
    """

    seconds: float
    compilation: float
    memory: Any


def _no_arguments(sampler_state):
    """Return (): `net.init` takes nothing after the images."""
    return ()


@dataclasses.dataclass(frozen=True)
class Task:
    """What a `Training` trains, such as a supernet or a stand-alone network; settings are apart.

    Attributes:
      name: of the training, in the log.
      net: the module.
      split: the data split that it is trained on.
      sampler: the mask sampler; None for a network without masks.
      sampler_state: the sampler's first state; None: it has none.
      init_args: (sampler's first state) -> what `net.init` takes after the images: (masks,) or ().
      space, penalty, per_use, remat, undecayed: see `TrainStep`.
      dropout: the section `supernet.path_dropout`; None where no path is dropped.
      archs_per_step, distils, landmarks: see `TrainStep`.
      turn: the action between steps; None: there is none.
      identity: of its checkpoints; None: that of the network and the data, see `identity.of`.
    """

    name: str
    net: nn.Module
    split: str
    sampler: Sampler | None = None
    sampler_state: Any = None
    init_args: Callable[[Any], tuple] = _no_arguments
    space: Space | None = None
    penalty: Callable[[Any, Any], jax.Array] | None = None
    per_use: bool = False
    dropout: ConfigDict | None = None
    remat: str = "none"
    archs_per_step: int = 0
    distils: bool = False
    landmarks: Landmarks | None = None
    undecayed: tuple[str, ...] = ()
    turn: Turn | None = None
    identity: Identity | None = None


class Training:
    """A task with its settings. Trainings with equal steps share the compiled one.

    Args:
      task: the network and what is particular to it.
      train: a `train` section of the config.
      data: images.
      devices: None for all.
      layout: how the state lies on the devices; None: `Replicated`.

    Attributes:
      task: as given.
      total: number of steps.
    """

    def __init__(
        self,
        task: Task,
        train: ConfigDict,
        data: Data,
        devices: Sequence[jax.Device] | None = None,
        layout: Layout | None = None,
    ):
        self.task, self._train, self._data, self._devices = task, train, data, devices
        self.total = count_steps(train, data.num_images(task.split))
        self._layout = layout or Replicated(devices)

    def fit(
        self, directory: str | Path, *, seed: int, params: Any = None, sampler_state: Any = None
    ) -> TrainState:
        """Train from the last checkpoint, or from the start, to the end.

        Args:
          directory: gets `checkpoints/` and `metrics.jsonl`. If the last checkpoint is damaged, the
            training goes on from the one before.
          seed: of initial weights, data order, augmentation and masks.
          params: float32 weights to start from; None: random ones.
          sampler_state: the first; None: the task's.

        Returns:
          The last state, the same bit for bit whether or not the training was interrupted.

        Raises:
          Diverged: the loss is not finite, and all `train.restarts` restarts are used up.
          Interrupted: the process was asked to stop; there is a checkpoint of the last step.
        """
        directory = file_paths.local(directory, "directory")
        path = directory / "restarts.jsonl"
        first = functools.partial(self._first_state, seed, params, sampler_state)
        while True:
            restarts = int(distributed.of_lead(np.int32(self._count(path)), self._devices))
            schedule = self._schedule(SLOWER**restarts)
            try:
                return self._fit(directory, seed, first, schedule)
            except Diverged as error:
                if restarts == self._train.restarts:
                    raise
                logger.warning("%s; going on with %g times the learning rate", error, SLOWER)
                if self._leads:
                    json_files.append_jsonl(path, [{"error": str(error)}])

    def _count(self, path):
        return len(json_files.read_jsonl(path)) if self._leads else 0

    def _schedule(self, slower):
        return Schedule(self._train, self.total, self.task.dropout, slower)

    @property
    def epochs(self) -> float:
        """The number of passes over the images."""
        return self.total * self._train.batch_size / self._data.num_images(self.task.split)

    @property
    def _leads(self):
        return distributed.is_lead(self._devices)

    def _fit(self, directory, seed, first, schedule):
        folder, keep = directory / "checkpoints", self._train.keep_checkpoints
        with Checkpoints(folder, keep, self._leads, self._identity) as checkpoints:
            resumed = checkpoints.resume(self._state_shape) or Resumed(0, first(), {})
            # Only the lead process reads checkpoints; the others take its step and its state.
            step, state = distributed.of_lead((resumed.step, resumed.state), self._devices)
            resumed = Resumed(int(step), state, resumed.pending)
            if resumed.step == self.total:
                logger.info("%s  all %d steps are done already", self.task.name, self.total)
                return resumed.state
            if resumed.step:
                logger.info("%s  goes on after step %d", self.task.name, resumed.step)
            return self._loop(directory, checkpoints, resumed, seed, schedule)

    @functools.cached_property
    def _identity(self):
        return self.task.identity or identity.of(self.task.net, self._data)

    def _loop(self, directory, checkpoints, resumed, seed, schedule):
        layout, turn, size = self._layout, self.task.turn, self._train.batch_size
        layout.begin(directory, resumed.step, resumed.state, schedule)
        state, root = layout.place(resumed.state, seed)
        batches = layout.batches(self._data, self.task.split, size, seed, resumed.step)
        progress = self._progress(directory, resumed)
        for step in range(resumed.step + 1, self.total + 1):
            hyper = layout.hyper(schedule.at(step - 1))  # a schedule counts from 0
            state, metrics = self._step(state, next(batches), root, hyper)
            if turn and turn.is_due(step):
                # One key, where `root` has a key for each member of a population.
                state, extra = turn(step, jax.block_until_ready(state), rng.key(seed))
                progress.add_extra(**extra)
            if progress.add(step, metrics, checkpoints.latest):
                progress.write(step, **schedule.logged(step - 1))
            self._save(checkpoints, step, state, progress)
        return state

    def _progress(self, directory, resumed):
        return Progress(
            self._layout.directories(directory),
            self.task.name,
            start=resumed.step,
            total=self.total,
            log_every=self._train.log_every,
            batch_size=self._train.batch_size,
            pending=resumed.pending,
            leads=self._leads,
        )

    def _save(self, checkpoints, step, state, progress):
        """Save a checkpoint if one is due; else, if the process was asked to stop, save and stop.

        Raises: Interrupted if it stops. Where a checkpoint is due, that is one step later.
        """
        every = self._train.checkpoint_every
        if step == self.total or (every and step % every == 0):
            checkpoints.save(step, distributed.fetch(state))
        elif distributed.stop_requested(self._devices):
            checkpoints.interrupt(step, distributed.fetch(state), progress.pending)
            raise preemption.Interrupted

    # -- the state and the step -------------------------------------------------------------------

    def _first_state(self, seed, params, sampler_state):
        if sampler_state is None:
            sampler_state = self.task.sampler_state

        def new(seed):
            variables = {}
            if params is None or self._state_shape.batch_stats:
                args = self._init_inputs(sampler_state)
                variables = init(rng.key(seed), self.task.net, *args)
            if params is not None:
                variables = {**variables, "params": params}
            state = self.create(variables, sampler_state)
            return jax.tree.map(np.array, state)  # copies: the first step reuses their memory

        return self._layout.first_state(new, seed)

    def trial(self, num_steps: int, seed: int) -> Trial:
        """Compile the step, and time some after a first one; no file stays."""
        layout, schedule, size = self._layout, self._schedule(1.0), self._train.batch_size
        first = self._first_state(seed, None, None)
        with tempfile.TemporaryDirectory() as folder:
            layout.begin(Path(folder), 0, first, schedule)
        state, root = layout.place(first, seed)
        batches = layout.batches(self._data, self.task.split, size, seed, 0)
        hyper, batch, began = layout.hyper(schedule.at(0)), next(batches), time.perf_counter()
        compiled = self._step.lower(state, batch, root, hyper).compile()
        compilation, seconds = time.perf_counter() - began, []
        for _ in range(num_steps + 1):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(state, batch, root, hyper))
            batch = next(batches)  # as a training reads it, in the same time
            seconds.append(time.perf_counter() - began)
        return Trial(statistics.median(seconds[1:]), compilation, compiled.memory_analysis())

    def lowered(self) -> jax.stages.Lowered:
        """Return the step as the compiler gets it, made of shapes alone.

        So it can be compiled for devices that are not there.
        """
        size, shape = self._train.batch_size, self._data.image_shape
        batch = {
            "image": jax.ShapeDtypeStruct((size, *shape), np.uint8),
            "label": jax.ShapeDtypeStruct((size,), np.int32),
        }
        state, batch, root = self._layout.inputs_of(self._state_shape, batch)
        return self._step.lower(state, batch, root, self._layout.hyper(self._schedule(1.0).at(0)))

    def trained(self, directory: str | Path) -> Trained:
        """Return what reads the weights that a finished `fit` left in `directory`."""
        shape, name = self._state_shape, self.task.name
        given = directory, name, self.total, self._identity
        return Trained(*given, shape.params, shape.sampler_state)

    @functools.cached_property
    def _state_shape(self):
        """Shapes and dtypes of the state; nothing is computed."""
        first = self.task.sampler_state
        variables = jax.eval_shape(self.task.net.init, rng.key(0), *self._init_inputs(first))
        create = functools.partial(self.create, sampler_state=first)
        return self._layout.shape_of(jax.eval_shape(create, variables))

    def _init_inputs(self, sampler_state):
        images = np.zeros((1, *self._data.image_shape), np.float32)
        return images, *self.task.init_args(sampler_state)

    def create(self, variables: Any, sampler_state: Any = None) -> TrainState:
        """Make the state before the first step from given variables."""
        options = {"optimizer": self._optimizer, "averages": self._train.ema > 0}
        return train_step.create(variables, sampler_state, **options)

    @functools.cached_property
    def _optimizer(self):
        return optim.of(self._train)

    @functools.cached_property
    def _step(self):
        """The compiled step."""
        return self._layout.compile(self.step())

    def step(self, kind: type[TrainStep] = TrainStep, **fields: Any) -> TrainStep:
        """Make the step of one network; `kind` and further fields are of another kind of step."""
        task, train = self.task, self._train
        augmentation = train.augment.to_dict()
        mixup = augmentation.pop("mixup")
        num_groups = train.batch_size // train.ghost_batch_size // self._layout.num_replicas
        shares_masks = path_samplers.shares_masks(task.sampler)
        one_by_one = task.net.execution == "switch" and not shares_masks
        given = dict(
            net=task.net,
            prepare=augment.preparation(self._data, **augmentation),
            num_groups=num_groups,
            groups_at_once=1 if one_by_one else num_groups,
            sampler=task.sampler,
            space=task.space,
            penalty=task.penalty,
            per_use=task.per_use,
            l2_norm_params=train.l2_norm_params,
            l2_unused=train.l2_unused,
            undecayed=task.undecayed,
            shares_masks=shares_masks,
            nesterov=train.nesterov,
            clips=train.clip_norm > 0,
            optimizer=self._optimizer,
            loss=losses.of(train, self._data, task.split),
            mixup=mixup,
            remat=task.remat,
            ema=train.ema,
            archs_per_step=task.archs_per_step,
            distils=task.distils,
            landmarks=task.landmarks,
        )
        return kind(**given | fields)
