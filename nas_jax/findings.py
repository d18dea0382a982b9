"""What the files of a run say, read once and joined: the numbers that a report is written from."""

import statistics
from pathlib import Path
from typing import NamedTuple

from nas_jax import workdir
from nas_jax.spaces import Space

SAMPLES = ("random", "stratified")  # what ranking is measured on
GROUPS = ("top", "small", *SAMPLES, "all_on")


class Network(NamedTuple):
    """A stand-alone network; accuracies in per cent, one per seed."""

    arch: str
    params: int
    flops: int
    accuracies: list[float]
    one_shot: float | None

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return round(statistics.fmean(self.accuracies), 9)  # equal ones must tie when ranked


class Findings:
    """What the files of a run say; empty where a file is missing.

    Attributes:
      config, versions: config.json and versions.json.
      metrics, trials: the lines of the two .jsonl files.
      scored: the trials that have a one-shot accuracy.
      ranked: the scored architectures, one line each, the best first.
      short, final: {(filters, group): networks} of the two protocols of stand-alone training.
      samples: those of `short` that ranking is measured on.
    """

    def __init__(self, directory: Path, space: Space):
        self.directory, self.space, self.out = directory, space, directory / "report"
        self.config, self.versions = self._json("config.json"), self._json("versions.json")
        self.metrics = workdir.read_jsonl(directory / "metrics.jsonl")
        self.trials = workdir.read_jsonl(directory / "trials.jsonl")
        self.scored = [row for row in self.trials if row["one_shot_accuracy"] is not None]
        unique = {row["arch"]: row for row in self.scored}
        self.ranked = sorted(unique.values(), key=lambda r: (-r["one_shot_accuracy"], r["arch"]))
        self._one_shot = {a: 100 * row["one_shot_accuracy"] for a, row in unique.items()}
        self.short, self.final = self._groups("short", "valid"), self._groups("final", "test")
        self.samples = {key: group for key, group in self.short.items() if key[1] in SAMPLES}

    def _json(self, name):
        path = self.directory / name
        return workdir.read_json(path) if path.exists() else {}

    def _groups(self, protocol, split):
        results: dict[tuple, list] = {}
        for path in (self.directory / "retrain" / protocol).glob("F*/*/seed*/result.json"):
            row = workdir.read_json(path)
            results.setdefault((row["filters"], row["arch"]), []).append(row)
        networks = {key: self._network(rows, split) for key, rows in results.items()}
        selection = self._json(f"retrain/{protocol}/selection.json")
        groups = {
            (filters, name): [networks[filters, a] for a in archs if (filters, a) in networks]
            for filters in sorted({filters for filters, _ in networks})
            for name in GROUPS
            for archs in [selection.get(name, ())]
        }
        return {key: group for key, group in groups.items() if group}

    def _network(self, rows, split):
        accuracies = [100 * row[f"{split}_accuracy"] for row in rows]
        arch, params, flops = (rows[0][field] for field in ("arch", "params", "flops"))
        return Network(arch, params, flops, accuracies, self._one_shot.get(arch))


def columns(networks: list[Network], *fields: str) -> list[list]:
    """The values of each field, a list per field."""
    return [[getattr(network, field) for network in networks] for field in fields]
