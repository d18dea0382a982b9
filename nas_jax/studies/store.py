"""A folder of supernets, scores and stand-alone networks that studies share.

    supernets/<id>/                    a workdir: checkpoints, metrics, scores/<id>.jsonl
    searches/<id>/                     trials.jsonl of a strategy
    widths/<id>/F<filters>/<arch id>/seed<k>/widths.json
    networks/<id>/F<filters>/<arch id>/seed<k>/result.json

An id stands for the fields of the config that decide what is there; they lie in it as config.json.
So what one study trained another finds, and a study that was stopped goes on. Fields with the value
that reproduces what was done before there were such fields are left out (`compatibility`), so that
what an earlier version trained is found, too. Several processes may work on one pool: each trains
what no other has begun, and waits for the rest at the end.
"""

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax import build, spaces
from nas_jax.data import dataset
from nas_jax.report import results
from nas_jax.run import Run
from nas_jax.search import evaluators, sweep
from nas_jax.spaces import arch_id, tabular
from nas_jax.standalone import retrain, width_tuning
from nas_jax.storage import compatibility, file_paths, schemas, workdir
from nas_jax.training import supernet as supernet_lib

logger = logging.getLogger(__name__)

SHARED = ("data", "space", "network")  # decide every network
EVALUATION = ("seed", "score", "kl", "bn", "calibration_images", "num_checkpoints")
ACCURACY = ("num_images", "batch_size")  # decide scores that are accuracies
# Decides scores: what is trained or tested sees all images of a split.
ORDER = "data.shuffle_seed"
# Decide a supernet whose training depends on the strategy.
STRATEGY = ("seed", "strategy", "options", "constraints", "latency", "candidates_per_batch")


class Store:
    """See the module; `data` is that of all configs it is asked about.

    Scores are as trials.jsonl has them; an architecture's string is that of the space whose cells
    share it (`Space.repeated`).
    """

    def __init__(self, directory: str | Path, data: dataset.Data):
        self.directory, self.data = file_paths.local(directory, "config.study.pool"), data

    def train_supernets(self, configs: Mapping[str, ConfigDict]) -> None:
        """Train the supernets of these configs, by label, that are not there."""
        jobs = {self.supernet(config): (label, config) for label, config in configs.items()}
        _share(jobs, _is_done, self._train)

    def _train(self, directory, job):
        label, config = job
        logger.info("supernet  %s", label)
        workdir.set_status(directory, "running")
        try:
            supernet_lib.train(self.run(config, directory))
            workdir.set_status(directory, "done")
        except FloatingPointError as error:  # a finding, too: the other supernets go on
            logger.warning("supernet  %s: %s", label, error)
            workdir.set_status(directory, "diverged", error=str(error))
        jax.clear_caches()

    def run(self, config: ConfigDict, workdir: Path | None = None) -> Run:
        """Make the run of a config; None: in the store's own folder."""
        return build.assemble(config, self.data, workdir or self.directory)

    def supernet(self, config: ConfigDict) -> Path:
        """Where the supernet of a config is, or will be."""
        names = ("seed", *SHARED, "supernet")
        methods = compatibility.mended(config.space.name, config.supernet.sampler)
        space = spaces.make(**config.space.to_dict())
        if not supernet_lib.examines(config.supernet, space):
            parts = _parts(config, names, without=(ORDER, "supernet.strategy_every"))
            return self._folder("supernets", parts | methods)
        sweep_parts = _parts(config.sweep, (*STRATEGY, *ACCURACY), "sweep.")
        parts = _parts(config, names) | {"sweep": sweep_parts}
        return self._folder("supernets", parts | methods, order=self.data.order)

    def _folder(self, kind, parts, **inputs):
        """The folder of a kind for what these fields decide, made if it is not there."""
        root = self.directory / kind
        directory = root / _id(parts)
        if not directory.exists():  # perhaps one whose id has where its data set lay in it
            same = (path for path in root.glob("*/config.json") if _is_of(path, parts))
            directory = next(same, directory / "config.json").parent
        inputs = {"fingerprint": self.data.fingerprint, **inputs}
        workdir.open_workdir(directory, parts, inputs)
        return directory

    def evaluations_file(self, config: ConfigDict, step: int | None = None) -> Path:
        """Where scores by the supernet of a config are, scored as `config.sweep` says."""
        names = EVALUATION + (() if config.sweep.score == "kl" else ACCURACY)
        order = _parts(config.data, [ORDER.removeprefix("data.")], "data.")
        methods = compatibility.mended(config.space.name, evaluator=config.sweep.score)
        settings = _parts(config.sweep, names, "sweep.") | order | methods | {"step": step}
        return self.supernet(config) / "scores" / f"{_id(settings)}.jsonl"

    def evaluate(self, config: ConfigDict, archs: Sequence[str], step: int | None = None) -> list:
        """Rows of `archs`, as in trials.jsonl, scored by the supernet of a config as it says.

        `step` is that of a checkpoint, None for the last ones. No value if its training diverged.
        """
        if _status(self.supernet(config)) == "diverged":
            return [{"arch": text, "value": None, "status": "failed"} for text in archs]
        path = self.evaluations_file(config, step)
        run = self.run(config, self.supernet(config))
        own = {text: run.space.repeated(text) for text in archs}
        with workdir.claim(path.parent, wait=True):
            workdir.mend_jsonl(path, schemas.TRIAL)
            known = {row["arch"]: row for row in workdir.read_trials(path)}
            missing = [text for text in dict.fromkeys(own.values()) if text not in known]
            for rows in self._evaluated(run, missing, step):
                workdir.append_jsonl(path, rows)
                known |= {row["arch"]: row for row in rows}
        return [known[own[text]] for text in archs]

    def _evaluated(self, run, archs, step):
        """Rows, as many as are scored at once; the last are filled up, to divide over devices."""
        if not archs:
            return
        size = run.config.sweep.candidates_per_batch
        logger.info("scores of %d architectures by %s", len(archs), run.workdir)
        evaluation = evaluators.make(run, run.workdir, step)
        for first in range(0, len(archs), size):
            texts = archs[first : first + size]
            filled = texts + texts[-1:] * (size - len(texts))
            yield evaluators.rows(run, evaluation, run.space.from_strs(filled))[: len(texts)]

    def search(self, configs: Iterable[ConfigDict]) -> list[list[dict]]:
        """The trials of each config's strategy, on the supernets that the pool has; none where that
        diverged.
        """
        every = list(configs)
        configs = [c for c in every if _status(self.supernet(c)) != "diverged"]
        jobs = {self.search_folder(config): config for config in configs}

        def is_done(directory):
            rows = workdir.read_trials(directory / "trials.jsonl")
            return len(rows) >= jobs[directory].sweep.num_candidates

        def do(directory, config):
            has_supernet = config.sweep.score not in supernet_lib.WITHOUT
            supernet = self.supernet(config) if has_supernet else None
            sweep.search(self.run(config, directory), supernet)
            if has_supernet:
                jax.clear_caches()

        _share(jobs, is_done, do)
        files = [self.search_folder(config) / "trials.jsonl" for config in every]
        return [workdir.read_trials(file) for file in files]

    def search_folder(self, config: ConfigDict) -> Path:
        """Where the trials of a config's strategy are, or will be."""
        sampler, evaluator = config.supernet.sampler, config.sweep.score
        parts = _parts(config, ("seed", "table", *SHARED, "supernet", "sweep"))
        parts |= compatibility.mended(config.space.name, sampler, evaluator)
        table = tabular.digest(config.table)
        return self._folder("searches", parts, order=self.data.order, table=table)

    def tune(self, jobs: Sequence[tuple[ConfigDict, str, int, int]]) -> list[dict]:
        """Rows of `widths_task.tune` for (config, architecture, filters, seed) each."""
        folders = {self._widths_folder(*job): job for job in jobs}

        def do(directory, job):
            config, text, filters, seed = job
            run = self.run(config, directory)
            width_tuning.tune(run, directory, text, filters=filters, seed=seed)

        _share(folders, lambda directory: (directory / "widths.json").exists(), do)
        paths = [self._widths_folder(*job) / "widths.json" for job in jobs]
        return [workdir.read_json(path, schemas.WIDTHS) for path in paths]

    def _widths_folder(self, config, text, filters, seed):
        parts = _parts(config, SHARED, without=[ORDER])
        parts |= _parts(config.retrain, ["widths"], "retrain.")
        parts |= _parts(config.retrain.short, ["train"], "retrain.short.")
        root = self._folder("widths", parts)
        return root / f"F{filters}" / arch_id(text) / f"seed{seed}"

    def networks(
        self, config: ConfigDict, protocol: str, selection: Mapping[str, Sequence[str]]
    ) -> dict[Path, tuple[str, int, int]]:
        """The stand-alone networks of a selection, (architecture, filters, seed) by folder."""
        settings = config.retrain[protocol]
        own = _parts(settings, ["train"], f"retrain.{protocol}.")
        parts = _parts(config, SHARED, without=[ORDER]) | {protocol: own["train"]}
        return retrain.jobs(settings, self._folder("networks", parts), selection)

    def train_networks(
        self, config: ConfigDict, protocol: str, selection: Mapping[str, Sequence[str]]
    ) -> list[dict]:
        """Their rows of result.json; those that are not there are trained."""
        run, count = self.run(config), itertools.count(1)

        def train(directory, job):
            retrain.train_one(run, protocol, directory, *job)
            if next(count) % retrain.CLEAR_EVERY == 0:
                jax.clear_caches()

        jobs = self.networks(config, protocol, selection)
        _share(jobs, retrain.is_done, train)
        return [results.read_result(directory / "result.json") for directory in jobs]


def _parts(config, names, prefix="", without=()):
    """Some fields of a config, or of its section `prefix`, that decide something; as plain data."""
    picked = {name: value for name, value in config.to_dict().items() if name in names}
    return compatibility.without_former(compatibility.decisive(picked), prefix, without)


def _is_of(path, parts):
    """Whether what a folder's config.json holds is the same, but for where things lie."""
    try:
        there = compatibility.decisive(workdir.read_json(path, schemas.OBJECT))
    except ValueError:  # damaged: it may be of something else
        return False
    return _id(compatibility.without_former(there)) == _id(parts)


def _id(parts):
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _status(directory):
    path = directory / "status.json"
    if not path.exists():
        return "absent"
    return workdir.read_json(path, {"status": schemas.TEXT})["status"]


def _is_done(directory):
    return _status(directory) in ("done", "diverged")


def _share(
    jobs: Mapping[Path, Any], is_done: Callable[[Path], bool], do: Callable[[Path, Any], None]
) -> None:
    """Do what is not done. What another process has begun is left to the last, and waited for."""
    for wait in (False, True):
        for number, (directory, job) in enumerate(jobs.items(), 1):
            if is_done(directory):
                continue
            with workdir.claim(directory, wait) as mine:
                if mine and not is_done(directory):
                    logger.info("%d of %d", number, len(jobs))
                    do(directory, job)
