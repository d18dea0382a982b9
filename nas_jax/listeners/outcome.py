"""What a user compares runs by: fields of the config, the best architecture, its accuracies."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_jax import plugins
from nas_jax.config import defaults
from nas_jax.config.variants import flatten
from nas_jax.listeners import base
from nas_jax.report import results
from nas_jax.runtime.events import Event
from nas_jax.spaces import Space, arch_id
from nas_jax.storage import json_files, schemas

COMPARED = (
    *("seed", "metric", "data.name", "space.name"),
    *("supernet.filters", "supernet.sampler", "supernet.variant", "supernet.path_dropout.r"),
    *("supernet.train.num_steps", "supernet.train.batch_size", "supernet.train.base_lr"),
    *("supernet.train.optimizer", "sweep.strategy", "sweep.score", "sweep.num_candidates"),
)
_NEVER = ("listeners",)  # decides no result


def compared(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """Pick fields to compare runs by: some always, others where they differ from the defaults.

    Args:
      config: {field: value}, as of the event "begin".
    """
    default = dict(flatten(defaults.default()))
    picked = {
        name: value
        for name, value in config.items()
        if name in COMPARED or plugins.as_tuples(value) != plugins.as_tuples(default.get(name))
    }
    return {name: plain(value) for name, value in picked.items() if name not in _NEVER}


def plain(value: Any) -> bool | int | float | str:
    """Return a value of a field as trackers take it: a tuple becomes a text."""
    return value if isinstance(value, bool | int | float | str) else str(plugins.as_tuples(value))


def of(workdir: Path, space: Space) -> tuple[str | None, dict[str, float]]:
    """Return the best architecture of a run, as the report names it, and numbers of it.

    Returns: its string, None without a trial that has a value; and "best/value", "best/params",
      "best/flops" and, where it was trained alone, such as "best/F16/test/accuracy", in [0, 1], a
      mean over seeds.
    """
    best = results.RunResults(workdir, space).best
    if not best:
        return None, {}
    numbers = {f"best/{name}": float(best[0][name]) for name in ("value", "params", "flops")}
    seeds = defaultdict(list)
    for path in sorted(workdir.glob(f"retrain/*/F*/{arch_id(best[0]['arch'])}/seed*/result.json")):
        row = results.read_result(path)
        for name, value in base.judged(row).items():
            seeds[f"best/F{row['filters']}/{name}"].append(value)
    return best[0]["arch"], numbers | {name: statistics.fmean(of) for name, of in seeds.items()}


def best_so_far(before: float | None, event: Event) -> tuple[float | None, list[float]]:
    """Return the best value of a sweep so far, None without any, and the values of a round.

    Args:
      before: the best value before; None: it is looked up in trials.jsonl.
      event: of the kind "candidates".
    """
    values = [row["value"] for row in event.values if row["value"] is not None]
    if before is None:
        lines = json_files.iterate_jsonl(event.where / "trials.jsonl", schemas.TRIAL)
        earlier = (row["value"] for _, row in zip(range(event.step), lines))
        before = max((value for value in earlier if value is not None), default=None)
    return max(values if before is None else [before, *values], default=None), values


def drawing(space: Space, text: str) -> bytes | None:
    """Draw an architecture as a PNG; None for a space without drawings."""
    from nas_jax.report.architecture import Architecture  # imports Matplotlib, at the end of a run

    return Architecture(space, text).png()
