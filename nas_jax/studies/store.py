"""The store: a folder of supernets, evaluations and stand-alone networks that studies share.

    supernets/<id>/                    a workdir: checkpoints, metrics, scores/<id>.jsonl
    searches/<id>/                     trials.jsonl of a strategy
    widths/<id>/F<filters>/<arch id>/seed<k>/widths.json
    networks/<id>/F<filters>/<arch id>/seed<k>/result.json

An id is a hash of the fields of the config that decide the content of its folder. The folder has
them as config.json. So a study reuses what another one trained, and a stopped study goes on. Fields
that newer versions added are left out of the id where they have the value of older versions
(`compatibility`), so that a study also reuses older results. Several processes may work on one
store: each trains what no other has begun, and waits for the rest at the end.
"""

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax import build, plugins
from nas_jax.candidates import evaluators, sweep
from nas_jax.data import dataset
from nas_jax.report import results
from nas_jax.run import Run
from nas_jax.spaces import arch_id, tabular
from nas_jax.standalone import evaluation, retrain, width_tuning
from nas_jax.standalone.together import Job
from nas_jax.storage import compatibility, file_paths, json_files, schemas, workdir
from nas_jax.training import evaluator_names
from nas_jax.training import supernet as supernet_lib

logger = logging.getLogger(__name__)

SHARED = ("data", "space", "network")  # sections that decide every network
# A whole section counts, so that a field that comes is not forgotten, but for what decides nothing.
_NO_EVALUATION = ("strategy", "options", "constraints", "latency", "candidates_per_batch")
_NO_EVALUATION += ("num_candidates", "inherit")  # fields of `sweep` that decide no evaluation
_NO_DIVERGENCE = (*_NO_EVALUATION, "num_images", "batch_size")
_NO_TRAINING = ("score", "kl", "proxy", "ensemble", "bn", "calibration_images", "num_checkpoints")
_NO_TRAINING += (
    "num_candidates",
    "inherit",
    "supernets",
)  # nor a training that depends on the strategy
# Decide nothing where no strategy draws masks, and no population is trained.
_TURNS = tuple(f"supernet.strategy_{name}" for name in ("every", "rounds", "images"))
# Decides evaluations alone: training and test read all images of a split.
ORDER = "data.shuffle_seed"


class Store:
    """The store in a folder; all its configs have the same data, and none has latencies.

    Evaluations are rows of trials.jsonl. A string is of an architecture that all cells share; an
    untied space repeats it (`Space.repeated`).

    Args:
      directory: the folder, `study.pool`.
      data: images.

    Attributes:
      diverged: {folder: (names of its variants, why)} of supernets that were asked for.
    """

    def __init__(self, directory: str | Path, data: dataset.Data):
        self.directory, self.data = file_paths.local(directory, "config.study.pool"), data
        self.diverged: dict[Path, tuple[str, str]] = {}

    def train_supernets(self, configs: Mapping[str, ConfigDict]) -> None:
        """Train the supernets of these configs, by label, unless none is needed or it is there."""
        needed = {k: c for k, c in configs.items() if evaluator_names.needs_supernet(c.sweep)}
        jobs: dict[Path, tuple[str, ConfigDict]] = {}
        for label, config in needed.items():
            folder = self.supernet(config)
            shared = f"{jobs[folder][0]}; {label}" if folder in jobs else label
            jobs[folder] = shared, config
        _share(jobs, _is_done, self._train)
        for folder, (names, _) in jobs.items():
            if _status(folder) == "diverged":
                error = _read_status(folder).get("error", "its loss is not finite")
                self.diverged.setdefault(folder, (names, error))

    def _train(self, directory, job):
        label, config = job
        logger.info("supernet  %s", label)
        workdir.set_status(directory, "running")
        try:
            supernet_lib.train(self.run(config, directory))
            workdir.set_status(directory, "done")
        except FloatingPointError as error:  # a result, too: the other supernets go on
            logger.warning("supernet  %s: %s", label, error)
            workdir.set_status(directory, "diverged", error=str(error))
        jax.clear_caches()

    def run(self, config: ConfigDict, workdir: Path | None = None) -> Run:
        """Make the run of a config in a workdir; None: the folder of the store."""
        return build.assemble(config, self.data, workdir or self.directory)

    def supernet(self, config: ConfigDict) -> Path:
        """Return the folder of a config's supernet, trained or not."""
        names = ("seed", *SHARED, "supernet")
        methods = compatibility.mended(config.space.name, config.supernet.sampler)
        methods |= compatibility.of_variant(config)
        table = {"table": tabular.digest(config.table)} if config.supernet.landmarks.count else {}
        if (config.supernet.variant, config.supernet.sampler == "strategy") == ("none", False):
            parts = _parts(config, names, without=(ORDER, *_TURNS))
            return self._folder("supernets", parts | methods | table)
        parts = _parts(config, names) | {"sweep": _sweep_parts(config, _NO_TRAINING)}
        return self._folder("supernets", parts | methods | table, order=self.data.order)

    def _folder(self, kind, parts, **inputs):
        """Return the folder of a kind that these fields decide; make it if it is missing."""
        root = self.directory / kind
        directory = root / _id(parts)
        if not directory.exists():  # an older id may depend on the place of the data set
            same = (path for path in root.glob("*/config.json") if _is_of(path, parts))
            directory = next(same, directory / "config.json").parent
        inputs = {"fingerprint": self.data.fingerprint, **inputs}
        if files := plugins.digests_of_code(parts):
            inputs["files"] = files
        workdir.open_workdir(directory, parts, inputs)
        return directory

    def evaluations_file(self, config: ConfigDict, step: int | None = None) -> Path:
        """Return the file of evaluations by a config's supernet, with the settings of its sweep."""
        without = _NO_DIVERGENCE if config.sweep.score == "kl" else _NO_EVALUATION
        order = _parts(config.data, [ORDER.removeprefix("data.")], "data.")
        methods = compatibility.mended(config.space.name, evaluator=config.sweep.score)
        settings = _sweep_parts(config, without) | order | methods | {"step": step}
        return self.supernet(config) / "scores" / f"{_id(settings)}.jsonl"

    def evaluate(self, config: ConfigDict, archs: Sequence[str], step: int | None = None) -> list:
        """Evaluate architectures by a config's supernet, and return their rows of trials.jsonl.

        Args:
          config: of the supernet and the evaluation.
          archs: strings [N].
          step: of the checkpoint; None for the last ones.

        Returns: N rows; their values are None if the training of the supernet diverged.
        """
        needs_supernet = evaluator_names.needs_supernet(config.sweep)
        if needs_supernet and _status(self.supernet(config)) == "diverged":
            return [{"arch": text, "value": None, "status": "failed"} for text in archs]
        path = self.evaluations_file(config, step)
        run = self.run(config, self.supernet(config))
        repeated = {text: run.space.repeated(text) for text in archs}
        with workdir.claim(path.parent, wait=True):
            json_files.mend_jsonl(path, schemas.TRIAL)
            evaluated = {row["arch"]: row for row in json_files.read_trials(path)}
            missing = [t for t in dict.fromkeys(repeated.values()) if t not in evaluated]
            for rows in self._evaluated(run, missing, step):
                json_files.append_jsonl(path, rows)
                evaluated |= {row["arch"]: row for row in rows}
        return [evaluated[repeated[text]] for text in archs]

    def _evaluated(self, run, archs, step):
        """Yield rows of one batch of candidates each; the last is filled up, to fit the devices."""
        if not archs:
            return
        size = run.config.sweep.candidates_per_batch
        logger.info("scores of %d architectures by %s", len(archs), run.workdir)
        run.constraints.check()
        evaluation = evaluators.make(run, run.workdir, step)
        for first in range(0, len(archs), size):
            texts = archs[first : first + size]
            filled = texts + texts[-1:] * (size - len(texts))
            yield evaluators.rows(run, evaluation, run.space.from_strs(filled))[: len(texts)]

    def search(self, configs: Iterable[ConfigDict]) -> list[list[dict]]:
        """Search with each config's strategy on its supernet, and return the trials of each.

        The list is empty if the training of the supernet diverged.
        """
        every = list(configs)
        configs = [c for c in every if _status(self.supernet(c)) != "diverged"]
        jobs = {self.search_folder(config): config for config in configs}

        def is_done(directory):
            rows = json_files.read_trials(directory / "trials.jsonl")
            return len(rows) >= jobs[directory].sweep.num_candidates

        def do(directory, config):
            has_supernet = evaluator_names.needs_supernet(config.sweep)
            supernet = self.supernet(config) if has_supernet else None
            sweep.search(self.run(config, directory), supernet)
            if has_supernet:
                jax.clear_caches()

        _share(jobs, is_done, do)
        files = [self.search_folder(config) / "trials.jsonl" for config in every]
        return [json_files.read_trials(file) for file in files]

    def search_folder(self, config: ConfigDict) -> Path:
        """Return the folder of a config's search, done or not."""
        sampler, evaluator = config.supernet.sampler, config.sweep.score
        parts = _parts(config, ("seed", "table", *SHARED, "supernet", "sweep"))
        parts |= compatibility.mended(config.space.name, sampler, evaluator)
        parts |= compatibility.of_variant(config) | compatibility.of_strategy(config.sweep.strategy)
        table = tabular.digest(config.table)
        return self._folder("searches", parts, order=self.data.order, table=table)

    def tune(self, jobs: Sequence[tuple[ConfigDict, str, int, int]]) -> list[dict]:
        """Tune widths for each (config, architecture, filters, seed): rows of widths.json."""
        folders = {self._widths_folder(*job): job for job in jobs}

        def do(directory, job):
            config, text, filters, seed = job
            run = self.run(config, directory)
            width_tuning.tune(run, directory, text, filters=filters, seed=seed)

        _share(folders, lambda directory: (directory / "widths.json").exists(), do)
        paths = [self._widths_folder(*job) / "widths.json" for job in jobs]
        return [json_files.read_json(path, schemas.WIDTHS) for path in paths]

    def _widths_folder(self, config, text, filters, seed):
        parts = _parts(config, SHARED, without=[ORDER])
        parts |= _parts(config.retrain, ["widths"], "retrain.")
        parts |= _parts(config.retrain.short, ["train"], "retrain.short.")
        root = self._folder("widths", parts)
        return root / f"F{filters}" / arch_id(text) / f"seed{seed}"

    def networks(
        self, config: ConfigDict, protocol: str, selection: Mapping[str, Sequence[str]], how: str
    ) -> dict[Path, Job]:
        """List (architecture, filters, seed) of each network of a selection, by its folder.

        Networks that are trained "together" lie apart from those that are trained "each".
        """
        settings = config.retrain[protocol]
        train = _parts(settings, ["train"], f"retrain.{protocol}.")["train"]
        parts = _parts(config, SHARED, without=[ORDER]) | {protocol: train}
        parts |= compatibility.without_former({"compile": how}, "retrain.")
        return retrain.jobs(settings, self._folder("networks", parts), selection)

    def train_networks(
        self, config: ConfigDict, protocol: str, selection: Mapping[str, Sequence[str]], how: str
    ) -> list[dict]:
        """Train the missing networks of a selection, and return all rows of result.json.

        `how` is "together" or "each", see `together.choose`.
        """
        run, jobs = self.run(config), self.networks(config, protocol, selection, how)
        trainer = retrain.trainer_of(run, protocol, jobs, how)
        kinds = list(retrain.lots(jobs, len(jobs)))
        if kinds:
            root = next(iter(jobs)).parents[2]  # of F<filters>/<arch id>/seed<k>
            train = functools.partial(trainer.train, root)
            _share_lots(kinds, evaluation.is_done, train, trainer.size)
        return [results.read_result(directory / "result.json") for directory in jobs]


def _parts(config, names, prefix="", without=()):
    """Pick fields of a config, or of its section `prefix`, as plain data for an id."""
    picked = {name: value for name, value in config.to_dict().items() if name in names}
    return compatibility.without_former(compatibility.decisive(picked), prefix, without)


def _sweep_parts(config, without):
    return _parts(config, ["sweep"], without=[f"sweep.{name}" for name in without])["sweep"]


def _is_of(path, parts):
    """Say whether a config.json has these fields, wherever data set and table lie."""
    try:
        there = compatibility.decisive(json_files.read_json(path, schemas.OBJECT))
        there = compatibility.with_variant(there)
    except ValueError:  # damaged: it may be of something else
        return False
    return _id(compatibility.without_former(there)) == _id(parts)


def _id(parts):
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _status(directory):
    if not (directory / "status.json").exists():
        return "absent"
    return _read_status(directory)["status"]


def _read_status(directory):
    return json_files.read_json(directory / "status.json", {"status": schemas.TEXT})


def _is_done(directory):
    return _status(directory) in ("done", "diverged")


def _share(
    jobs: Mapping[Path, Any], is_done: Callable[[Path], bool], do: Callable[[Path, Any], None]
) -> None:
    """Do the jobs that are not done; at the end wait for those that other processes have begun."""
    _share_lots([jobs], is_done, lambda lot: do(*lot.popitem()), 1)


def _share_lots(
    kinds: Sequence[Mapping[Path, Any]],
    is_done: Callable[[Path], bool],
    do: Callable[[dict[Path, Any]], None],
    size: int,
) -> None:
    """Do jobs as `_share` does, up to `size` of one kind at once."""
    for wait in (False, True):
        for jobs in kinds:
            rest = [directory for directory in jobs if not is_done(directory)]
            while rest:
                with contextlib.ExitStack() as claims:
                    lot = {}
                    # A process that waits holds nothing, so that no two wait for each other.
                    while rest and len(lot) < (1 if wait else size):
                        directory = rest.pop(0)
                        if _is_mine(directory, is_done, wait, claims):
                            lot[directory] = jobs[directory]
                    if lot:
                        logger.info("%d of %d", len(jobs) - len(rest), len(jobs))
                        do(lot)


def _is_mine(directory, is_done, wait, claims):
    """Claim a folder until `claims` ends, unless its job is done or another process has it."""
    with contextlib.ExitStack() as claim:
        mine = claim.enter_context(workdir.claim(directory, wait)) and not is_done(directory)
        if mine:
            claims.push(claim.pop_all())
        return mine
