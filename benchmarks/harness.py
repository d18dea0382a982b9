"""Interleaved repeats, medians, ratios; a line to read and a line of JSON per case."""

import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax


def interleave(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call: after a first one each, one of every function in turn, repeatedly.

    A function returns when its work is done.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def compare(
    args: Any,
    case: str,
    functions: Mapping[str, Callable[[], Any]],
    *,
    work: float,
    unit: str,
    baseline: str = "torch",
    **facts: Any,
) -> dict[str, float]:
    """Measure and record a case; returns `work` per second of each function (its median).

    `baseline` names those functions, by the start of their names, of which the fastest is compared.
    """
    seconds = interleave(functions, args.repeats)
    rates = {name: work / statistics.median(times) for name, times in seconds.items()}
    base = max((rate for name, rate in rates.items() if name.startswith(baseline)), default=None)
    parts = []
    for name, rate in rates.items():
        ratio = "" if base is None or name.startswith(baseline) else f" ({rate / base:.2f}x)"
        parts.append(f"{name} {rate:.3g} {unit}/s{ratio}")
    print(f"{case}: " + ", ".join(parts), flush=True)
    record(args, case, unit=unit, rates=rates, seconds=seconds, **facts)
    return rates


def record(args: Any, case: str, *, device: str | None = None, **facts: Any) -> None:
    """Append a line of JSON: what was measured, on what, with which versions.

    `device` is asked of JAX where it is not given.
    """
    row = {
        "benchmark": args.name,
        "case": case,
        **facts,
        "arguments": vars(args),
        "commit": commit(),
        "device": device or device_name(),
        "peak_memory": _peak_memory(),
        "versions": {name: _version(name) for name in ("jax", "jaxlib", "flax", "torch")},
        "bn": "batch",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    path = Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def commit() -> str:
    """$NAS_JAX_COMMIT, for a copy of the repository without its history; else what git says."""
    if given := os.environ.get("NAS_JAX_COMMIT"):
        return given
    command = ["git", "describe", "--always", "--dirty"]
    if shutil.which("git") is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def device_name() -> str:
    """What JAX computes on; of a CPU its model."""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return kind
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _peak_memory():
    """Return the most bytes that the first device held until now; None where JAX cannot say."""
    stats = jax.devices()[0].memory_stats()  # None on a CPU
    return stats and stats.get("peak_bytes_in_use")


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
