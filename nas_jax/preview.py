"""What a run will take, without running it: `--mode=check`.

One training step and one round of candidates are compiled and timed, on this machine, with random
weights. XLA itself counts their memory. The rest is estimated from multiply-adds (`plan`).
"""

import math
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np

from nas_jax import plan
from nas_jax.candidates import evaluators
from nas_jax.config.variants import differing, flatten
from nas_jax.costs import params_flops
from nas_jax.data import augment
from nas_jax.oneshot import accuracy, schedule
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.runtime.progress import duration
from nas_jax.spaces.params import params_shape
from nas_jax.storage.checkpoints import Weights
from nas_jax.training import evaluator_names, few_shot, supernet
from nas_jax.training.loop import Trial

TIMED = 5  # training steps, and passes of a round
_MIB = 2**20
_UNTIMED = ("kl", "table", "trained")  # evaluators of which no round is timed


class _Line(NamedTuple):
    """What a part takes: seconds of work and of compilation (None: unknown), and why."""

    seconds: float | None
    compilation: float
    how: str


def text(run: Run, mode: str) -> str:
    """Say what a run of a mode will take: config, sizes, memory, programs, time.

    Nothing is written, and no training but a few steps in memory is done.
    """
    lines = ["Config, where it differs from the defaults (--help lists those):", *_fields(run)]
    search = plan.of(run, "search")
    parts = search if mode == "search" else plan.of(run, mode)
    lines += ["", "What it will do:", *plan.lines(run, mode, parts)]
    lines += ["", "Sizes:", *_sizes(run)]
    trials = _measured(run)
    lines += ["", "Memory, by XLA's own count for each device:", *_memory(trials)]
    *times, in_all = _times(run, search, trials)
    lines += ["", _heading_of_times(run, mode), *times]
    return "\n".join(lines if mode == "study" else [*lines, in_all])


def _fields(run):
    differ = differing(flatten(run.config))
    lines = [f"  {name} = {value!r}" for name, value in differ]
    return [
        *lines,
        f"  (computed in {run.network.dtype.name}, execution {run.network.execution!r})",
    ]


def _heading_of_times(run, mode):
    if mode != "study":
        return "Time:"
    variants = len(run.config.study.variants)
    each = f", for each of {variants} variants" if variants else ""
    return (
        "Time of one search by these fields. The study takes of it the lines that its parts need"
        f"{each}, less what its store has:"
    )


def _sizes(run):
    filters = run.config.supernet.filters
    leaves = jax.tree.leaves(params_shape(run.supernet(), run.data.image_shape))
    total = sum(math.prod(leaf.shape) for leaf in leaves)
    sampled = run.space.sample(rng.key(0), (256,))
    costs = params_flops.on_images(run.space, sampled, filters, run.data)
    low, high = (np.quantile(costs.params, q) for q in (0.05, 0.95))
    least, most = (np.quantile(costs.flops, q) for q in (0.05, 0.95))
    return [
        f"  supernet: {total:,} parameters",
        f"  architectures, F = {filters} (90 % of 256 random ones): {low:,.0f} to {high:,.0f} "
        f"parameters, {least / 1e6:,.2f} to {most / 1e6:,.2f} million multiply-adds an image",
    ]


def _measured(run) -> dict[str, Trial]:
    """Compile and time a step of the supernet, and a round, or a pass of it, of candidates."""
    score, trials, weights = run.config.sweep.score, {}, []
    if evaluator_names.needs_supernet(run.config.sweep):
        trials["supernet"] = supernet.training(run).trial(TIMED, run.config.seed)
        states = [part.masks for part in few_shot.parts(run)] or [{}]
        params = _any_params(run)
        weights = [Weights(run.supernet_steps, params, state) for state in states]
    if score == "accuracy":
        trials["sweep"] = _pass(run)
    elif score not in _UNTIMED:  # which are no members of an ensemble
        trials["sweep"] = _round(run, evaluators.of_weights(run, run.workdir, weights))
    return trials


def _round(run, evaluator):
    """Time a round of an evaluator, so that the errors of one of a user show, too."""
    archs, seconds = _candidates(run), []
    for _ in range(2):  # the first may compile
        began = time.perf_counter()
        evaluator(archs)
        seconds.append(time.perf_counter() - began)
    return Trial(seconds[1], max(seconds[0] - seconds[1], 0), None)


def _candidates(run):
    return run.space.sample(rng.key(1), (run.config.sweep.candidates_per_batch,))


def _any_params(run):
    """Draw parameters of the supernet; any take as long."""
    shape, generator = params_shape(run.supernet(), run.data.image_shape), np.random.default_rng(0)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.1, leaf.shape).astype(np.float32), shape)


def _pass(run):
    sweep, archs = run.config.sweep, jax.device_get(_candidates(run))
    images, labels = run.data.fixed("valid", sweep.batch_size)
    _, net = schedule.plan(run.supernet(), archs, distributed.num_global())
    params, archs = _any_params(run), distributed.part(archs)
    prepare = augment.standardiser(run.data)
    count = accuracy.compiled_correct(net, prepare=prepare, metric=run.config.metric)
    arguments = distributed.replicate(({"params": params}, {}, images, labels))
    began = time.perf_counter()
    compiled = count.lower(*arguments, archs).compile()
    compilation, seconds = time.perf_counter() - began, []
    for _ in range(TIMED):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments, archs))
        seconds.append(time.perf_counter() - began)
    return Trial(statistics.median(seconds), compilation, compiled.memory_analysis())


def _memory(trials):
    if "supernet" not in trials:
        return ["  not counted: there is no supernet"]
    names = {"supernet": "a training step of the supernet", "sweep": "a round of candidates"}
    lines = []
    for name, trial in trials.items():
        memory = trial.memory
        if memory is None:
            lines.append(f"  {names[name]}: not known")
            continue
        inputs = memory.argument_size_in_bytes / _MIB
        lines.append(
            f"  {names[name]}: {memory.temp_size_in_bytes / _MIB:,.0f} MiB while it runs, beside "
            f"{inputs:,.0f} MiB of weights and images"
        )
    return lines


def _times(run, parts, trials):
    lines, seconds, compilation, unknown, programs = [], 0.0, 0.0, [], 0
    for part in parts:
        count = _programs(run, part)
        line = _time(run, part, trials, parts, count)
        programs += count
        compilation += line.compilation
        if line.seconds is None:
            unknown.append(part.name)
        else:
            seconds += line.seconds
        shown = "unknown" if line.seconds is None else f"about {duration(line.seconds)}"
        known = line.how if part.name == "report" else f"{shown}: {line.how}"
        lines.append(f"  {part.name:<14} {known}")
    apart = f", and what {', '.join(unknown)} takes" if unknown else ""
    lines.append(
        f"  in all         about {duration(seconds)}, and {duration(compilation)} to compile "
        f"{programs} large programs, or to read those of an earlier run from the cache{apart}"
    )
    return lines


def _programs(run, part) -> int:
    """Count the large programs of a part: steps, evaluations, statistics."""
    if not part.work:
        return 0
    if part.name == "sweep":
        return 2 if run.config.sweep.bn != "batch" or run.config.sweep.score == "trained" else 1
    if not part.name.startswith("retrain."):
        return 1
    name = part.name.removeprefix("retrain.")
    if "(each)" in part.what:
        tuned = 0 if name == "named" else plan.tunings(run.config, name)
        return 2 * plan.networks(run.config, name) + tuned
    return 2 * len(run.config.retrain[name].filters)


def _time(run, part, trials, parts, programs) -> _Line:
    trial = trials.get(part.name)
    if part.name == "supernet" and trial:
        alphas = plan.all_steps(run) - run.supernet_steps
        seconds = (plan.training_steps(run) + alphas) * trial.seconds
        how = (
            f"a step took {_short(trial.seconds)}, the median of {TIMED} at the start, when few "
            f"paths are off; compiled in {trial.compilation:.0f} s"
        )
        if rounds := plan.evaluations_between_steps(run):
            if run.config.sweep.score == "accuracy":  # whose pass is a round of a turn, too
                seconds += rounds * trials["sweep"].seconds
                how += f"; with {rounds:,} rounds of candidates between the steps"
            else:
                how += "; evaluations between steps are not in it"
        if run.variant.relaxation:
            how += "; a step of the alphas counts as one of these"
        return _Line(seconds, trial.compilation, how)
    if part.name == "sweep" and trial:
        return _time_of_sweep(run.config.sweep, trial, programs)
    if not part.work:
        return _Line(0.0, 0.0, part.what if part.name != "report" else "not counted")
    known = trials.get("supernet")
    step = sum(p.step for p in parts)
    if known is None or not step:
        return _Line(None, 0.0, "nothing of it was timed")
    seconds = part.work / step * known.seconds
    how = "estimated from multiply-adds, at the speed of the supernet's training"
    return _Line(seconds, programs / 2 * known.compilation, how)


def _time_of_sweep(sweep, trial, programs):
    times = math.ceil(sweep.num_candidates / sweep.candidates_per_batch)
    if sweep.score in evaluator_names.EVALUATORS and evaluator_names.needs_supernet(sweep):
        times *= sweep.num_checkpoints * (1 + len(sweep.supernets))
    if sweep.score != "accuracy":
        how = f"a round of {sweep.candidates_per_batch} candidates took {_short(trial.seconds)}"
        return _Line(times * trial.seconds, trial.compilation, how)
    times *= sweep.num_images // sweep.batch_size
    how = (
        f"{sweep.candidates_per_batch} candidates on {sweep.batch_size} images took "
        f"{_short(trial.seconds)}, the median of {TIMED}; compiled in {trial.compilation:.0f} s"
    )
    if sweep.bn != "batch":
        how += "; calibration is not in it"
    return _Line(times * trial.seconds, programs * trial.compilation, how)


def _short(seconds):
    return f"{1000 * seconds:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"
