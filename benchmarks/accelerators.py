"""A run's programs, compiled for an accelerator that is not there: memory, traffic, operations.

Every number is the compiler's, or counted in its text; nothing was run. The images are only shapes,
so that no data set is needed.
"""

import ast
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import harness
from nas_jax import build, naming
from nas_jax import config as config_lib
from nas_jax.aot import fit, footprint, programs, targets
from nas_jax.data.dataset import Batch, Data, Plan

_CLASSES = {"imagenet2012": 1000, "cifar100": 100}  # other sets have 10
_SIZES = {"imagenet2012": (1_231_121, 50_046, 50_000), "digits": (6_000, 2_000, 3_000)}
_CIFAR = 45_000, 5_000, 10_000


def run(args: Any) -> None:
    """Compile each program of the config for the target, a line each, and one of JSON."""
    try:
        with targets.compiling():
            _run(args)
    except ValueError as error:
        sys.exit(f"benchmarks: error: {error}")


def _run(args):
    devices, target = targets.devices(args.target), targets.TARGETS[args.target]
    config = config_lib.load(args.config)
    for execution in args.executions:
        config.supernet.execution, config.table = execution, ""
        config.sweep.candidates_per_batch = args.candidates * len(devices)
        config.update_from_flattened_dict(dict(map(_field, args.fields)))
        made = fit.made_for(config, target)
        data = _Shapes.of(made)
        run = build.build_run(made, "runs/none", data=data, num_devices=len(devices))
        every = list(programs.of(run, devices, targets.local_devices(args.target)))
        chosen = args.stages or {program.stage for program in every}
        for stage in chosen:
            naming.check("--stages", stage, [program.stage for program in every])
        for program in every:
            if program.stage in chosen:
                _report(args, execution, program, target)


def _field(text):
    """Read "supernet.remat=ops": a field, and a value that is a text where it is no literal."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def _report(args, execution, program, target):
    found = footprint.of(program, target)
    setting = ", ".join([args.target, args.config, execution, *args.fields])
    case = f"{setting}: {program.name}, {program.work}"
    facts = {name: getattr(found, name) for name in ("needs", "limit", "temporaries", "code")}
    facts |= {"fits": found.fits, "compilation": found.seconds, "images": program.images}
    line = f"{case}: {found.needs / 1e9:.2f} of {found.limit / 1e9:.2f} GB"
    if counts := found.counts:
        seconds, by = footprint.roofline(counts, target)
        facts |= {"counts": dataclasses.asdict(counts), "roofline": seconds, "bound": by}
        facts["cycles"] = counts.cycles / target.clock if target.clock else None
        line += (
            f", temporary {found.temporaries / 1e9:.2f}; moves {counts.bytes / 1e9:.2f} GB "
            f"({counts.bytes / program.images / 1e6:.2f} MB an image), {counts.flops / 1e9:.0f} "
            f"GFLOP; at least {1000 * seconds:.2f} ms ({by})"
        )
        if target.clock:
            line += f", by the compiler's cycles {1000 * counts.cycles / target.clock:.2f} ms"
        for kind, (many, size) in counts.collectives.items():
            line += f"; {many:.0f} {kind} of {size / 1e6:.2f} MB"
        if counts.unknown_loops:
            line += f"; {counts.unknown_loops} loops of unknown length count once"
    fits = "fits" if found.fits else "DOES NOT FIT"
    print(f"{line}; {fits} (compiled in {found.seconds:.0f} s)", flush=True)
    harness.record(args, case, device=f"{target.kind}, compiled only", **facts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Shapes(Data):
    """Images that are zero, made when they are asked for."""

    @classmethod
    def of(cls, config):
        name, size = config.data.name, config.data.image_size
        classes = [str(number) for number in range(_CLASSES.get(name, 10))]
        channels = 1 if name == "digits" else 3
        moments = [0.5] * channels, [0.25] * channels
        sizes = _SIZES.get(name, _CIFAR)
        return cls(name, tuple(classes), (size, size, channels), *moments, sizes, 0)

    def _content(self) -> Iterator[Any]:
        yield b"shapes"

    def _labels(self) -> np.ndarray:
        return np.zeros(sum(self.sizes), np.int32)

    def _read(self, plan: Plan, numbers: range) -> Iterator[Batch]:
        for number in numbers:
            size = len(plan(number)[0])
            yield {
                "image": np.zeros((size, *self.image_shape), np.uint8),
                "label": np.zeros(size, np.int32),
            }
