"""Says whether a run fits a target, before the queue: `--mode=check --target=NAME`.

All of it is the compiler's word and arithmetic: nothing runs on a target.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import build
from nas_jax.aot import footprint, programs, targets
from nas_jax.aot.footprint import Footprint
from nas_jax.aot.programs import Program
from nas_jax.aot.targets import Target
from nas_jax.data.dataset import Data
from nas_jax.nn import execution, network
from nas_jax.run import Run
from nas_jax.runtime.progress import duration
from nas_jax.spaces import Space

logger = logging.getLogger(__name__)

_GIB = 2**30
TRIES = 5  # compilations to find a largest size
SIZED = ("supernet", "sweep")  # stages whose largest size is looked for even if theirs fits


def made_for(config: ConfigDict, target: Target) -> ConfigDict:
    """Copy a config; what it leaves to the platform ("auto") is chosen for the target."""
    config = config.copy_and_resolve_references()
    config.supernet.execution = execution.resolve(config.supernet.execution, target.platform)
    if config.network.dtype == "auto":
        config.network.dtype = network.default_dtype(target.platform)
    return config


def text(
    config: ConfigDict,
    directory: str | Path,
    name: str,
    *,
    space: Space | None = None,
    data: Data | None = None,
) -> str:
    """Compile the programs of a run for a target, and say what they take and which sizes fit.

    Args:
      config: of the run, checked.
      directory: its workdir, in which nothing is written.
      name: of `targets.TARGETS`.
      space, data: objects to use instead of what the config names; None: what it names.

    Raises: ValueError if there is no such target, its compiler is not installed, or the run cannot
      be built for that many devices.
    """
    target = targets.of(name)
    with targets.compiling():
        return _text(config, directory, name, target, space, data)


def _text(config, directory, name, target, space, data):
    devices, local = targets.devices(name), targets.local_devices(name)
    run = build.build_run(
        made_for(config, target), directory, space=space, data=data, num_devices=len(devices)
    )
    found = [(one, _compiled(one, target)) for one in programs.of(run, devices, local)]
    lines = [
        f"{name}: {len(devices)} x {target.kind}, {target.memory / _GIB:.1f} GiB each for "
        f"programs; compiled for it in {duration(sum(f.seconds for _, f in found))}, not run on it",
        "",
        *(line for pair in found for line in _lines(*pair, target)),
        *(f"  {stage}: not compiled: {what}" for stage, what in programs.left_out(run)),
        "",
        "Times are at the device's peaks of memory and products: no run is faster.",
    ]
    larger = list(_largest_of_each(run, (devices, local), target, found))
    return "\n".join([*lines, *(["", "Largest that fits:", *larger] if larger else [])])


def _compiled(program, target):
    logger.info("compiling for %s: %s, %s", target.kind, program.name, program.work)
    return footprint.of(program, target)


def _lines(program: Program, found: Footprint, target: Target) -> Iterator[str]:
    verdict = "fits" if found.fits else "DOES NOT FIT"
    yield f"  {program.stage}: {program.name}, {program.work}: {verdict}"
    if math.isinf(found.needs):
        yield f"    memory    more than {found.limit / _GIB:.2f} GiB"
        return
    yield (
        f"    memory    {found.needs / _GIB:.2f} of {found.limit / _GIB:.2f} GiB, of which "
        f"{found.temporaries / _GIB:.2f} are temporary"
    )
    if found.counts is None:
        return
    seconds, by = footprint.roofline(found.counts, target)
    yield (
        f"    an execution moves {found.counts.bytes / 1e9:,.2f} GB "
        f"({found.counts.bytes / program.images / 1e6:.1f} MB an image) and takes "
        f"{found.counts.flops / 1e9:,.0f} GFLOP in products: at least {1000 * seconds:.1f} ms, for "
        f"its {by}"
    )
    for kind, (many, size) in found.counts.collectives.items():
        yield f"    {kind}: {many:,.0f} of {size / 1e6:.2f} MB in all"
    if found.counts.unknown_loops:
        yield f"    {found.counts.unknown_loops} loops of unknown length are counted once"


# -- the largest size that fits ------------------------------------------------------------------


def _largest_of_each(run, devices, target, found) -> Iterator[str]:
    for program, taken in found:
        if not program.field or (taken.fits and program.stage not in SIZED):
            continue

        def at(size, like=program):
            every = programs.of(_with(run, like.field, size), *devices)
            return next(one for one in every if (one.name, one.field) == (like.name, like.field))

        size, is_sure = largest(
            lambda size, at=at: _compiled(at(size), target),
            _value(run, program.field),
            program.multiple,
            _most(run, program),
            taken,
        )
        what = at(size).work if size else "no size that was tried; lower filters"
        unsure = "" if is_sure or not size else "at least "
        yield f"  {program.name}: {unsure}{what} (config.{program.field})"


def largest(
    compiled: Callable[[int], Footprint], size: int, multiple: int, most: int, taken: Footprint
) -> tuple[int, bool]:
    """Find the largest size of a program that fits; each answer was compiled.

    Args:
      compiled: (size) -> what the program of that size takes.
      size: the first, that has the footprint `taken`.
      multiple: sizes are multiples of it.
      most: the largest that makes sense.
      taken: what the program of `size` takes.

    Returns: the size, 0 if none was found; and whether the next multiple is known not to fit, or is
      more than `most`.
    """
    ends = (size, most // multiple * multiple + multiple) if taken.fits else (0, size)
    points = [(size, taken)]
    for _ in range(TRIES):
        if ends[1] - ends[0] <= multiple:
            break
        guess = _where_it_fills(points, ends) // multiple * multiple
        guess = int(min(max(guess, ends[0] + multiple), (ends[1] - 1) // multiple * multiple))
        found = compiled(guess)
        ends = (guess, ends[1]) if found.fits else (ends[0], guess)
        points.append((guess, found))
    return ends[0], ends[1] - ends[0] <= multiple


def _where_it_fills(points, ends) -> float:
    """Return the size at which the memory is full, on a line through the last two points.

    Through one point the line is that of temporaries which grow with the size alone. It is the
    middle of the ends if the last point says no number.
    """
    known = [(size, one) for size, one in points if math.isfinite(one.needs)][-2:]
    if math.isinf(points[-1][1].needs):
        return sum(ends) / 2
    size, one = known[-1]
    slope = one.temporaries / size
    if len(known) == 2:
        slope = (one.needs - known[0][1].needs) / (size - known[0][0])
    return size + (one.limit - one.needs) / slope if slope > 0 else ends[1]


def _value(run, field) -> int:
    value = run.config
    for name in field.split("."):
        value = value[name]
    return value


def _most(run, program) -> int:
    if program.stage == "sweep":
        return run.config.sweep.num_candidates
    return run.data.num_images("train")


def _with(run, field, value) -> Run:
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict({field: value})
    return dataclasses.replace(run, config=config)
