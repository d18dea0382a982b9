"""Sweeps, files and reports of the size of a week's search: seconds and memory.

  python -m tests.stress.load
  python -m tests.stress.load --candidates 5000 --scored 400 --lines 10000 --trials 2000

Seconds and memory must not depend on how far a sweep is; what is read at a start must not depend
on how long metrics.jsonl is.
"""

import argparse
import csv
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from nas_jax import build, spaces
from nas_jax.candidates import sweep
from nas_jax.report import markdown, page
from nas_jax.spaces import Space
from nas_jax.storage import json_files
from nas_jax.training import supernet
from tests.configs import tiny

HEADER = ("what", "n", "seconds", "a second, first", "a second, last", "MB, first", "MB, last")
BENCHMARK = {"name": "nasbench201", "num_cells": 1, "num_stages": 1}  # 15,625 architectures
WARM, SPAN = 2_000, 1_000  # candidates before the first measurement, and of each


def resident() -> float:
    """Megabytes of this process in memory."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmRSS:") + 1]) / 1024


class Rounds(logging.Handler):
    """(candidates so far, what the clock says, memory) after each round of a sweep that is run
    while this listens to it; `memory` measures."""

    def __init__(self, memory: Callable[[], float] = resident):
        super().__init__()
        self.memory, self.samples = memory, []

    def emit(self, record):
        """A round's line in the log."""
        self.samples.append((record.args[0], time.perf_counter(), self.memory()))

    def __enter__(self):
        sweep.logger.addHandler(self)
        sweep.logger.setLevel(logging.INFO)
        sweep.logger.propagate = False
        return self

    def __exit__(self, *_):
        sweep.logger.removeHandler(self)
        sweep.logger.propagate = True

    def near(self, candidates: int) -> tuple:
        """The first sample after so many candidates, or the last."""
        later = (sample for sample in self.samples if sample[0] >= candidates)
        return next(later, self.samples[-1])

    def speed(self, first: int, last: int) -> float:
        """Candidates a second between two numbers of candidates."""
        (done, began, _), (more, ended, _) = self.near(first), self.near(last)
        return (more - done) / (ended - began)


# -- made-up files --------------------------------------------------------------------------------


def write_table(path: Path, archs: Iterable[str], seed: int = 0) -> None:
    """A CSV table of made-up accuracies."""
    generator = np.random.default_rng(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "digits_valid_accuracy", "digits_test_accuracy"])
        for arch in archs:
            valid, test = 70 + generator.normal(0, 5) + generator.normal(0, 2, 2)
            writer.writerow([arch, f"{valid:.2f}", f"{test:.2f}"])


def write_metrics(path: Path, lines: int) -> None:
    """A metrics.jsonl of a training that logs every 10 steps."""
    fields = {"accuracy": 0.5, "learning_rate": 0.1, "drop_share": 0.3, "images_per_second": 1e4}
    rows = ({"step": 10 * i, "loss": 2 / i**0.2, **fields} for i in range(1, lines + 1))
    json_files.append_jsonl(path, rows)


def write_trials(path: Path, archs: Iterable[str], seed: int = 0) -> None:
    """A trials.jsonl of made-up accuracies."""
    generator = np.random.default_rng(seed)
    fields = {"num_images": 10_000, "latency_ms": None, "status": "ok", "score": "accuracy"}
    fields |= {"bn": "batch", "num_batches": 10, "strategy": "random_search", "seed": 0}
    rows = (
        {
            "arch": arch,
            "value": round(generator.uniform(0.2, 0.9), 4),
            "params": int(generator.integers(10**6, 10**7)),
            "flops": int(generator.integers(10**7, 10**9)),
            **fields,
        }
        for arch in archs
    )
    json_files.append_jsonl(path, rows)


def different(space: Space, count: int) -> list[str]:
    """So many random architectures, each once."""
    found: dict[str, None] = {}
    for number in range(100):
        key = jax.random.fold_in(jax.random.key(0), number)
        found |= dict.fromkeys(space.to_strs(space.sample(key, (count,))))
        if len(found) >= count:
            break
    return list(found)[:count]


# -- what is measured -----------------------------------------------------------------------------


def table_config(path: Path, candidates: int, options: dict = BENCHMARK) -> ConfigDict:
    """A search by evolution in a table of a whole space, which is written."""
    config = tiny.get_config()
    config.space = ConfigDict(options)
    space = spaces.make(**options)
    decisions = np.concatenate(list(space.enumerate_decisions()))
    write_table(path, space.to_strs(space.from_decisions(decisions)))
    config.table, config.sweep.score, config.sweep.strategy = str(path), "table", "evolution"
    config.sweep.num_candidates, config.sweep.candidates_per_batch = candidates, 200
    return config


def _swept(what: str, config: ConfigDict, directory: Path) -> Iterator[tuple]:
    run = build.build_run(config, directory)
    supernet.train(run)
    n, began = config.sweep.num_candidates, time.perf_counter()
    with Rounds() as rounds:
        sweep.search(run)
    warm, span = min(WARM, n // 4), min(SPAN, n // 4)
    speeds = rounds.speed(warm, warm + span), rounds.speed(n - span, n)
    seconds, memory = time.perf_counter() - began, (rounds.near(warm)[2], rounds.near(n)[2])
    yield what, n, seconds, *speeds, *memory
    yield from _timed(f"{what}, again", n, lambda: sweep.search(run))


def _timed(what: str, n: int, run: Callable[[], object]) -> Iterator[tuple]:
    first, began = resident(), time.perf_counter()
    run()
    yield what, n, time.perf_counter() - began, "", "", first, resident()


def measure(directory: Path, sizes: argparse.Namespace) -> Iterator[tuple]:
    """Rows of a table with the header `HEADER`."""
    config = table_config(directory / "table.csv", sizes.candidates)
    yield from _swept("sweep in a table", config, directory / "table")
    config = tiny.get_config()
    config.sweep.num_candidates = sizes.scored
    yield from _swept("sweep with a supernet", config, directory / "supernet")
    run = directory / "run"
    run.mkdir()
    write_metrics(run / "metrics.jsonl", sizes.lines)
    cut = 10 * sizes.lines - 500
    metrics = run / "metrics.jsonl"
    yield from _timed("cut metrics.jsonl", sizes.lines, lambda: json_files.cut_jsonl(metrics, cut))
    space = spaces.make("cell")
    archs = different(space, sizes.trials)
    write_trials(run / "trials.jsonl", archs)
    write_table(run / "table.csv", archs)
    for what, fields in {"report": {}, "with a table": {"table": str(run / "table.csv")}}.items():
        json_files.write_json(run / "config.json", fields)
        yield from _timed(what, sizes.trials, lambda: page.write(run, space))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--candidates", type=int, default=100_000, help="of the sweep in a table")
    parser.add_argument("--scored", type=int, default=5_000, help="of the sweep with a supernet")
    parser.add_argument("--lines", type=int, default=600_000, help="of metrics.jsonl")
    parser.add_argument("--trials", type=int, default=100_000, help="of the report")
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = list(measure(Path(directory), sizes))
    print(markdown.table(HEADER, rows))


if __name__ == "__main__":
    main()
