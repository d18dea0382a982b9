"""What the files of a workdir depend on: a run may grow there, but nothing that is there changes.

More candidates, groups, widths, seeds and architectures add to what is there. Other fields may
change as long as no stage has used them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas_jax.storage import json_files

_EVERY = ("seed", "data", "space", "network")
_SUPERNET = (*_EVERY, "supernet")
_SWEEP = (*_SUPERNET, "sweep", "metric", "table")
_NETWORKS = (
    *(*_EVERY, "metric", "supernet.execution", "retrain.compile", "retrain.eval_batch_size"),
    *("retrain.selection", "retrain.widths", "retrain.short.train"),
)
_FIELDS = {  # file or folder: the sections and fields that decide what is in it
    "metrics.jsonl": _SUPERNET,
    "checkpoints": _SUPERNET,
    "latency.json": (*_EVERY, "supernet.filters", "sweep.latency"),
    "trials.jsonl": _SWEEP,
    "candidates": (*_SWEEP, "retrain.short.train"),
    "retrain/short": _NETWORKS,
    "retrain/final": (
        *(*_NETWORKS, "retrain.final.train"),
        *("retrain.final.pbt", "retrain.final.pbt_every"),
    ),
    "retrain/widths": _NETWORKS,
}
# What was made of all candidates, and is made again where there are more.
_OF_ALL_CANDIDATES = "retrain/*/selection.json"
_NUM_CANDIDATES = "sweep.num_candidates"
_SPLIT = "supernet.split"  # a trained supernet may be split later


class Decided:
    """The fields of a config that what is in a workdir depends on.

    Args:
      workdir: the folder.
      config: its config.json.
      turns: whether the sweep's fields decide the training of a supernet, too.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any], turns: bool):
        sweep = _section(config, "sweep")
        there = {name for name in _FIELDS if (workdir / name).exists()}
        self._fields = {field for name in there for field in _FIELDS[name]}
        if there & {"checkpoints", "metrics.jsonl"} and turns:
            self._fields |= {*_SWEEP}
        warm = any(workdir.glob("retrain/final/F*/*/warm*"))
        if "checkpoints" in there and _section(config, "supernet", "landmarks").get("count"):
            self._fields |= {"table"}
        if there and _is_priced_by_latency(config):
            self._fields |= {"sweep.latency", "supernet.filters"}
        if warm:
            self._fields |= {*_SUPERNET}
        if "retrain/final" in there and _section(config, "retrain", "final").get("pbt"):
            self._fields |= {"sweep.num_images", "sweep.batch_size"}  # they select members
        for name in _tuned_protocols(config):
            if (workdir / "retrain" / name).exists():
                self._fields |= {f"retrain.{name}.filters"}
        if "trials.jsonl" in there and sweep.get("score") == "trained":
            self._fields |= {"retrain.short.train"}
        self._is_split = warm or (workdir / "split").exists() or "trials.jsonl" in there
        self._trials = workdir / "trials.jsonl"
        # An exhaustive search orders its candidates by their number.
        self._grows = sweep.get("strategy") != "exhaustive"

    def __bool__(self):
        """Say whether anything that depends on a field is there."""
        return bool(self._fields)

    def may_be(self, name: str, value: Any) -> bool:
        """Say whether a field, or a section, may get another value."""
        if name == _NUM_CANDIDATES and self._grows:
            return isinstance(value, int) and value >= json_files.count_lines(self._trials)
        if name.startswith(f"{_SPLIT}.") and not self._is_split:
            return True
        return not any(
            name == field or name.startswith(f"{field}.") or field.startswith(f"{name}.")
            for field in self._fields
        )


def _section(config, *names):
    """Return a section of a config that may be damaged; {} where there is none."""
    for name in names:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _is_priced_by_latency(config):
    """Say whether latencies decide a penalty, of the supernet or of width tuning."""
    options = _section(config, "supernet").get("variant_options")
    options = options if isinstance(options, list | tuple) else ()
    pairs = [tuple(pair) for pair in options if isinstance(pair, list | tuple)]
    tuned = _section(config, "retrain", "widths").get("resource") == "latency_ms"
    tuned = tuned and any(_tuned_protocols(config))
    return tuned or ("resource", "latency_ms") in pairs


def _tuned_protocols(config):
    """Yield the protocols whose groups have widths of their own, which begin with those of an F."""
    for name in ("short", "final"):
        groups = _section(config, "retrain", name, "groups")
        if groups.get("tuned") or groups.get("narrowed"):
            yield name


def remove_outdated(workdir: Path, changed: Iterable[str]) -> None:
    """Remove the files that a run makes anew since these fields have changed."""
    if _NUM_CANDIDATES in changed:
        for path in workdir.glob(_OF_ALL_CANDIDATES):
            path.unlink()
