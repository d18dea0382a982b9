"""A run of which the numbers are known: its files grow and its events come as those of a run do."""

from pathlib import Path

import numpy as np
from jax import random

from nas_jax import config as config_lib
from nas_jax import spaces
from nas_jax.config import variants
from nas_jax.runtime import events
from nas_jax.spaces import arch_id
from nas_jax.storage import json_files

SPACE = spaces.make("cell", num_cells=1, num_blocks=2, ops=("identity", "sep3x3", "maxpool"))
ARCHS = list(dict.fromkeys(SPACE.to_strs(SPACE.sample(random.key(0), (40,)))))[:20]
VALUES = [None, 0.25, 0.5, 0.125, None, 0.375, 0.625, 0.75, 0.25, 0.5, 0.125, 0.375]
BEST = 7  # the number of the highest
ROUND = 4


def config(**fields):
    """{field: value} of a config, as listeners get it."""
    c = config_lib.default()
    sizes = {"sweep.num_candidates": len(VALUES), "sweep.candidates_per_batch": ROUND}
    c.update_from_flattened_dict({**sizes, **fields})
    return dict(variants.flatten(c))


def rows(values=VALUES):
    """Lines of trials.jsonl with these values."""
    return [
        {
            "arch": arch,
            "value": value,
            "params": 100 + number,
            "flops": 1000 + number,
            "latency_ms": None,
            "num_images": 64,
        }
        for number, (arch, value) in enumerate(zip(ARCHS, values))
    ]


def begin(workdir, **fields):
    """Tell that a run begins, or goes on."""
    begun = {"mode": "search", "config": config(**fields), "space": SPACE}
    events.emit("begin", Path(workdir), begun)


def end(workdir, status="done"):
    """Tell that it ends."""
    events.emit("end", Path(workdir), {"status": status})


def train(folder, losses, start=0):
    """Train for a step for each loss, after step `start`."""
    path = Path(folder) / "metrics.jsonl"
    json_files.cut_jsonl(path, start)
    for step, loss in enumerate(losses, start + 1):
        row = {"step": step, "loss": loss, "accuracy": 0.5, "learning_rate": 0.125}
        row["asked_accuracy"] = 0.25
        json_files.append_jsonl(path, [row])
        events.emit("metrics", Path(folder), row, step)


def sweep(workdir, trials, killed_after=None):
    """Evaluate the candidates that trials.jsonl lacks, in rounds."""
    path = Path(workdir) / "trials.jsonl"
    for first in range(0, len(trials), ROUND):
        there = json_files.count_lines(path)
        if there < min(first + ROUND, len(trials)):
            new = trials[there : first + ROUND]
            json_files.append_jsonl(path, new)
            if first == killed_after:  # after the lines were written, before anyone was told
                return
            events.emit("candidates", Path(workdir), new, there)


def network(workdir, seed, accuracy, killed=False):
    """Train the best architecture alone, and evaluate it; return its folder."""
    folder = Path(workdir) / "retrain" / "final" / "F4" / arch_id(ARCHS[BEST]) / f"seed{seed}"
    train(folder, [2.0, 1.0])
    result = {
        "arch": ARCHS[BEST],
        "filters": 4,
        "seed": seed,
        "params": 107,
        "flops": 1007,
        "valid_accuracy": None,
        "test_accuracy": accuracy,
    }
    json_files.write_json(folder / "result.json", result)
    if not killed:  # after the file was written, before anyone was told
        events.emit("network", folder, result)
    return folder


def whole(workdir):
    """Run all of it."""
    Path(workdir).mkdir(parents=True, exist_ok=True)
    begin(workdir)
    train(workdir, [4.0, 3.0, 2.0])
    sweep(workdir, rows())
    for seed, accuracy in enumerate((0.5, 0.75)):
        network(workdir, seed, accuracy)
    end(workdir)


def best_so_far(trials):
    """{candidates: best value} after each round, by brute force; none where none has a value."""
    counts = [*range(ROUND, len(trials), ROUND), len(trials)]
    found = {}
    for count in counts:
        values = [row["value"] for row in trials[:count] if row["value"] is not None]
        if values:
            found[count] = float(np.max(values))
    return found
