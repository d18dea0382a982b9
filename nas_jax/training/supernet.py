"""The training of the supernet, of a population, and of a strategy that draws its masks."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import strategies
from nas_jax.config.trained_networks import MOST_ARCHS_PER_STEP
from nas_jax.costs import params_flops
from nas_jax.data import augment
from nas_jax.oneshot import accuracy, class_metrics, path_samplers
from nas_jax.run import Run
from nas_jax.runtime import distributed, progress, rng
from nas_jax.spaces.combinations import has_rule
from nas_jax.strategies import random_search
from nas_jax.training import few_shot, landmarks
from nas_jax.training.alpha_turn import AlphaTurn
from nas_jax.training.evaluator_names import needs_supernet
from nas_jax.training.hyperparameters import check_tunable
from nas_jax.training.loop import Task, Training
from nas_jax.training.population import Population

logger = logging.getLogger(__name__)


def train(run: Run) -> None:
    """Train the supernet in the workdir; do nothing if the sweep needs no supernet.

    Raises: ValueError if candidates are evaluated in turns and none keeps to the constraints.
    """
    if not needs_supernet(run.config.sweep):
        logger.info("no supernet: sweep.score=%r needs none", run.config.sweep.score)
        return
    if has_turns(run):
        run.constraints.check()
    split = few_shot.parts(run)
    whole = 1 / (1 + len(split) * few_shot.steps(run) / run.supernet_steps)  # of the work
    with progress.part(0, whole):
        state = training(run).fit(run.workdir, seed=run.config.seed)
    if split:
        with progress.part(whole, 1):
            _train_parts(run, split, distributed.fetch(state.variables["params"]))


def _train_parts(run, split, params):
    """Train the parts of few-shot supernets, one after the other, from the whole's weights."""
    task, settings = _task(run, None), few_shot.settings(run)
    for number, part in enumerate(split):
        with progress.part(number / len(split), (number + 1) / len(split)):
            training = Training(few_shot.task_of(run, part, task), settings, run.data)
            training.fit(part.directory(run.workdir), seed=run.config.seed, params=params)


def check(run: Run) -> None:
    """Check that the training of the supernet leaves what the sweep needs.

    Raises: ValueError if it would save fewer checkpoints than `sweep.num_checkpoints`, has fewer
      steps than there are between two turns, or steps without whole rounds of `fair`; if a
      hyper-parameter cannot be tuned; or if other fields do not go with a relaxation.
    """
    config = run.config
    if run.variant.relaxation:
        _check_relaxation(run)
    if not needs_supernet(config.sweep):
        return
    few_shot.check(run)
    landmarks.check(run)
    if run.variant.selection:
        dropout = config.supernet.path_dropout if _r_counts(run) else None
        tunes = run.variant.selection.tunes
        check_tunable(tunes, config.supernet.train, "supernet.train", dropout)
    rounds = config.supernet.sampler, run.space, config.supernet.archs_per_step
    path_samplers.check_rounds(*rounds, most=MOST_ARCHS_PER_STEP)
    every, asked = config.supernet.train.checkpoint_every, config.sweep.num_checkpoints
    total = run.supernet_steps
    saved = math.ceil(total / (every or total))
    if saved < asked:
        raise ValueError(
            f"config.sweep.num_checkpoints={asked}, but a training of {total} steps with "
            f"checkpoint_every={every} saves {saved}; lower one of the two"
        )
    if has_turns(run):
        _check_turns(run, config.supernet, total)


def _check_turns(run, settings, total):
    (every, _, images), size = run.turns, run.config.sweep.batch_size
    if every > total:
        an_epoch = "" if settings.strategy_every else f" (an epoch, of {every} steps)"
        raise ValueError(
            f"config.supernet.strategy_every={settings.strategy_every}{an_epoch}, but there are "
            f"only {total} steps: no candidate would be evaluated during them; lower it"
        )
    num_valid = run.data.num_images("valid")
    if images > num_valid or images % size:
        raise ValueError(
            f"config.supernet.strategy_images={images} must be a multiple of sweep.batch_size="
            f"{size}, and at most the {num_valid} images of the validation split"
        )
    if run.variant.selection and settings.strategy_rounds != 1:
        raise ValueError(
            f"config.supernet.strategy_rounds={settings.strategy_rounds} is for "
            "supernet.sampler='strategy'; the turn of a population is one round: 1"
        )


def drops_paths(run: Run) -> bool:
    """Say whether the masks of the training are those of path dropout."""
    return run.config.supernet.sampler == "path_dropout" and run.variant.relaxation is None


def _r_counts(run):
    """Say whether path dropout's r changes the training."""
    return drops_paths(run) and run.config.supernet.path_dropout.schedule != "none"


def _check_relaxation(run):
    """Check that nothing else draws masks or decides what is selected; and the alphas' batch."""
    settings, sweep = run.config.supernet, run.config.sweep
    name, size, most = settings.variant, settings.train.batch_size, run.data.num_images("valid")
    wrong = {
        f"supernet.sampler={settings.sampler!r}": settings.sampler != "path_dropout",
        f"supernet.archs_per_step={settings.archs_per_step}": settings.archs_per_step > 0,
        f"sweep.score={sweep.score!r}": not needs_supernet(sweep),
        "sweep.bn='running'": sweep.bn == "running",
        "sweep.strategy='exhaustive'": sweep.strategy == "exhaustive",
        f"space.name={run.config.space.name!r} (a rule ties its Choices)": has_rule(run.space),
        **{f"sweep.constraints.{key}={most}": most > 0 for key, most in sweep.constraints.items()},
    }
    for field in (field for field, is_wrong in wrong.items() if is_wrong):
        raise ValueError(
            f"config.{field} does not go with supernet.variant={name!r}, which learns its masks "
            "and selects the first candidate itself; leave that field at its default"
        )
    if size > most:
        raise ValueError(
            f"config.supernet.train.batch_size={size}, but supernet.variant={name!r} learns on as "
            f"many validation images, and data.valid has {most}; lower it"
        )
    every, total = run.variant.relaxation.every, run.supernet_steps
    if every > total:
        raise ValueError(
            f"config.supernet.variant_options: every={every}, but there are only {total} steps: no "
            "step of the alphas would come; lower it"
        )


def has_turns(run: Run) -> bool:
    """Say whether candidates are evaluated in turns between the steps.

    The fields of the sweep then decide the training, too.
    """
    return run.config.supernet.sampler == "strategy" or run.variant.selection is not None


def training(run: Run, devices: Sequence[jax.Device] | None = None) -> Training:
    """Make the training of the supernet, or of a population of them; devices: None for all."""
    settings = run.config.supernet.train
    task = _task(run, devices)
    if run.variant.relaxation:
        weights = Training(task, settings, run.data, devices)
        task = dataclasses.replace(task, turn=AlphaTurn(run, weights, devices))
    if run.variant.selection is None:
        return Training(task, settings, run.data, devices)
    members = _population(run, task, devices)  # both the layout and the turn
    task = dataclasses.replace(task, turn=members)
    return Training(task, settings, run.data, devices, layout=members)


def _task(run, devices):
    """Make the task of training the supernet on the architectures of `supernet.sampler`."""
    config, space = run.config.supernet, run.space
    net, relaxation = run.supernet(), run.variant.relaxation
    task = Task(
        name="supernet",
        net=net,
        split="train",
        sampler=sampler(run),
        init_args=lambda sampler_state: (space.all_on(),),
        space=space,
        penalty=run.variant.penalty,
        undecayed=run.variant.undecayed,
        per_use=config.per_use_gradients,
        remat=config.remat,
        dropout=config.path_dropout if drops_paths(run) else None,
        archs_per_step=config.archs_per_step,
        distils=config.distillation,
        landmarks=landmarks.of(run),
        identity=run.supernet_identity(net),
    )
    if relaxation:
        # Of the training's seed: that of the sweep may change once the supernet is trained.
        first = relaxation.init(rng.named(rng.key(run.config.seed), "first alphas"))
        return dataclasses.replace(task, sampler_state=jax.device_get(first))
    if config.sampler != "strategy":
        return task
    turn = StrategyTurn(run, task.net, devices)
    return dataclasses.replace(task, sampler_state=run.first_strategy_state(), turn=turn)


def _population(run, task, devices):
    selection = run.variant.selection
    strategy = strategies.compiled(random_search.make(run.space))  # its state is ()
    return Population(
        selection,
        jax.device_get(selection.init(run.init_key)),
        judge=_judge(task.net, augment.standardiser(run.data), run.config.metric),
        examine=_Examination(run, functools.partial(_ask, run, strategy)),
        every=run.turns.every,
        total=run.supernet_steps,
        tunes_r=_r_counts(run),
        one_by_one=task.net.execution == "switch",
        devices=devices,
    )


def _judge(net, prepare, metric):
    """Make (variables, masks [n, k], images, labels) -> the mean metric of n architectures."""
    count = accuracy.correct(net, prepare, metric)

    def judge(variables, archs, images, labels):
        answers = count({"params": variables["params"]}, {}, images, labels, archs)
        if metric != "accuracy":
            return jnp.mean(class_metrics.of_counts(metric, answers))
        return jnp.mean(answers) / len(labels)

    return judge


# -- which architectures --------------------------------------------------------------------------


def sampler(run: Run) -> path_samplers.Sampler:
    """Make the mask sampler that `supernet.sampler` names, or that of a relaxation."""
    config = run.config.supernet
    if run.variant.relaxation:
        return run.variant.relaxation.sampler
    if config.sampler == "strategy":
        return StrategySampler(run.strategy)
    return path_samplers.make(
        config.sampler,
        run.space,
        num_groups=config.archs_per_step
        or config.train.batch_size // config.train.ghost_batch_size,
        extremes=functools.partial(params_flops.extremes, run.space, config.filters),
        rescale=config.path_dropout.rescale,
    )


@dataclasses.dataclass(frozen=True)
class StrategySampler:
    """The mask sampler that asks a strategy for one architecture per ghost batch.

    Its state is that of the strategy. Constraints hold for rounds of candidates, not for its masks.
    """

    strategy: strategies.Strategy

    def __call__(self, key, step, groups, state, hyper):
        """Draw masks [G, k]; arguments as of the samplers in `path_samplers`."""

        def one(key):
            return jax.tree.map(lambda mask: mask[0], self.strategy.ask(key, state, 1))

        return jax.vmap(one)(rng.each(jax.random.fold_in(key, step), groups))


class StrategyTurn:
    """The turn that evaluates rounds of candidates, and tells the strategy their accuracies."""

    def __init__(self, run: Run, net: Any, devices: Sequence[jax.Device] | None = None):
        self._strategy, self._devices = run.strategy, devices
        self._turns = run.turns
        prepare = augment.standardiser(run.data)
        self._count = accuracy.compiled_correct(
            net, prepare=prepare, devices=devices, metric=run.config.metric
        )
        self._metric = run.config.metric
        self._examine = _Examination(run, functools.partial(_ask, run, run.strategy))

    def is_due(self, step: int) -> bool:
        """Say whether the rounds come after this step."""
        return step % self._turns.every == 0

    def __call__(self, step, state, root):
        """Evaluate each round of candidates, and tell the strategy their accuracies."""
        of_strategy, told = jax.device_get(state.sampler_state), []
        first, params = rng.stream(root, "strategy", step), state.variables["params"]
        for number in range(self._turns.rounds):
            # A stream of its own: `ask_allowed` folds the number of an attempt into its key.
            key = rng.stream(first, "round", number) if number else first
            archs, images, labels = self._examine(key, step, of_strategy, number)
            accuracies = self._evaluate(params, archs, images, labels)
            of_strategy = self._strategy.tell(of_strategy, archs, accuracies)
            told.append(accuracies)
        of_strategy = distributed.replicate(of_strategy, self._devices)
        sound = np.stack(told)[np.isfinite(told)]
        mean = sound.mean() if sound.size else math.nan
        return state._replace(sampler_state=of_strategy), {"asked_accuracy": mean}

    def _evaluate(self, params, archs, images, labels):
        part = distributed.part(archs, self._devices)
        correct = self._count({"params": params}, {}, images, labels, part)
        answers = distributed.whole(correct, self._devices)
        return class_metrics.of_answers(self._metric, answers, len(labels))


def _ask(run, strategy, key, state):
    """Ask for a round of candidates, masks [n, k], that the constraints allow."""
    size = run.config.sweep.candidates_per_batch
    return strategies.ask_allowed(key, strategy, state, size, run.constraints.allows)


class _Examination:
    """Asks for a round of candidates, and takes the validation batch to evaluate them on.

    Called with (key, step, state of the strategy, number of the round in its turn), it returns
    (masks [n, k], images, labels). The batches follow each other from round to round, and begin
    again after the last.
    """

    def __init__(self, run, ask: Callable):
        self._ask, self._turns, self._size = ask, run.turns, run.config.sweep.batch_size
        self._images, self._labels = run.data.fixed("valid", self._turns.images)

    def __call__(self, key, step, state=(), number=0):
        count = step // self._turns.every * self._turns.rounds + number
        first = count * self._size % self._turns.images
        batch = slice(first, first + self._size)
        return self._ask(key, state), self._images[batch], self._labels[batch]
