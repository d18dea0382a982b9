"""Evaluators of a sweep, by `sweep.score`: each gives a value to every candidate of a round.

An evaluator is called with masks [N, k], where N is a multiple of the number of devices. It returns
values float [N], the higher the better, NaN for a failure.

accuracy  one-shot accuracy, or another `config.metric`, with weights from the supernet's
          checkpoints, and from those of `sweep.supernets`
loss      minus the cross-entropy of the validation split, in place of the accuracy
train_loss  minus that of the training split
kl        minus the KL divergence between its predictions and those of nearly all paths, with the
          same weights
params    parameters, the more the better: a baseline, and a member of an ensemble
flops     multiply-adds for an image, likewise; AZ-NAS calls them complexity
shortest_path  minus the ops on the shortest path through a cell (`spaces.paths`), likewise
table     the accuracy that a table lists
trained   the accuracy after a short training of the candidate alone (`short_training`)

The others are training-free proxies (`training_free`), by the names of `nas_jax.proxies`.

One of a user or a plug-in is a function (run) -> evaluator. If it has a keyword `weights`, it is
given those of a checkpoint of the supernet (`checkpoints.Weights`), once for each checkpoint.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import plugins
from nas_jax.candidates import training_free
from nas_jax.candidates.ensemble import Ensemble
from nas_jax.candidates.few_shot import FewShot
from nas_jax.candidates.short_training import ShortTraining
from nas_jax.candidates.training_free import TrainingFree
from nas_jax.costs import params_flops
from nas_jax.data import augment
from nas_jax.oneshot import batch_statistics, path_dropout
from nas_jax.oneshot.accuracy import OneShotAccuracy
from nas_jax.oneshot.class_metrics import MINUS_LOSS
from nas_jax.oneshot.divergence import KLDivergence
from nas_jax.proxies import PROXIES
from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.spaces import Space, paths
from nas_jax.spaces.tabular import Table
from nas_jax.storage import file_paths
from nas_jax.storage.checkpoints import Weights
from nas_jax.training import evaluator_names, few_shot, restoration, supernet
from nas_jax.training.hyperparameters import Schedule, multiplied

FIELD = "config.sweep.score"
SUPERNETS = "config.sweep.supernets"
Evaluator = Callable[[Any], np.ndarray]


class Evaluation(NamedTuple):
    """The evaluator of a sweep, and what the sweep takes from the trained supernet beside it.

    Attributes:
      evaluator: called with masks [N, k].
      step: of the checkpoint; None without one.
      strategy_state: from which the strategy goes on, if it drew the supernet's masks; else ().
      left: masks bool [k] of the options that candidates may have, see `TrainingVariant.read_out`;
        None: all.
      selected: masks [k] of the architecture that the training selected, see
        `TrainingVariant.relaxation`; None: it selected none.
    """

    evaluator: Evaluator
    step: int | None = None
    strategy_state: Any = ()
    left: Any = None
    selected: Any = None


def make(run: Run, directory: str | Path, step: int | None = None) -> Evaluation:
    """Make the evaluator of `sweep.score`.

    Args:
      run: the run.
      directory: of the supernet; for "trained", the workdir; "table" reads none.
      step: of the checkpoint to evaluate with; None for the last `sweep.num_checkpoints`. Of
        `sweep.supernets` it is always these.

    Raises: ValueError if the supernet, or one of `sweep.supernets`, is not finished, has no such
      checkpoint, or is of another space or network.
    """
    if not evaluator_names.needs_supernet(run.config.sweep):
        return Evaluation(of_weights(run, directory, []))
    count = run.config.sweep.num_checkpoints
    weights = restoration.restore(run, directory, count, step)
    for other in run.config.sweep.supernets:
        weights += restoration.restore(run, file_paths.local(other, SUPERNETS), count)
    last, read_out, relaxation = weights[0], run.variant.read_out, run.variant.relaxation
    return Evaluation(
        of_weights(run, directory, weights),
        last.step,
        last.sampler_state if run.config.supernet.sampler == "strategy" else (),
        read_out and jax.device_get(read_out(last.params)),
        relaxation and jax.device_get(relaxation.select(last.sampler_state)),
    )


def check(run: Run) -> None:
    """Check what evaluators need that is not the run's own: networks of proxies, other supernets.

    Raises: ValueError as `training_free.check`, or if a workdir of `sweep.supernets` has none.
    """
    training_free.check(run)
    if "shortest_path" in evaluator_names.evaluators_of(run.config.sweep):
        paths.check_shortest(run.space)
    if run.config.sweep.strategy == "surrogate":
        training_free.check(run, dict(run.config.sweep.options).get("proxies", ()))
    folder = few_shot.FOLDER if run.config.supernet.split.choices else "checkpoints"
    for other in run.config.sweep.supernets:
        if not (file_paths.local(other, SUPERNETS) / folder).is_dir():
            raise ValueError(
                f"{SUPERNETS}: {other} has no {folder}; train it first, by --mode=supernet"
            )


def of_weights(run: Run, directory: str | Path, weights: list[Weights]) -> Evaluator:
    """Make the evaluator of `sweep.score`, with the weights of checkpoints of the supernet.

    Args:
      run: the run.
      directory: of the candidates that "trained" trains.
      weights: of one checkpoint or more; empty if no evaluator needs any.
    """
    names = evaluator_names.evaluators_of(run.config.sweep)
    each = {name: _named(run, name, directory, weights) for name in names}
    is_one = run.config.sweep.score != evaluator_names.ENSEMBLE
    return each[names[0]] if is_one else Ensemble(run, each)


def _named(run, name, directory, weights):
    """Make the evaluator of that name."""
    if name in ("params", "flops"):
        return functools.partial(_size, run, name)
    if name == "shortest_path":
        return functools.partial(_minus_shortest_path, run.space)
    if name == "table":
        return TableAccuracy(run.space, run.table)
    if name == "trained":
        return ShortTraining(run, directory)
    if name in PROXIES:
        return TrainingFree(run, name)
    if name not in evaluator_names.EVALUATORS and not evaluator_names.takes_weights(name):
        return Plugged(run, name)
    own = functools.partial(Plugged, name=name)
    by_name = {
        "kl": _minus_divergence,
        "accuracy": functools.partial(_one_shot, metric=run.config.metric),
        "loss": functools.partial(_one_shot, metric=MINUS_LOSS),
        "train_loss": functools.partial(_one_shot, metric=MINUS_LOSS, split="train"),
    }
    make_one = by_name.get(name, own)
    made = [make_one(run, weights=each) for each in weights]
    if not run.config.supernet.split.choices:
        return Mean(made)
    return FewShot(run, [each.sampler_state for each in weights], made)


def _size(run, name, archs):
    sizes = params_flops.on_images(run.space, archs, run.config.supernet.filters, run.data)
    return np.asarray(getattr(sizes, name), float)


def _minus_shortest_path(space, archs):
    shortest = paths.of(space, archs).shortest
    return np.where(np.isfinite(shortest), -shortest, np.nan)


class Plugged:
    """The evaluator of a user or a plug-in; its values are checked, and its errors name it."""

    def __init__(self, run: Run, name: str, weights: Weights | None = None):
        self._name = name
        context = {} if weights is None else {"weights": weights}
        self._evaluator = plugins.make(
            FIELD, self._name, evaluator_names.EVALUATORS, "evaluators", run, context=context
        )
        if not callable(self._evaluator):
            kind = type(self._evaluator).__name__
            raise ValueError(
                f"{FIELD}={self._name!r} made a {kind}; an evaluator is called with masks [N, k]"
            )

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]: float [N]."""
        values = plugins.call(FIELD, self._name, self._evaluator, archs)
        try:
            values = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            kind = type(values).__name__
            raise ValueError(f"{FIELD}={self._name!r} gave a {kind}, not numbers") from None
        wanted = len(jax.tree.leaves(archs)[0])
        if values.shape != (wanted,):
            raise ValueError(
                f"{FIELD}={self._name!r} gave values of shape {list(values.shape)} for {wanted} "
                f"architectures; they must be [{wanted}]"
            )
        return values


@dataclasses.dataclass(frozen=True)
class TableAccuracy:
    """The evaluator that looks up the accuracies that a table lists for searches."""

    space: Space
    table: Table

    def __call__(self, archs: Any) -> np.ndarray:
        """Look up masks [N, k]: float [N] in [0, 1]."""
        return np.asarray([self.table.search_accuracy(t) for t in self.space.to_strs(archs)])


@dataclasses.dataclass(frozen=True)
class Mean:
    """The evaluator that averages others, such as those of the last checkpoints."""

    evaluators: list[Evaluator]

    def __call__(self, archs: Any) -> np.ndarray:
        """Evaluate masks [N, k]: float [N]."""
        return np.mean([evaluator(archs) for evaluator in self.evaluators], 0)


def _one_shot(run, weights, metric, split="valid"):
    """Make the evaluator of one checkpoint, with the statistics that `sweep.bn` names."""
    sweep, data = run.config.sweep, run.data
    net, prepare = run.supernet(), augment.standardiser(data)
    variables, calibration = {"params": weights.params}, None
    if sweep.bn == "recalibrate":
        calibration = _training_batches(run, sweep.batch_size)
    if sweep.bn == "running":
        variables["batch_stats"] = _running_statistics(run, net, weights, prepare)
    return OneShotAccuracy(
        net,
        variables,
        *data.fixed(split, sweep.num_images),
        batch_size=sweep.batch_size,
        prepare=prepare,
        calibration=calibration,
        metric=metric,
    )


def _running_statistics(run, net, weights, prepare):
    """Gather statistics for all candidates, over batches and masks as a training step has them."""
    settings, seed = run.config.supernet.train, run.config.sweep.seed
    batches = _training_batches(run, settings.ghost_batch_size)
    groups = np.arange(len(batches), dtype=np.int32)
    schedule = Schedule(settings, run.supernet_steps, run.config.supernet.path_dropout)
    hyper = schedule.at(weights.step)  # of the step to come; after the last, the ramp stays at 1
    if run.variant.selection and "r" in weights.sampler_state:  # the best member has its own r
        hyper = multiplied(hyper, {"r": weights.sampler_state["r"]})
    key = rng.named(rng.key(seed), "statistics")
    masks = supernet.sampler(run)(key, weights.step, groups, weights.sampler_state, hyper)

    @jax.jit
    def gather(params, batches, masks):
        return batch_statistics.gather(net, params, batches, masks, prepare)

    return gather(weights.params, batches, masks)


def _training_batches(run, size):
    """Read `sweep.calibration_images` images of the training split, uint8 [c, size, H, W, C]."""
    count = run.config.sweep.calibration_images // size
    images, _ = run.data.fixed("train", count * size)
    return images.reshape(count, size, *images.shape[1:])


def _minus_divergence(run, weights):
    """Make the evaluator that compares candidates with networks of nearly all paths."""
    settings, seed = run.config.sweep.kl, run.config.sweep.seed
    key, groups = rng.named(rng.key(seed), "references"), jnp.arange(settings.num_references)
    drop = {"r": settings.r, "share": 1.0}
    divergence = KLDivergence(
        run.supernet(),
        {"params": weights.params},
        run.data.fixed("train", settings.num_images)[0],
        path_dropout.sample(key, run.space.choices, groups, **drop),
        prepare=augment.standardiser(run.data),
    )
    return lambda archs: -divergence(archs)


# -- rows of trials.jsonl -------------------------------------------------------------------------


def rows(run: Run, evaluation: Evaluation, archs: Any) -> list[dict]:
    """Evaluate masks [N, k], and return N rows of trials.jsonl."""
    values, each = _values(evaluation.evaluator, archs)
    archs, common = jax.device_get(archs), _common(run, evaluation)
    is_one_shot = common["score"] in ("accuracy", "table") and run.config.metric == "accuracy"
    costs = run.constraints.costs(archs)
    return [
        {
            "arch": text,
            "value": value,
            "one_shot_accuracy": value if is_one_shot else None,
            **({"values": {name: numbers[i] for name, numbers in each.items()}} if each else {}),
            **dict(zip(costs, its_costs)),
            "status": "failed" if value is None else "ok",
            **common,
        }
        for i, (text, value, *its_costs) in enumerate(
            zip(run.space.to_strs(archs), values, *costs.values())
        )
    ]


def _values(evaluator, archs):
    """Return the values of N candidates, and those of the members of an ensemble by name."""
    if not isinstance(evaluator, Ensemble):
        return _or_none(evaluator(archs)), {}
    each = evaluator.values(archs)
    return _or_none(evaluator.combined(each)), {name: _or_none(v) for name, v in each.items()}


def _or_none(values):
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _common(run, evaluation):
    """Return the fields that all rows of a sweep share."""
    sweep = run.config.sweep
    is_kl, proxy = sweep.score == "kl", PROXIES.get(sweep.score)
    num_images = sweep.kl.num_images if is_kl else sweep.num_images
    num_batches = 1 if is_kl else num_images // sweep.batch_size
    if proxy:
        num_images, num_batches = sweep.proxy.num_images, proxy.num_batches
    return {
        "num_images": num_images,
        "score": sweep.score,
        "bn": sweep.bn,
        "num_batches": num_batches,
        "strategy": sweep.strategy,
        "seed": sweep.seed,
        "checkpoint_step": evaluation.step,
    }
