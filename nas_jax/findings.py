"""What the files of a run say, read once and joined: the numbers that a report is written from."""

import statistics
from pathlib import Path
from typing import NamedTuple

from nas_jax import cost, tables, workdir
from nas_jax.spaces import Space

SAMPLES = ("random", "stratified")  # what ranking is measured on
GROUPS = ("top", "small", *SAMPLES, "all_on")


class Network(NamedTuple):
    """A stand-alone network; accuracies in per cent, one per seed; `valid` of a table alone."""

    arch: str
    params: int
    flops: int
    accuracies: list[float]
    one_shot: float | None
    valid: float | None = None

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
      searched_table: whether the scores are a table's own, which has nothing to judge then.
      ranked: the scored architectures, one line each, the best first.
      short, final: {(filters, group): networks} of the two protocols of stand-alone training.
      samples: {(where, group): networks} that ranking is measured on: of `short` ("F = 16",
        "random"), and those of the config's table ("published", "table").
    """

    def __init__(self, directory: Path, space: Space):
        self.directory, self.space, self.out = directory, space, directory / "report"
        self.config, self.versions = self._json("config.json"), self._json("versions.json")
        self.searched_table = self.config.get("sweep", {}).get("score") == "table"
        self.metrics = workdir.read_jsonl(directory / "metrics.jsonl")
        self.trials = workdir.read_jsonl(directory / "trials.jsonl")
        self.scored = [row for row in self.trials if row["one_shot_accuracy"] is not None]
        unique = {row["arch"]: row for row in self.scored}
        self.ranked = sorted(unique.values(), key=lambda r: (-r["one_shot_accuracy"], r["arch"]))
        self._one_shot = {a: 100 * row["one_shot_accuracy"] for a, row in unique.items()}
        self.short, self.final = self._groups("short", "valid"), self._groups("final", "test")
        self.samples = {
            (f"F = {filters}", name): group
            for (filters, name), group in self.short.items()
            if name in SAMPLES
        }
        if published := self._published():
            self.samples["published", "table"] = published

    def _json(self, name):
        path = self.directory / name
        return workdir.read_json(path) if path.exists() else {}

    def _published(self):
        """The scored architectures that the config's table has."""
        if not self.config.get("table") or self.searched_table:
            return []
        rows = tables.load(self.config["table"], self.space).rows
        known = [row for row in self.ranked if row["arch"] in rows]
        if not known:
            return []
        return [
            Network(
                trial["arch"],
                *costs,
                rows[trial["arch"]].test,
                self._one_shot[trial["arch"]],
                rows[trial["arch"]].valid,
            )
            for trial, costs in zip(known, self._published_costs(known))
        ]

    def _published_costs(self, trials):
        """(params, flops) of the published networks, larger than the supernet; else the trials'."""
        published = type(self.space)() if self.space.published_filters else None
        if published is None or published.choices != self.space.choices:
            return [(trial["params"], trial["flops"]) for trial in trials]
        archs = published.from_strs([trial["arch"] for trial in trials])
        found = cost.of(published, archs, filters=published.published_filters)
        return zip(found.params.tolist(), found.flops.tolist())

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
