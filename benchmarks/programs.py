"""The programs that a digits search compiles: how many, which, and how long XLA takes.

The search is short (`SHORT`), since the number of programs does not depend on its length. It runs
in two fresh processes with one compilation cache, which is empty for the first: "cold", then
"warm", where a program is traced and then read. A program that takes XLA less than `LARGE` seconds
is small, such as the one that makes a random key; all small ones together are one line.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
import time

import jax

from benchmarks import harness
from configs import digits
from nas_jax import pipeline

_CHILD = "NAS_JAX_BENCHMARK_CHILD"
LARGE = 0.3
SHORT = {
    "supernet.train.num_steps": 40,
    "sweep.num_candidates": 32,
    "retrain.short.groups.random": 2,
    "retrain.short.groups.stratified": 0,
    "retrain.short.train.num_epochs": 0.3,
    "retrain.final.groups.random": 0,
    "retrain.final.groups.top": 1,
    "retrain.final.groups.small": 0,
    "retrain.final.train.num_epochs": 0.3,
}


def run(args) -> None:
    """Print and record the programs of both processes."""
    if os.environ.get(_CHILD):
        print(json.dumps(_measure()))
        return
    with tempfile.TemporaryDirectory() as cache:
        runs = {name: _child(cache) for name in ("cold", "warm")}
    large = [name for name, seconds in runs["cold"]["programs"] if seconds >= LARGE]
    for name, found in runs.items():
        programs, wall = found["programs"], found["seconds"]
        by_xla = sum(seconds for _, seconds in programs)
        print(f"{name}: {wall:.0f} s, {len(programs)} programs, of which {by_xla:.1f} s")
    for name in large:
        seconds = [sum(s for n, s in found["programs"] if n == name) for found in runs.values()]
        print(f"  {name}: compiled {seconds[0]:.1f} s, read {seconds[1]:.1f} s")
    print(f"{len(large)} programs take {LARGE} s or more", flush=True)
    harness.record(args, "programs of a digits search", unit="seconds", **runs)


def _child(cache):
    settings = {"JAX_COMPILATION_CACHE_DIR": cache, _CHILD: "1"}
    settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    out = subprocess.run(
        command, env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(out.stdout.splitlines()[-1])


def _measure():
    programs, counts = [], collections.Counter()

    def listen(event, seconds, fun_name="", **_):
        if event.endswith("backend_compile_duration"):
            counts[fun_name] += 1
            number = f" {counts[fun_name]}" if counts[fun_name] > 1 else ""
            programs.append((fun_name + number, seconds))

    jax.monitoring.register_event_duration_secs_listener(listen)
    config = digits.get_config()
    config.update_from_flattened_dict(SHORT)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        pipeline.run(config, "search", f"{folder}/run")
    return {"seconds": time.perf_counter() - began, "programs": programs}
