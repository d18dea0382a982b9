"""Stand-alone networks that train together, in the program of their supernet.

A lot of networks of one width is one training of the supernet's module: each member has the masks
of its architecture, held fixed, and weights of its own. It then equals the stand-alone network in
value and gradient, and begins with the same weights to the bit. What an architecture does not use
is zero, has no gradient and no L2, and is not counted. So one compiled step serves all
architectures. Members of a lot have the same seed, hence the same batches and augmentation.

Letters: M members, n images.
"""

import functools
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax.data import augment
from nas_jax.nn.init import StandaloneInit
from nas_jax.oneshot import path_samplers
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.standalone import evaluation, populations
from nas_jax.training.layout import KEPT
from nas_jax.training.loop import SLOWER, Task, Training
from nas_jax.training.members import Members, of_each
from nas_jax.training.metrics import Diverged
from nas_jax.training.train_step import TrainState

logger = logging.getLogger(__name__)

LOTS = "lots"  # the folder, in that of a protocol, of lots while they train
LANES = 8  # networks of a device with the execution "masked"; with others it has one
WIDEST = 16  # F of networks that `choose` trains together on an accelerator; not measured there
Job = tuple[str, int, int]  # architecture, filters, seed


class Lot(Members):
    """The layout of M stand-alone networks; `take` says which, before each training.

    `create` is that of the `Training`, which is made with the layout.
    """

    def __init__(self, init: StandaloneInit, size: int, **options):
        super().__init__(size, **options)
        self._init = init

    def take(self, archs: Sequence[Any], directories: Sequence[Path]) -> None:
        """Take M architectures, masks [k] each, and the folders of those whose metrics count."""
        self._archs, self._directories = archs, directories

    def first_state(self, new, seed):
        """Draw the weights of each network as if it were trained alone."""
        states = [self.create(self._init(rng.key(seed), arch), arch) for arch in self._archs]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *states)

    def _seeds(self, seed):
        return np.full(self._size, seed, np.uint32)

    def directories(self, directory):
        """Return the folders of the networks."""
        return self._directories

    def begin(self, directory, start, state, schedule):
        """Do nothing."""

    def predictor(self, net: Any, prepare: Callable) -> Callable:
        """Compile (states, images uint8 [n, H, W, C]) -> the most likely labels, int32 [M, n]."""
        return _predictor(net, prepare, self._mesh, self._one_by_one)


@functools.lru_cache(KEPT)
def _predictor(net, prepare, mesh, one_by_one):
    def predict(states, images):
        def of_one(state):
            logits = net.apply(state.variables, prepare(images), state.sampler_state)
            return jnp.argmax(logits, -1)

        return of_each(one_by_one, of_one, states)

    members = distributed.MEMBER
    return distributed.spread(predict, mesh, split={"states": members}, split_out=members)


class Together:
    """Trains and evaluates the networks of a protocol, M at once; writes their result.json.

    Args:
      run: the run.
      protocol: "short" or "final".
      splits: the data splits that it trains on and is judged by.
      most: the number of networks of one width and seed.
      devices: of this process; None for all of them.

    Attributes:
      size: M.
    """

    def __init__(
        self,
        run: Run,
        protocol: str,
        splits: tuple[str, str],
        most: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = devices or jax.local_devices()
        lanes = LANES if run.network.execution == "masked" else 1
        size = size_of_lot(most, len(devices), lanes)
        self.size = int(distributed.of_lead(np.int32(size)))  # lots are cut alike everywhere
        self._restarts = run.config.retrain[protocol].train.restarts
        make = functools.partial(_Lots, run, protocol, splits, self.size, devices[: self.size])
        self._lots = functools.cache(make)  # by filters and factor on the learning rate

    def training(self, filters: int) -> Training:
        """Make the training of M networks of a width."""
        return self._lots(filters, 1.0).training

    def train(self, root: Path, jobs: Mapping[Path, Job]) -> None:
        """Train up to M networks of one width and one seed, but those that have a result.

        One that diverges does not disturb the others. It begins again, `restarts` times at most,
        each time with a tenth of the learning rate.

        Args:
          root: folder of the protocol; the lot's checkpoints are in it during the training.
          jobs: by the networks' folders.

        Raises: Diverged if a network diverges each time; the others have their results.
        """
        if not (root / LOTS / _name(jobs, self.size, 0)).exists():  # no lot that was killed
            jobs = {path: job for path, job in jobs.items() if not evaluation.is_done(path)}
        if not jobs:
            return
        filters = next(iter(jobs.values()))[1]
        for restarts in range(self._restarts + 1):
            lots = self._lots(filters, SLOWER**restarts)
            directory = root / LOTS / _name(jobs, self.size, restarts)
            diverged = lots.train(directory, jobs)
            jobs = {path: jobs[path] for path in diverged}
            if not jobs:
                return
        raise Diverged(
            f"the training of {', '.join(text for text, *_ in jobs.values())} (F = {filters}) "
            "diverged. Lower train.base_lr, or set train.clip_norm or train.restarts"
        )


def _name(jobs, size, restarts):
    """Name the folder of a lot by all that its checkpoints depend on."""
    kind = json.dumps([size, restarts, *jobs.values()])
    return hashlib.sha256(kind.encode()).hexdigest()[:12]


class _Lots:
    """Lots of one width and one learning rate, whose `training` they share."""

    def __init__(self, run, protocol, splits, size, devices, filters, slower):
        self._run, self._protocol, self._splits = run, protocol, splits
        self._size, self._net = size, run.plain_supernet(filters, "recorded")
        self._train = run.config.retrain[protocol].train.copy_and_resolve_references()
        self._train.base_lr, self._train.restarts = self._train.base_lr * slower, 0
        self._train.l2_unused = False  # a network alone has no parameter that it does not use
        images = np.zeros((1, *run.data.image_shape), np.float32)
        one_by_one = self._net.execution != "masked"
        init = StandaloneInit(self._net, images)
        self._lot = Lot(init, size, one_by_one=one_by_one, devices=devices)
        task = Task(
            name=f"retrain {protocol}, {size} at a time, F = {filters}",
            net=self._net,
            split=splits[0],
            sampler=path_samplers.fixed,
            sampler_state=run.space.all_on(),
            init_args=lambda arch: (arch,),
            space=run.space,
        )
        self.training = Training(task, self._train, run.data, devices, layout=self._lot)
        self._lot.create = self.training.create

    def train(self, directory: Path, jobs: Mapping[Path, Job]) -> list[Path]:
        """Train networks; write their results and last checkpoints; return those that diverged.

        `directory` is that of the lot while it trains, and removed at the end.
        """
        texts, seed, began = [job[0] for job in jobs.values()], next(iter(jobs.values()))[2], _now()
        filled = [*texts, *texts[-1:] * (self._size - len(texts))]  # copies, without a result
        self._lot.take([*map(self._run.space.from_str, filled)], list(jobs))
        try:
            state = self.training.fit(directory, seed=seed)
        except Diverged as error:
            logger.warning("%s", error)
            shutil.rmtree(directory)
            return list(jobs)
        counts, state = self._counts(state), distributed.fetch(state)
        diverged = []
        for number, (path, job) in enumerate(jobs.items()):
            if evaluation.is_done(path):  # before this run was killed
                continue
            one = jax.tree.map(lambda leaf, i=number: leaf[i], state)
            if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one.params)):
                self._write(path, job, one, counts[number], (_now() - began) / len(jobs))
            else:
                diverged.append(path)
        shutil.rmtree(directory)
        return diverged

    def _counts(self, state):
        data = self._run.data
        batches = data.in_order(self._splits[1], self._run.config.retrain.eval_batch_size)
        predict = functools.partial(self._predict, state)
        return evaluation.counts_of_each(predict, batches, data.num_classes)

    @functools.cached_property
    def _predict(self):
        net = self._net.clone(bn="running")
        return self._lot.predictor(net, augment.standardiser(self._run.data))

    def _write(self, path, job, state, counts, seconds):
        run, (text, filters, seed) = self._run, job
        own = _of_network(run.space, text, state)
        net = run.standalone(text, filters=filters, bn="recorded")
        evaluation.keep_last(path, net, run.data, self.training.total, own)
        evaluation.write_result(
            run,
            self._protocol,
            path,
            job,
            params=own.params,
            counts=counts,
            epochs=self.training.epochs,
            seconds=seconds,
        )
        logger.info(
            "retrain %s  %s  F = %d, seed %d  %s",
            self._protocol,
            evaluation.in_words(run, counts),
            filters,
            seed,
            text,
        )


def _now():
    return time.perf_counter()


def _of_network(space, text, state: TrainState) -> TrainState:
    """Cut out what the stand-alone network of an architecture has of a member's state."""

    forms = [jax.tree.structure(tree) for tree in (state.params, state.batch_stats)]

    def is_of_all(tree):
        return isinstance(tree, dict) and jax.tree.structure(tree) in forms

    def cut(tree):
        return space.subnet(tree, text) if is_of_all(tree) else tree

    state = state._replace(sampler_state=())
    whole = jax.tree.map(cut, state, is_leaf=is_of_all)
    return whole._replace(sampler_state={})


def size_of_lot(most: int, num_devices: int, lanes: int) -> int:
    """Return M for at most `most` networks: a multiple of the devices, or one on each of some."""
    if most <= num_devices:
        return most
    return min(math.ceil(most / num_devices), lanes) * num_devices


def tunes_widths(config: ConfigDict, protocol: str) -> bool:
    """Say whether a protocol has networks with widths of their own."""
    groups = config.retrain[protocol].groups
    return bool(groups.tuned or groups.narrowed)


def choose(config: ConfigDict, protocol: str, devices: Sequence[jax.Device] | None = None) -> str:
    """Say how a protocol's networks are trained on devices (None: ours), "together" or "each".

    `retrain.compile` decides. "auto" is "together" where that is the less work: on a CPU, whose
    execution "switch" skips what masks switch off; and on an accelerator up to `WIDEST` channels,
    since its execution "masked" computes all ops, and a wide network keeps it busy alone. Networks
    with widths of their own have programs of their own, so their protocol is "each"; so is that of
    populations.
    """
    if tunes_widths(config, protocol) or populations.are_asked_for(config, protocol):
        return "each"  # `build` refuses "together"
    if config.retrain.compile != "auto":
        return config.retrain.compile
    on_cpu = distributed.platform(devices) == "cpu"
    fitting, given = "switch" if on_cpu else "masked", config.supernet.execution
    wide = not on_cpu and max(config.retrain[protocol].filters, default=0) > WIDEST
    return "each" if given not in ("auto", fitting) or wide else "together"
