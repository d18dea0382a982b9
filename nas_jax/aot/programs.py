"""The programs of a run that take its time and its memory, as a compiler gets them.

They are the run's own: the training step of the supernet or of a population, a round of candidates,
the training steps of stand-alone networks. Only their arguments are shapes instead of arrays.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from nas_jax.aot.counts import Taken
from nas_jax.data import augment
from nas_jax.oneshot import accuracy, batch_statistics, schedule
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.spaces.params import params_shape
from nas_jax.standalone import named, populations, retrain, together
from nas_jax.training import evaluator_names, supernet


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a run.

    Attributes:
      name: for a table.
      stage: of the run that it belongs to.
      work: what one execution does, in words.
      lower: makes it.
      images: images that a device computes in one execution, each candidate's counted.
      resident: bytes on each device beside its arguments while it runs.
      field: of the config, that sets its size; "" if none does.
      multiple: the value of that field is a multiple of it.
      taken: how often the parts run that depend on the masks, for random architectures.
    """

    name: str
    stage: str
    work: str
    lower: Callable[[], jax.stages.Lowered]
    images: float
    resident: float = 0
    field: str = ""
    multiple: int = 1
    taken: Taken = Taken()


def of(
    run: Run, devices: Sequence[jax.Device], local: Sequence[jax.Device] | None = None
) -> Iterator[Program]:
    """Yield the programs of a search on `devices`, in the order of the stages.

    Networks alone are trained on the devices of one process, `local`; None: all `devices`.
    """
    if evaluator_names.needs_supernet(run.config.sweep):
        yield _supernet_step(run, devices)
    if "accuracy" in evaluator_names.evaluators_of(run.config.sweep):
        if run.config.sweep.bn == "recalibrate":
            yield _calibration(run, devices)
        yield from _rounds(run, devices)
    local = devices if local is None else local
    for protocol in retrain.PROTOCOLS:
        yield from _networks(run, protocol, local)
    if run.config.retrain.archs:
        yield _named(run, local)


def left_out(run: Run) -> Iterator[tuple[str, str]]:
    """Yield (stage, what) of a run's work of which `of` has no program."""
    if run.variant.relaxation:
        yield "supernet", "the step of the alphas"
    for name in evaluator_names.evaluators_of(run.config.sweep):
        if name not in ("accuracy", "table"):
            yield "sweep", f"the evaluation of candidates by {name!r}"


def _supernet_step(run, devices):
    train, training = run.config.supernet.train, supernet.training(run, devices)
    members = run.variant.selection.size if run.variant.selection else 1
    many = f"{members} supernets, " if members > 1 else ""
    return Program(
        "training step of the population" if members > 1 else "training step of the supernet",
        "supernet",
        f"{many}{train.batch_size:,} images",
        training.lowered,
        members * (run.config.supernet.archs_per_step or 1) * train.batch_size / len(devices),
        field="supernet.train.batch_size",
        multiple=train.ghost_batch_size * _replicas(members, devices),
        taken=_taken_by_training(run),
    )


def _replicas(members, devices):
    """Return the devices among which the ghost batches of each member divide."""
    return len(devices) // math.gcd(members, len(devices))


# -- a round of candidates ------------------------------------------------------------------------


def _rounds(run, devices):
    """Yield the round of random candidates, and under "dispatch" that of candidates all alike."""
    sweep, size = run.config.sweep, run.config.sweep.candidates_per_batch
    net, shape = run.supernet(), run.data.image_shape
    drawn = jax.device_get(run.space.sample(rng.key(1), (size,)))
    alike = jax.tree.map(lambda mask: np.stack([mask[0]] * size), drawn)
    # With "recalibrate" each candidate has variables of its own, and is evaluated by itself.
    plans = [drawn, alike] if sweep.bn != "recalibrate" else []
    planned = [schedule.plan(net, archs, len(devices))[1] for archs in plans] or [net]
    nets = list(dict.fromkeys(planned))
    for one, kind in zip(nets, ("", " that are all alike")):
        yield Program(
            "a round of candidates",
            "sweep",
            f"{size} candidates{kind} on {sweep.batch_size} images",
            functools.partial(_lowered_round, run, devices, one),
            size * sweep.batch_size / len(devices),
            # Every device has all images of the sweep; a batch of them is among the arguments.
            resident=(sweep.num_images - sweep.batch_size) * math.prod(shape),
            # The last takes the most, and so decides how many fit.
            field="sweep.candidates_per_batch" if one is nets[-1] else "",
            multiple=len(devices),
            taken=_taken_by_scoring(run),
        )


def _options_on(run) -> dict[int, float]:
    """Return {number of options of a Choice: how many are on, the mean of random architectures}."""
    drawn = jax.tree.leaves(run.space.sample(rng.key(1), (1024,)))
    on: dict[int, list] = {}
    for choice, mask in zip(jax.tree.leaves(run.space.choices), drawn):
        on.setdefault(choice.num_options, []).append(float((mask > 0).sum(-1).mean()))
    return {count: float(np.mean(means)) for count, means in on.items()}


def _taken_by_scoring(run) -> Taken:
    """Return what "switch" runs where it evaluates: a loop over the options that are on."""
    if run.network.execution != "switch":
        return Taken()
    on = _options_on(run)
    return Taken({count: (1 / count,) * count for count in on}, on)


def _taken_by_training(run) -> Taken:
    """Return what "switch" runs where it trains: a conditional for each option, off or on."""
    if run.network.execution != "switch":
        return Taken()
    on = _options_on(run)
    share = sum(on.values()) / sum(on)
    return Taken({2: (1 - share, share)})


def _lowered_round(run, devices, net):
    """Lower the program by which a network evaluates a round of candidates on a batch."""
    sweep, fixed = run.config.sweep, run.config.sweep.bn != "batch"
    count = accuracy.compiled_correct(
        net.clone(bn="running") if fixed else net,
        prepare=augment.standardiser(run.data),
        devices=devices,
        metric=run.config.metric,
    )
    archs, params = _archs(run, devices), params_shape(run.supernet(), run.data.image_shape)
    variables, each = {"params": params}, {}
    if fixed:
        stats = jax.eval_shape(_gather(run, net), params, _batches(run), _one_by_one(archs))
        each = {"batch_stats": _leading(stats, len(devices))}
        if sweep.bn == "running":
            alone = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), stats)
            variables, each = variables | {"batch_stats": alone}, {}
    images = jax.ShapeDtypeStruct((sweep.batch_size, *run.data.image_shape), np.uint8)
    labels = jax.ShapeDtypeStruct((sweep.batch_size,), np.int32)
    return count.lower(variables, each, images, labels, archs)


def _calibration(run, devices):
    sweep = run.config.sweep

    def lower():
        gather = _gather(run, run.supernet())
        mapped = distributed.pmap(gather, split={"archs"}, split_out=True, devices=devices)
        params = params_shape(run.supernet(), run.data.image_shape)
        return mapped.lower(params, _batches(run), _archs(run, devices))

    return Program(
        "calibration of a round",
        "sweep",
        f"{sweep.candidates_per_batch} candidates on {sweep.calibration_images:,} images",
        lower,
        sweep.candidates_per_batch * sweep.calibration_images / len(devices),
    )


def _gather(run, net):
    prepare = augment.standardiser(run.data)

    def gather(params, batches, archs):
        return batch_statistics.gather_each(net, params, batches, archs, prepare)

    return gather


def _batches(run):
    sweep = run.config.sweep
    count = sweep.calibration_images // sweep.batch_size
    shape = (count, sweep.batch_size, *run.data.image_shape)
    return jax.ShapeDtypeStruct(shape, np.uint8)


def _archs(run, devices):
    """Return the shapes of a round's masks [D, g, k]."""
    size = run.config.sweep.candidates_per_batch
    whole = jax.eval_shape(lambda: run.space.sample(rng.key(1), (size,)))
    split = lambda archs: distributed.shard(archs, len(devices))  # noqa: E731
    return jax.eval_shape(split, whole)


def _one_by_one(archs):
    """Return the shapes of the masks [g, k] of one device."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), archs)


def _leading(tree, size):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), tree)


# -- stand-alone networks -------------------------------------------------------------------------


def _networks(run, protocol, devices) -> Iterator[Program]:
    """Yield the training step of a protocol's networks, of the largest F, if it has any.

    The network alone is that of all options: no architecture takes more.
    """
    settings = run.config.retrain[protocol]
    count = sum(settings.groups[group] for group in settings.groups)
    if not count or not settings.filters:
        return
    filters = max(settings.filters)
    if together.choose(run.config, protocol, devices) == "each":
        text = run.space.to_str(run.space.all_on())
        yield _alone(run, f"retrain.{protocol}", protocol, text, filters, devices, "of all options")
        return
    lot = together.Together(run, protocol, retrain.SPLITS[protocol], count, devices)
    many = "1 network" if lot.size == 1 else f"{lot.size} networks"
    size = settings.train.batch_size
    yield Program(
        f"training step of {many} together",
        f"retrain.{protocol}",
        f"{size:,} images, F = {filters}",
        lot.training(filters).lowered,
        lot.size * size / min(len(devices), lot.size),
        field=f"retrain.{protocol}.train.batch_size",
        multiple=settings.train.ghost_batch_size * len(devices),
    )


def _named(run, devices):
    """Make the training step of the first architecture of `retrain.archs`."""
    filters = max(run.config.retrain[named.PROTOCOL].filters)
    text = run.config.retrain.archs[0]
    return _alone(run, "retrain", named.PROTOCOL, text, filters, devices, "of retrain.archs")


def _alone(run, stage, protocol, text, filters, devices, which):
    train = run.config.retrain[protocol].train
    members, count = 1, retrain.num_devices(train, devices)
    if populations.are_asked_for(run.config, protocol):
        members = populations.size(run.config, run.space, protocol)
        count = populations.num_devices(members, train, len(devices))
    many = f"{members} members, " if members > 1 else ""
    return Program(
        f"training step of a network {which}",
        stage,
        f"{many}{train.batch_size:,} images, F = {filters}",
        retrain.training_of(run, protocol, text, filters, devices).lowered,
        members * train.batch_size / count,
        field=f"retrain.{protocol}.train.batch_size",
        multiple=train.ghost_batch_size * _replicas(members, devices),
    )
