"""The results of a run, read from its files and joined: what a report is written from."""

import hashlib
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nas_jax.costs import params_flops
from nas_jax.spaces import Space, tabular
from nas_jax.storage import json_files, schemas
from nas_jax.training import lineage
from nas_jax.training.ranking_metrics import ranking_metric

SAMPLES = ("random", "stratified")  # what ranking is measured on
MOST_POINTS = 5000  # of a training curve; a figure has no room for more
SIZE_RANKERS = {"parameters": "params", "multiply-adds": "flops"}  # a score should rank better
NAMED = "named"  # by the config; in no comparison
GROUPS = ("top", "small", "pareto", "tuned", "narrowed", *SAMPLES, "all_on")
UNCHOSEN = (  # of a folder, and of the mode that mends it
    "There are networks in {}, but no selection.json that says their groups: {} chooses these "
    "anew, as after more candidates"
)


class Network(NamedTuple):
    """A stand-alone network; accuracies in per cent, one per seed; `valid` of a table alone.

    They are what `config.metric` names. `one_shot` is its value in the sweep, in the unit of the
    ranking metric. `seconds` are those of all seeds, None where a result.json has none.
    """

    arch: str
    params: int
    flops: int
    accuracies: list[float]
    one_shot: float | None
    valid: float | None = None
    seconds: float | None = None

    @property
    def accuracy(self) -> float:
        """Average over the seeds."""
        return round(statistics.fmean(self.accuracies), 9)  # equal ones must tie when ranked


class RunResults:
    """The results of a run, from its files; empty where a file is missing.

    Args:
      directory: of the run.
      space: its space.
      table: the path of the table that judges; "": what config.json names, if it does.

    Attributes:
      config, data, versions, latency: config.json, data.json, versions.json and latency.json.
      out: the folder of the report.
      metrics, trials, lineage: the lines of the three .jsonl files (of a long metrics.jsonl, some).
      networks_lineages: those of final networks that were trained as populations, by
        "F<filters>/<arch id>/seed<k>".
      ranking_metric: the metric of the trials' values.
      selected: the trial of the architecture that the training selected (DARTS), if it did; else
        None.
      scored: the trials that have a value.
      searched_table: whether the scores are a table's own, which has nothing to judge then.
      ranked: the scored architectures, one line each, the best first (see `ranked`).
      best: those of them that share the highest value, first those that were trained alone.
      members: of an ensemble: {evaluator: {architecture: its value, None for a failure}}.
      widths: the rows of widths.json.
      alone: {protocol: {(filters, architecture): network}} of all that was trained alone, "short"
        and "final", but by `retrain.archs`.
      short, final: {(filters, group): networks} of these, as selection.json says.
      unchosen: the protocols that have networks, but no selection.json.
      named: {(filters, first weights): networks} of the architectures that the config names.
      samples: {(where, group): networks} that ranking is measured on: of `short` ("F = 16",
        "random"), and those of the config's table ("published", "table").
    """

    def __init__(self, directory: Path, space: Space, table: str = ""):
        self.directory, self.space, self.out = directory, space, directory / "report"
        self.config, self.versions = self._json("config.json"), self._json("versions.json")
        self.data = self._json("data.json")
        self._table = table or self.config.get("table")
        self.latency = self._json("latency.json", schemas.LATENCY)
        name = self.config.get("sweep", {}).get("score", "accuracy")
        self._metric = self.config.get("metric", "accuracy")
        self.ranking_metric = ranking_metric(name, self._metric)
        self.searched_table = name == "table"
        self.metrics = _thinned(directory / "metrics.jsonl")
        self.trials = json_files.read_trials(directory / "trials.jsonl")
        self.lineage = lineage.read(directory / "lineage.jsonl")
        found = sorted((directory / "retrain" / "final").glob("F*/*/*/population/lineage.jsonl"))
        self.networks_lineages = {"/".join(p.parts[-5:-2]): lineage.read(p) for p in found}
        self.selected = next((row for row in self.trials if row.get("selected")), None)
        self.scored = [row for row in self.trials if row["value"] is not None]
        self.ranked = ranked(self.trials)
        self.members = _members(self.ranked)
        self._one_shot = {
            row["arch"]: self.ranking_metric.factor * row["value"] for row in self.ranked
        }
        self.alone = {protocol: self._alone(protocol) for protocol in ("short", "final")}
        chosen = {protocol: self._selection(protocol) for protocol in self.alone}
        self.short, self.final, self.samples = {}, {}, {}
        for protocol in self.alone:
            self.hold(protocol, _by_group(self.alone[protocol], chosen[protocol]))
        self.unchosen = [name for name in chosen if self.alone[name] and not chosen[name]]
        self.named = self._named()
        self.best = self._best()
        paths = sorted((directory / "retrain" / "widths").glob("F*/*/widths.json"))
        self.widths = [json_files.read_json(path, schemas.WIDTHS) for path in paths]
        if published := self._published():
            self.samples["published", "table"] = published

    def hold(self, protocol: str, groups: Mapping[tuple[int, str], list[Network]]) -> None:
        """Add networks of a protocol, by (filters, group): of the run, or of a study's store."""
        getattr(self, protocol).update(groups)
        if protocol == "short":
            self.samples |= {
                (f"F = {f}", n): nets for (f, n), nets in groups.items() if n in SAMPLES
            }

    def _json(self, name, schema=schemas.OBJECT):
        path = self.directory / name
        return json_files.read_json(path, schema) if path.exists() else {}

    def _published(self):
        """Return the scored architectures that the config's table has, as networks."""
        if not self._table or self.searched_table:
            return []
        table = tabular.load(self._table, self.space)
        rows, learnt = table.rows, self._landmarks(table)
        known = [row for row in self.ranked if row["arch"] in rows and row["arch"] not in learnt]
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

    def _landmarks(self, table):
        """Name the architectures of a table that the supernet has learnt to rank."""
        settings = self.config.get("supernet", {}).get("landmarks", {})
        return {*tabular.drawn(table, tabular.LEARNT, settings.get("count", 0))}

    def _published_costs(self, trials):
        """Return (params, flops) of the published networks, which are larger than the supernet.

        Where the table says nothing of their size, those of the trials.
        """
        published = type(self.space)() if self.space.published_filters else None
        if published is None or published.choices != self.space.choices:
            return [(trial["params"], trial["flops"]) for trial in trials]
        archs = published.from_strs([trial["arch"] for trial in trials])
        costs = params_flops.of(published, archs, filters=published.published_filters)
        return zip(costs.params.tolist(), costs.flops.tolist())

    def _best(self):
        best = [row for row in self.ranked if row["value"] == self.ranked[0]["value"]]
        trained = {arch for networks in self.alone.values() for _, arch in networks}
        return sorted(best, key=lambda row: row["arch"] not in trained)

    def _named(self):
        archs = self.config.get("retrain", {}).get("archs", [])
        found = {}
        for init, folder in (("random", "named"), ("supernet", "warm")):
            paths = self.directory.glob(f"retrain/final/F*/*/{folder}*/result.json")
            of_init = grouped(map(read_result, paths), {NAMED: archs}, self._one_shot, self._metric)
            found |= {(filters, init): networks for (filters, _), networks in of_init.items()}
        return dict(sorted(found.items()))

    def _alone(self, protocol):
        paths = (self.directory / "retrain" / protocol).glob("F*/*/seed*/result.json")
        return _joined(map(read_result, paths), self._one_shot, self._metric)

    def _selection(self, protocol):
        return self._json(f"retrain/{protocol}/selection.json", schemas.SELECTION)


def _members(trials):
    names = dict.fromkeys(name for row in trials for name in row.get("values", {}))
    return {n: {row["arch"]: row["values"].get(n) for row in trials} for n in names}


def read_result(path: Path) -> dict:
    """Read a result.json. Raises: ValueError if it is damaged."""
    row = json_files.read_json(path, schemas.RESULT)
    if row["valid_accuracy"] is None and row["test_accuracy"] is None:
        raise ValueError(f"{path} is damaged: it has no accuracy")
    return row


def ranked(trials: Iterable[dict]) -> list[dict]:
    """Sort the trials that have a value, one for each architecture: the best first.

    `tie_breaker` orders those of equal value.
    """
    unique = {row["arch"]: row for row in trials if row["value"] is not None}
    return sorted(unique.values(), key=lambda row: (-row["value"], tie_breaker(row)))


def tie_breaker(row: Mapping) -> bytes:
    """Make the key that orders trials of equal value: a hash of search seed and architecture.

    It is the same on every host. By their strings, one kind of architecture would be first.
    """
    text = f"{row.get('seed', 0)} {row['arch']}"
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def grouped(
    results: Iterable[dict],
    selection: Mapping[str, Sequence[str]],
    scores: Mapping[str, float],
    metric: str = "accuracy",
) -> dict[tuple[int, str], list[Network]]:
    """Join stand-alone networks, by (filters, group), from the rows of result.json.

    Args:
      results: rows, one for each network and seed.
      selection: architectures of each group.
      scores: of the architectures that have one, in the score's unit.
      metric: `config.metric`, by which the networks are judged.
    """
    return _by_group(_joined(results, scores, metric), selection)


def _joined(results, scores, metric):
    """Join the seeds of networks, by (filters, architecture)."""
    repeated: dict[tuple, list] = {}
    for row in results:
        repeated.setdefault((row["filters"], row["arch"]), []).append(row)
    return {key: _network(rows, scores, metric) for key, rows in repeated.items()}


def _by_group(networks, selection):
    groups = {
        (filters, name): [networks[filters, a] for a in archs if (filters, a) in networks]
        for filters in sorted({filters for filters, _ in networks})
        for name in (*GROUPS, NAMED)
        for archs in [selection.get(name, ())]
    }
    return {key: group for key, group in groups.items() if group}


def _network(rows, scores, metric):
    rows = sorted(rows, key=lambda row: row["seed"])
    pairs = [(row.get(f"valid_{metric}"), row.get(f"test_{metric}")) for row in rows]
    accuracies = [100 * (test if valid is None else valid) for valid, test in pairs]
    arch, params, flops = (rows[0][field] for field in ("arch", "params", "flops"))
    seconds = [row.get("seconds") for row in rows]
    took = None if None in seconds else sum(seconds)
    return Network(arch, params, flops, accuracies, scores.get(arch), seconds=took)


def columns(networks: list[Network], *fields: str) -> list[list]:
    """Return the values of each field, a list per field."""
    return [[getattr(network, field) for network in networks] for field in fields]


def sizes(networks: list[Network]) -> dict[str, list]:
    """Return the values of each of `SIZE_RANKERS`."""
    return dict(zip(SIZE_RANKERS, columns(networks, *SIZE_RANKERS.values())))


def _thinned(path):
    """Read rows spread evenly over the file, with the last; all of them if there are few."""
    count = json_files.count_lines(path)
    every = math.ceil(count / MOST_POINTS)
    rows = enumerate(json_files.iterate_jsonl(path, schemas.METRIC), 1)
    return [row for number, row in rows if (count - number) % every == 0]
