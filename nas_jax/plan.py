"""The plan of a run: what each stage will do, in words and in multiply-adds.

The multiply-adds are estimates: they compare stages, so that the time of one tells that of the
next. A training is counted as three forward passes.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import jax
from ml_collections import ConfigDict

from nas_jax.candidates import training_free
from nas_jax.config import STAGES
from nas_jax.costs import params_flops
from nas_jax.proxies import PROXIES
from nas_jax.run import FEW_STEPS, Run, count_steps
from nas_jax.runtime import rng
from nas_jax.spaces import combinations
from nas_jax.standalone import named, populations, retrain, together
from nas_jax.training import few_shot
from nas_jax.training.evaluator_names import (
    ENSEMBLE,
    evaluators_of,
    needs_supernet,
    takes_weights,
)
from nas_jax.training.supernet import has_turns

TRAINING = 3  # forward passes that a step of training costs: forward, and two products backward
_SAMPLED = 64  # architectures whose mean stands for the space's
_NO_IMAGES = ("table", "params", "flops", "shortest_path")  # evaluators that read none
_ONE_PATH = (
    "single_path",
    "shared_path",
    "fair",
    "strategy",
)  # samplers that use few ops at a time


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a run that takes time.

    Attributes:
      name: "supernet", "sweep", "retrain.short", "retrain.final" or "report".
      what: what it does, in words and numbers.
      work: multiply-adds, estimated; 0 where that says nothing.
      step: those of one step of the supernet's training; 0 in other parts.
    """

    name: str
    what: str
    work: float = 0.0
    step: float = 0.0


def of(run: Run, mode: str) -> list[Part]:
    """Return the parts of a mode, in order; of a study one, since its store has some of it."""
    if mode == "study":
        return [
            Part("study", f"{', '.join(run.config.study.parts)}, store {run.config.study.pool}")
        ]
    stages = STAGES if mode == "search" else (mode,)
    makers = {"supernet": _supernet, "sweep": _sweep, "retrain": _retrain, "report": _report}
    return [part for stage in stages for part in makers[stage](run)]


def lines(run: Run, mode: str, parts: Iterable[Part]) -> Iterator[str]:
    """Yield what is run, on what, where; each of its parts; and warnings."""
    yield _headline(run, mode)
    for part in parts:
        yield f"  {part.name:<14} {part.what}"
    if mode in ("search", "retrain"):
        yield from (f"  Warning: {text}" for text in _too_short(run))


def _headline(run, mode):
    data, devices = run.data, jax.devices()
    height, width, channels = data.image_shape
    sizes = ", ".join(
        f"{size:,} {name}" for name, size in zip(("train", "valid", "test"), data.sizes)
    )
    return (
        f"{mode} of {run.config.space.name!r} ({combinations.in_words(run.space)}) on "
        f"{data.name}: {sizes} images of {height}x{width}x{channels}, {data.num_classes} classes; "
        f"{len(devices)} x {devices[0].device_kind}; workdir {run.workdir}"
    )


def _too_short(run):
    """Say of each protocol whose networks learn for too few steps to be judged, what to set."""
    for name in retrain.PROTOCOLS:
        train = run.config.retrain[name].train
        images = run.data.num_images(retrain.split_of(run.config, name))
        steps = count_steps(train, images)
        trained = networks(run.config, name)
        if name == named.PROTOCOL:
            trained += networks(run.config, "named")
        if trained and steps < FEW_STEPS:
            epochs = math.ceil(FEW_STEPS * train.batch_size / images)
            way_out = f"num_steps={FEW_STEPS}" if train.num_steps else f"num_epochs={epochs}"
            yield (
                f"retrain.{name} trains each network for {steps} steps, too few to judge it by: "
                f"set --config.retrain.{name}.train.{way_out} or more"
            )


def networks(config: ConfigDict, name: str) -> int:
    """Count the networks of a protocol, or those "named"; groups may share some of theirs."""
    settings = config.retrain[named.PROTOCOL if name == "named" else name]
    groups = sum(settings.groups[group] for group in settings.groups)
    archs = len(config.retrain.archs) if name == "named" else groups
    return archs * len(settings.filters) * settings.num_seeds


def all_steps(run: Run) -> int:
    """Count the steps of the supernet's training, those of alphas between them (DARTS) included."""
    steps, relaxation = run.supernet_steps, run.variant.relaxation
    return steps + (steps // relaxation.every if relaxation else 0)


def training_steps(run: Run) -> float:
    """Count the steps of the supernet and its parts; landmarks count as what they take in steps."""
    settings = run.config.supernet
    steps = run.supernet_steps + len(few_shot.parts(run)) * few_shot.steps(run)
    if not settings.landmarks.count:
        return steps
    return steps * (1 + 2 / settings.landmarks.every / (settings.archs_per_step or 1))


def tunings(config: ConfigDict, protocol: str) -> int:
    """Count the trainings that tune widths of a protocol; "final" reuses those of "short"."""
    short, settings = config.retrain.short, config.retrain[protocol]
    count = settings.groups.tuned
    if protocol == "final" and short.filters[0] == settings.filters[0]:
        count = max(count - short.groups.tuned, 0)
    return count * config.retrain.widths.rounds


def _supernet(run):
    settings = run.config.supernet
    if not needs_supernet(run.config.sweep):
        return [Part("supernet", f"none: sweep.score={run.config.sweep.score!r} needs none")]
    members = run.variant.selection.size if run.variant.selection else 1
    steps, size, filters = run.supernet_steps, settings.train.batch_size, settings.filters
    archs = settings.archs_per_step
    all_on = run.network.execution == "masked" or settings.sampler not in _ONE_PATH
    step = TRAINING * size * _flops(run, filters, all_on) * members * (archs or 1)
    rounds = evaluations_between_steps(run)
    alphas = all_steps(run) - run.supernet_steps
    work = (training_steps(run) + alphas) * step + rounds * _round(run)
    many = f"{members} supernets, each " if members > 1 else ""
    each = f" through {archs} architectures each" if archs else ""
    drawn = settings.sampler
    if relaxation := run.variant.relaxation:
        drawn = f"{settings.variant}, a step of the alphas after each {relaxation.every}"
    what = f"{many}{steps:,} steps of {size} images{each}, F = {filters}, {drawn}"
    if settings.landmarks.count:
        what += f", {settings.landmarks.count} landmarks"
    if parts := len(few_shot.parts(run)):
        what += f"; then {parts} parts, {few_shot.steps(run):,} steps each"
    if rounds:
        what += f", with {rounds:,} rounds of {run.config.sweep.candidates_per_batch} candidates"
    return [Part("supernet", what, work, step)]


def evaluations_between_steps(run: Run) -> int:
    """Count the rounds of candidates that turns evaluate, each member's of a population."""
    if not has_turns(run):
        return 0
    (every, rounds, _), steps = run.turns, run.supernet_steps
    if run.variant.selection:  # the last step has a turn, too
        return math.ceil(steps / every) * rounds * run.variant.selection.size
    return steps // every * rounds


def _scored(run):
    """Return multiply-adds of a candidate on an image where candidates are evaluated."""
    return _flops(run, run.config.supernet.filters, run.network.execution == "masked")


def _round(run):
    """Return multiply-adds of a round of candidates on one batch."""
    sweep = run.config.sweep
    return sweep.candidates_per_batch * sweep.batch_size * _scored(run)


def _sweep(run):
    sweep, names = run.config.sweep, evaluators_of(run.config.sweep)
    images, works = zip(*(_evaluation(run, name) for name in names))
    count = sweep.num_candidates
    by = repr(sweep.score)
    if sweep.score == ENSEMBLE:
        count += sweep.ensemble.num_references
        by = f"an ensemble of {', '.join(names)}"
    of = " and ".join(f"{number:,}" for number in dict.fromkeys(images) if number)
    on = f", on {of} images" if of else ""
    what = f"{sweep.num_candidates:,} candidates of {sweep.strategy} by {by}{on}"
    return [Part("sweep", what, count * sum(works))]


def _evaluation(run, name):
    """Return the images that an evaluator reads, and the multiply-adds of a candidate."""
    sweep = run.config.sweep
    if name in PROXIES:
        return _training_free(run, PROXIES[name])
    images = {"kl": sweep.kl.num_images, **dict.fromkeys(_NO_IMAGES, 0)}.get(name, sweep.num_images)
    count = sweep.num_checkpoints * (1 + len(sweep.supernets))
    times = count if takes_weights(name) else 1
    seen = images * times
    if name == "trained":
        train = run.config.retrain.short.train
        steps = count_steps(train, run.data.num_images("train"))
        seen += TRAINING * steps * train.batch_size
    if sweep.bn == "recalibrate":
        seen += sweep.calibration_images
    return images, seen * _scored(run)


def _training_free(run, proxy):
    """Do as `_evaluation` for a proxy, whose networks may be smaller than the supernet."""
    settings = run.config.sweep.proxy
    options = params_flops.image_options(run.data)
    options["image_size"] = settings.image_size or options["image_size"]
    archs = run.space.sample(rng.key(0), (_SAMPLED,))
    filters, space = training_free.filters_of(run), training_free.space_of(run)
    one = float(params_flops.of(space, archs, filters=filters, **options).flops.mean())
    images = settings.num_images
    passes = settings.num_draws * (TRAINING if proxy.gradients else 1)
    return images, images * passes * one


def _retrain(run):
    parts = [
        _with_tunings(run, name, _networks(run, name, name, together.choose(run.config, name)))
        for name in retrain.PROTOCOLS
    ]
    if run.config.retrain.archs:
        parts.append(_networks(run, "named", named.PROTOCOL, "each"))
    return parts


def _with_tunings(run, protocol, part):
    """Add the trainings that tune the widths of a protocol's networks, by `retrain.short.train`."""
    count, train = tunings(run.config, protocol), run.config.retrain.short.train
    if not count:
        return part
    steps = count_steps(train, run.data.num_images(retrain.SPLITS["short"][0]))
    one = _flops(run, run.config.retrain[protocol].filters[0], False)
    work = part.work + TRAINING * count * steps * train.batch_size * one
    trainings = "a training" if count == 1 else f"{count} trainings"
    what = f"{trainings} of {steps:,} steps to tune widths; {part.what}"
    return dataclasses.replace(part, what=what, work=work)


def _networks(run, name, protocol, how):
    settings, count = run.config.retrain[protocol], networks(run.config, name)
    if not count:
        return Part(f"retrain.{name}", "no networks")
    steps = count_steps(settings.train, run.data.num_images(retrain.split_of(run.config, protocol)))
    members = populations.size(run.config, run.space, protocol)
    all_on = how == "together" and run.network.execution == "masked"
    one = sum(_flops(run, filters, all_on) for filters in settings.filters)
    work = TRAINING * steps * settings.train.batch_size * one * count / len(settings.filters)
    work *= members
    widths = ", ".join(map(str, settings.filters))
    many = "1 network" if count == 1 else f"up to {count} networks"
    as_many = f" a population of {members}, all" if members > 1 else ""
    split, judge = retrain.split_of(run.config, protocol), retrain.SPLITS[protocol][1]
    of_each = f"{steps:,} steps of {settings.train.batch_size} {split} images, F = {widths}"
    what = f"{many} ({how}), each{as_many} {of_each}, judged by {judge} images"
    return Part(f"retrain.{name}", what, work)


def _report(run):
    from nas_jax.report import webpage  # imports Matplotlib

    folder = run.workdir / "report"
    made = [folder / "report.md"]
    if not webpage.missing():
        made.append(folder / webpage.NAME)
    return [Part("report", ", ".join(map(str, made)))]


def _flops(run, filters, all_on):
    """Return multiply-adds for an image: of all options, or the mean of random architectures."""
    archs = run.space.all_on() if all_on else run.space.sample(rng.key(0), (_SAMPLED,))
    return float(params_flops.on_images(run.space, archs, filters, run.data).flops.mean())
