"""Time to train stand-alone networks of the digits search: each alone, and together.

Each form runs in a fresh process with an empty compilation cache, so compilation is part of it.
"each" has one device, whose threads take all cores. "together" has a device per core, as
`launch.py` makes them. Architectures are uniform; nothing is trained before. `--candidates` says
how many, `--repeats` how often both forms run, in turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from configs import digits
from nas_jax.runtime import environment, rng

_CHILD = "NAS_JAX_BENCHMARK_CHILD"
_FORMS = ("each", "together")


def run(args) -> None:
    """Print and record the seconds of both forms, and their ratio."""
    if os.environ.get(_CHILD):
        print(_measure(args, os.environ[_CHILD]))
        return
    seconds = {form: [] for form in _FORMS}
    for _ in range(args.repeats):
        for form in _FORMS:
            seconds[form].append(_child(form))
    medians = {form: statistics.median(times) for form, times in seconds.items()}
    case = f"{args.candidates} digits networks, {args.threads} cores"
    print(
        f"{case}: "
        + ", ".join(f"{form} {value:.0f} s" for form, value in medians.items())
        + f" ({medians['each'] / medians['together']:.2f}x)",
        flush=True,
    )
    harness.record(args, case, unit="seconds", seconds=seconds)


def _child(form):
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, _CHILD: form}
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        out = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
    return float(out.stdout.split()[-1])


def _measure(args, form):
    from nas_jax import build  # after the settings of the process
    from nas_jax.standalone import retrain

    config = digits.get_config()
    config.retrain.compile = form
    if form == "together":
        environment.start(build.num_cpu_devices(config))
    with tempfile.TemporaryDirectory() as folder:
        run = build.build_run(config, folder)
        archs = run.space.sample(rng.key(0), (args.candidates,))
        chosen = {"random": list(dict.fromkeys(run.space.to_strs(archs)))}
        root = Path(folder) / "retrain"
        jobs = retrain.jobs(config.retrain.short, root, chosen)
        began = time.perf_counter()
        trainer = retrain.trainer_of(run, "short", jobs, form)
        for lot in retrain.lots(jobs, trainer.size):
            trainer.train(root, lot)
        return time.perf_counter() - began
