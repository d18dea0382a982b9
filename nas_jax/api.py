"""Searches from Python: a function for each mode, and what a run has so far.

    import nas_jax

    found = nas_jax.search("digits", workdir="runs/digits")
    found.best          # an `Architecture`, which a notebook draws
    found.trials        # a dict for each candidate
    found.networks      # a dict for each network that was trained alone

They run in a notebook, in any thread, and as often as one likes in a process; as the command does,
they go on where a run in that folder was stopped.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from nas_jax import config as config_lib
from nas_jax import pipeline, spaces
from nas_jax.config import field_names, files, recipes
from nas_jax.config.variants import flatten
from nas_jax.data.dataset import Data
from nas_jax.report import results as results_lib
from nas_jax.report.architecture import Architecture
from nas_jax.runtime import run_log
from nas_jax.runtime.events import Listener
from nas_jax.spaces import Space
from nas_jax.storage import file_paths, json_files, schemas

Config = ConfigDict | Mapping[str, Any] | str | Path


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run has written so far; read once, when it is first asked for.

    Attributes:
      workdir: the folder of the run.
      space: its search space.
    """

    workdir: Path
    space: Space

    @functools.cached_property
    def _read(self):
        return results_lib.RunResults(self.workdir, self.space)

    @property
    def config(self) -> dict[str, Any]:
        """The config of the run, nested, as config.json has it."""
        return self._read.config

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The lines of trials.jsonl, in the order of the search; [] before a sweep."""
        return self._read.trials

    @property
    def best(self) -> Architecture | None:
        """The architecture of the highest value; None before a sweep."""
        return self.ranked[0] if self._read.best else None

    @functools.cached_property
    def ranked(self) -> list[Architecture]:
        """The architectures that have a value, one each, the best first."""
        first = [row["arch"] for row in self._read.best[:1]]
        rest = [row["arch"] for row in self._read.ranked if row["arch"] not in first]
        return [Architecture(self.space, text) for text in [*first, *rest]]

    @functools.cached_property
    def networks(self) -> list[dict[str, Any]]:
        """What result.json says of each stand-alone network, with "protocol" and "path".

        Accuracies are in [0, 1]; "path" is the folder that has the network's checkpoints.
        """
        paths = sorted((self.workdir / "retrain").glob("*/F*/*/*/result.json"))
        return [
            {"protocol": path.parents[3].name, **results_lib.read_result(path), "path": path.parent}
            for path in paths
        ]

    @property
    def paths(self) -> dict[str, Path]:
        """The files and folders that are there, by name, such as "report", its "page" and "log"."""
        names = {
            "checkpoints": "checkpoints",
            "config": "config.json",
            "log": run_log.FILE,
            "metrics": "metrics.jsonl",
            "page": "report/index.html",
            "report": "report/report.md",
            "retrain": "retrain",
            "trials": "trials.jsonl",
        }
        there = {name: self.workdir / path for name, path in names.items()}
        return {name: path for name, path in there.items() if path.exists()}

    def frame(self) -> Any:
        """Return the trials as a pandas.DataFrame. Raises: ValueError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ValueError(
                "Results.frame needs pandas: pip install pandas, or use Results.trials"
            ) from error
        return pandas.DataFrame(self.trials)

    def __repr__(self):
        best = f"\nbest: {self.best!r}" if self.best else ""
        return f"{self._summary()}{best}"

    def _repr_html_(self) -> str:
        return f"<div>{self._summary()}{self.best._repr_html_() if self.best else ''}</div>"

    def _summary(self):
        return f"{self.workdir}: {len(self.trials):,} trials, {len(self.networks):,} networks alone"


def search(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    mirror: str | None = None,
) -> Results:
    """Train a supernet, evaluate candidates, train the best alone, write a report.

    What is there already in the folder is not done again.

    Args:
      config: the name of a config that comes with nas_jax ("digits", "cifar:small"), the path of a
        FILE.py, a `ConfigDict`, or {field: value} that differ from `config.default()`.
      space: a search space, instead of that of the config.
      data: images, instead of those of the config.
      workdir: folder of the run; None: runs/<name of the config>.
      fields: {"a.b": value} that differ from the config, as --config.a.b=value.
      on_event: a function that is told what happens, event by event (docs/howto/events.md), beside
        `config.listeners`.
      mirror: an address, such as "gs://bucket/run", or a folder, to which the workdir is copied
        while the run goes on; a missing or empty workdir is restored from it
        (docs/howto/resume.md).

    Raises: ValueError, FloatingPointError and Interrupted as `pipeline.run`.
    """
    return _run("search", config, space, data, workdir, fields, on_event, mirror)


def train_supernet(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    mirror: str | None = None,
) -> Results:
    """Train the supernet alone; arguments and errors as of `search`."""
    return _run("supernet", config, space, data, workdir, fields, on_event, mirror)


def sweep(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    mirror: str | None = None,
) -> Results:
    """Evaluate candidates with the supernet in the folder; see `search`."""
    return _run("sweep", config, space, data, workdir, fields, on_event, mirror)


def retrain(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    mirror: str | None = None,
) -> Results:
    """Train architectures of the trials in the folder alone; see `search`."""
    return _run("retrain", config, space, data, workdir, fields, on_event, mirror)


def write_report(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    mirror: str | None = None,
) -> Results:
    """Write the report of what is in the folder; see `search`.

    Raises: ValueError as of `search`, or if the folder has no run.
    """
    return _run("report", config, space, data, workdir, fields, on_event, mirror)


def check(
    config: Config,
    space: Space | None = None,
    data: Data | None = None,
    workdir: str | Path | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    target: str | None = None,
) -> str:
    """Return what a run will take, as `--mode=check` prints it; nothing is written.

    `target` names accelerators that need not be there, such as "v5e-16", for which the run's
    programs are compiled instead (extra `aot`).
    """
    folder = _folder(config, workdir)
    given = as_config(config, fields)
    return pipeline.check(given, folder, space=space, data=data, target=target)


def read(workdir: str | Path, space: Space | None = None) -> Results:
    """Read the results of a run in a folder; `space` for one whose space was an object.

    Raises: ValueError if the folder has no run, or its space cannot be made.
    """
    workdir = file_paths.local(workdir, "workdir")
    path = workdir / "config.json"
    if not path.exists():
        raise ValueError(f"workdir={workdir} holds no run: there is no {path}")
    return Results(
        workdir, space or spaces.make(**json_files.read_json(path, schemas.OBJECT)["space"])
    )


def _run(mode, config, space, data, workdir, fields, on_event, mirror):
    workdir = _folder(config, workdir)
    config, also = as_config(config, fields), {"on_event": on_event, "mirror": mirror}
    if mode == "report" and mirror is None:
        files.path_in_workdir(workdir)  # raises where there is no run
    run = pipeline.run(config, mode, workdir, space=space, data=data, **also)
    return Results(run.workdir, run.space)


def as_config(config: Config, fields: Mapping[str, Any] | None = None) -> ConfigDict:
    """Return a config of its own, of what `search` takes, with fields changed.

    Raises: ValueError that names the field, or the config.
    """
    if isinstance(config, str | Path):
        made = config_lib.load(str(config))
    elif isinstance(config, ConfigDict):
        made = config.copy_and_resolve_references()
    else:
        made, fields = config_lib.default(), {**_flat(config), **(fields or {})}
    before = made.copy_and_resolve_references()
    for name, value in (fields or {}).items():
        field_names.check(name, dict(flatten(made)))
        try:
            made.update_from_flattened_dict({name: value})
        except (TypeError, ValueError) as error:
            raise ValueError(f"config.{name} cannot be {value!r}: {error}") from error
    recipes.follow(made, before, fields or {})
    return made


def _flat(tree, prefix=""):
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _folder(config, workdir):
    if workdir is not None:
        return Path(workdir)
    if not isinstance(config, str | Path):
        raise ValueError("workdir is missing: give the folder of the run, such as 'runs/mine'")
    return files.default_workdir(str(config))
