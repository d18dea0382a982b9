"""Time to trace and compile the training step: cold, and read back from the persistent cache."""

import os
import subprocess
import sys
import tempfile
import time

import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.train_step import jax_step
from benchmarks.workload import Workload
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import rng

_CHILD = "NAS_JAX_BENCHMARK_CHILD"


def run(args) -> None:
    """Two fresh processes per execution with one cache folder, empty for the first."""
    if os.environ.get(_CHILD):
        print(_measure(args, os.environ[_CHILD]))
        return
    for execution in args.executions:
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (_child(cache, execution) for _ in range(2))
        case = f"training step, {execution}, {args.threads} threads"
        for name, (trace, compilation) in {"cold": cold, "warm": warm}.items():
            print(f"{case}, {name}: trace {trace:.1f} s, compile {compilation:.1f} s", flush=True)
        harness.record(args, case, cold=cold, warm=warm, unit="seconds (trace, compile)")


def _child(cache, execution):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, _CHILD: execution}
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [float(number) for number in out.stdout.split()[-2:]]


def _measure(args, execution):
    workload = Workload(args)
    step = started(args, workload, execution)
    began = time.perf_counter()
    lowered = step.lower()
    traced = time.perf_counter()
    lowered.compile()
    return f"{traced - began} {time.perf_counter() - traced}"


def started(args, workload: Workload, execution: str):
    """A training step with dropped paths, not yet compiled."""
    num_groups = args.batch_size // args.ghost_batch_size
    labels = np.zeros(args.batch_size, np.int32)
    start = jax_step(workload, execution, workload.images(args.batch_size), labels, num_groups)
    masks = path_dropout.sample(
        rng.key(2), workload.space.choices, jnp.arange(num_groups), r=0.1, share=1.0
    )
    return start(masks)
