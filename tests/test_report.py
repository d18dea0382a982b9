"""The report of a small made-up run: every number in it can be worked out from `make_run`."""

import json
from pathlib import Path

import jax
import pytest

from nas_jax import report, spaces

SPACE = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1)
NUM_TRIALS = 40
SECTIONS = (
    "The space",
    "Training of the one-shot model",
    "One-shot accuracy",
    "The best architectures",
    "How well scores rank",
    "Regret",
    "Final networks",
    "Accuracy and size",
    "How it was run",
)


def _archs():
    """NUM_TRIALS different architectures."""
    masks = SPACE.sample(jax.random.key(0), (NUM_TRIALS + 20,))
    texts = [SPACE.to_str(jax.tree.map(lambda m, i=i: m[i], masks)) for i in range(NUM_TRIALS + 20)]
    return list(dict.fromkeys(texts))[:NUM_TRIALS]


ARCHS = _archs()
ALL_ON = SPACE.to_str(SPACE.all_on())
SELECTION = {
    "short": {"random": ARCHS[:12], "stratified": ARCHS[::3], "top": [], "small": [], "all_on": []},
    "final": {
        "random": ARCHS[20:23],
        "stratified": [],
        "top": ARCHS[:2],
        "small": ARCHS[5:6],
        "all_on": [ALL_ON],
    },
}


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _trial(i):
    """Architecture i scores 90 % - i; the last one failed."""
    failed = i == NUM_TRIALS - 1
    return {
        "arch": ARCHS[i],
        "one_shot_accuracy": None if failed else 0.9 - 0.01 * i,
        "num_images": 100,
        "params": 1_000_000 + 1000 * (i * 7 % NUM_TRIALS),
        "flops": 20_000_000 + 1000 * (i * 11 % NUM_TRIALS),
        "status": "failed" if failed else "ok",
    }


def _result(arch, protocol, filters, seed):
    """Stand-alone accuracy falls with the rank: 95 % - rank / 10, seeds 0.1 % above and below."""
    i = ARCHS.index(arch) if arch in ARCHS else 0
    trial = _trial(i)
    accuracy = 0.95 - 0.001 * i + 0.001 * (1 - 2 * seed)
    return {
        "arch": arch,
        "filters": filters,
        "seed": seed,
        "params": trial["params"],
        "flops": trial["flops"],
        "valid_accuracy": accuracy if protocol == "short" else None,
        "test_accuracy": None if protocol == "short" else accuracy,
    }


def _retrain(directory, protocol, filters):
    root = directory / "retrain" / protocol
    _write(root / "selection.json", json.dumps(SELECTION[protocol]))
    for arch in {arch for group in SELECTION[protocol].values() for arch in group}:
        for seed in range(2):
            path = root / f"F{filters}" / spaces.arch_id(arch) / f"seed{seed}" / "result.json"
            _write(path, json.dumps(_result(arch, protocol, filters, seed)))


def make_run(directory: Path) -> Path:
    """Every file that the report reads."""
    _write(directory / "config.json", json.dumps({"seed": 7, "space": {"name": "cell"}}))
    _write(directory / "versions.json", json.dumps({"jax": "0.0.1"}))
    steps = [
        {"step": s, "loss": 1 / s, "accuracy": 0.5, "learning_rate": 0.1, "drop_rate": s / 400}
        for s in range(100, 500, 100)
    ]
    _write(directory / "metrics.jsonl", _lines(steps))
    _write(directory / "trials.jsonl", _lines(map(_trial, range(NUM_TRIALS))))
    _retrain(directory, "short", 8)
    _retrain(directory, "final", 16)
    return directory
