"""The pipeline: it runs the stages of a mode in a workdir, and keeps status.json."""

import contextlib
import errno
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from nas_jax import build, given, listeners, naming, plan, plugins, preview
from nas_jax import config as config_lib
from nas_jax.aot import fit
from nas_jax.candidates import sweep
from nas_jax.config import files
from nas_jax.config.variants import flatten
from nas_jax.costs import latency_table
from nas_jax.data.dataset import Data
from nas_jax.run import Run
from nas_jax.runtime import distributed, environment, events, preemption, progress, run_log
from nas_jax.spaces import Space, tabular
from nas_jax.standalone import retrain
from nas_jax.storage import compatibility, file_paths, workdir
from nas_jax.storage import mirror as mirror_lib
from nas_jax.training import supernet

logger = logging.getLogger(__name__)

SHARED = ("report", "study")  # modes that may run beside another process in the same workdir


# Imported where they are used: the other stages start sooner without Matplotlib.
def _report(run):
    from nas_jax.report import page

    page.report(run)


def _study(run):
    from nas_jax import studies

    studies.study(run)


def _check_study(config):
    from nas_jax import studies

    studies.check(config)


STAGES = {
    "supernet": supernet.train,
    "sweep": sweep.search,
    "retrain": retrain.retrain,
    "report": _report,
    "study": _study,
}
# Fields to lower if a stage runs out of memory.
_MEMORY = {
    "supernet": "supernet.train.batch_size or supernet.filters",
    "sweep": "sweep.candidates_per_batch or sweep.batch_size",
    "study": "supernet.train.batch_size, sweep.candidates_per_batch or retrain.*.train.batch_size",
    "retrain": "retrain.short.train.batch_size, that of retrain.final, or retrain.eval_batch_size; "
    "or set retrain.compile='each' in a new workdir",
}
_FULL, _READ_ONLY = (errno.ENOSPC, errno.EDQUOT), (errno.EROFS, errno.EACCES, errno.EPERM)


def run(
    config: ConfigDict,
    mode: str | None,
    directory: str | Path,
    *,
    space: Space | None = None,
    data: Data | None = None,
    on_event: events.Listener | None = None,
    mirror: str | None = None,
) -> Run:
    """Run the stages of a mode in a folder; finished work is not done again.

    Args:
      config: of the run.
      mode: one of `config.RUN_MODES`; None: "study" where the config is one, else "search". "check"
        prints what the run will take, and writes nothing.
      directory: the workdir.
      space, data: objects to use instead of what the config names; None: what it names.
      on_event: a listener beside `config.listeners`, see `runtime.events`.
      mirror: an address (or a folder) to which the workdir is copied while the run goes on, and
        from which a missing or empty one is restored first, see `storage.mirror`.

    Returns: the run, as it was built.

    Raises:
      ValueError: the input is wrong; the workdir is another config's, in use or cannot be written;
        or memory is too small. It says what to do.
      FloatingPointError: a training diverged.
      Interrupted: SIGTERM came; the next call goes on from there.
    """
    if mirror is not None:
        mirror = _mirrored(given.recorded(config, space, data), mode, directory, space, mirror)
    run, mode = _begin(config, mode, directory, space, data)
    if mode == "check":
        text = _preview(run)
        if distributed.is_lead():
            print(text)
        return run
    if mode == "study" and distributed.process()[1] > 1:
        raise ValueError(
            "--distributed: a study is shared by its store; start the same command on every "
            "machine without it, on one file system"
        )
    _run_stages(run, mode, {} if on_event is None else {"on_event": on_event}, mirror)
    return run


def _mirrored(config, mode, directory, space, url):
    """Check the fields, then restore the workdir if it is empty; return its mirror, in the lead."""
    directory = file_paths.local(directory, "--workdir")
    check_fields(config, space)
    mirror_lib.check_mode(_mode(config, mode), directory, config.study.pool)
    if not distributed.is_joined():  # to ask for the lead would start JAX, before its settings
        return mirror_lib.Mirror(url, directory)
    with distributed.lead_first("mirror"):
        return mirror_lib.Mirror(url, directory) if distributed.is_lead() else None


def check(
    config: ConfigDict,
    directory: str | Path,
    *,
    space: Space | None = None,
    data: Data | None = None,
    target: str | None = None,
) -> str:
    """Return what a run will take, as the mode "check" prints it; nothing is written.

    `target` is of `aot.targets.TARGETS`: the programs are compiled for these accelerators, which
    need not be there (`aot.fit`); None: on this machine. Other arguments and errors as of `run`.
    """
    if target is None:
        return _preview(_begin(config, "check", directory, space, data)[0])
    check_fields(given.recorded(config, space, data), space)
    return fit.text(config, directory, target, space=space, data=data)


def _begin(config, mode, directory, space, data):
    """Check a config and build its run; return it and the mode."""
    directory = file_paths.local(directory, "--workdir")
    config = files.as_begun(given.recorded(config, space, data), directory)
    check_fields(config, space)
    mode = _mode(config, mode)
    environment.start(build.num_cpu_devices(config))
    return build.build_run(config, directory, space=space, data=data), mode


def _run_stages(run, mode, also, mirror):
    directory = run.workdir
    with contextlib.ExitStack() as stack:
        with _explained(directory, mode), distributed.lead_first("workdir"):
            mine = stack.enter_context(_claim(directory, mode))
            if distributed.is_lead():
                with mirror.opened() if mirror else contextlib.nullcontext():
                    compared = _check_workdir(run, mode)  # before anything is written
                    stack.enter_context(mirror.kept(mine) if mirror else contextlib.nullcontext())
                    _open(run, mode, *compared)
        parts = plan.of(run, mode)
        if mine:
            stack.enter_context(run_log.kept(directory))
            for line in plan.lines(run, mode, parts):
                logger.info("%s", line)
            logger.info("  this log is kept in %s", run.workdir / run_log.FILE)
        stack.enter_context(_told(run, mode, mine, also))
        stack.enter_context(progress.metered({part.name: part.work for part in parts}))
        say = functools.partial(workdir.set_status, directory) if mine else _say_nothing
        for stage in config_lib.STAGES if mode == "search" else (mode,):
            recorded = _recorded(functools.partial(say, stage=stage))
            progress.begin(stage)
            logger.info("%s  begins", stage)
            with _on_sigterm(), _explained(directory, stage), recorded:
                if distributed.is_lead() or stage not in SHARED:
                    STAGES[stage](run)
                preemption.check()
                distributed.barrier(stage)
        say("done", stage=mode)


@contextlib.contextmanager
def _told(run, mode, mine, also):
    """Tell the listeners what happens in the block, and how it ends.

    Those of the config write into the workdir, so they hear nothing where it is another process's.
    """
    leads = distributed.is_lead()
    made = listeners.make(run.config.listeners, leads) if mine or not leads else {}
    with events.listening({**made, **also} if leads else made):
        if not leads:
            yield
            return
        begun = {"mode": mode, "config": dict(flatten(run.config)), "space": run.space}
        events.emit("begin", run.workdir, begun)
        end = {"status": "done"}
        try:
            yield
        except BaseException as error:
            end = {"status": _status_after(error), "error": " ".join(str(error).split())}
            raise
        finally:
            events.emit("end", run.workdir, end)


def _check_workdir(run, mode):
    """Check that the workdir is this run's, or may become so; return what was compared."""
    config, inputs = run.config.to_dict(), _inputs(run, mode)
    rules = {"grows": mode != "study", "turns": supernet.has_turns(run)}  # what may change
    workdir.check(run.workdir, config, inputs, **rules)
    return config, inputs, rules


def _open(run, mode, config, inputs, rules):
    """Make the workdir; a report leaves one that is there, which may be in use."""
    if mode != "report" or not (run.workdir / "config.json").exists():
        workdir.open_workdir(run.workdir, config, inputs, run.data.facts(), **rules)
        workdir.write_splits(run.workdir, run.data.origins_by_split())


def _preview(run):
    """Say what the run will take, and check that it may begin, or go on, in its folder."""
    mode = "study" if run.config.study.parts else "search"
    _check_workdir(run, mode)
    with _explained(run.workdir, "supernet"):
        return preview.text(run, mode)


def check_fields(config: ConfigDict, space: Space | None = None) -> None:
    """Check a config, or a study, without its data; `space` as of `build.check_fields`.

    Raises: ValueError that names the field and the way out.
    """
    build.check_fields(config, space)
    if config.study.parts:
        _check_study(config)


def _mode(config, mode):
    """Return the given mode, or else the one that the config is for."""
    if mode is not None:
        naming.check("--mode", mode, config_lib.RUN_MODES)
    if mode == "check":
        return mode
    if not config.study.parts:
        if mode == "study":
            _check_study(config)  # raises
        return mode or "search"
    if mode not in (None, "study"):
        raise ValueError(
            f"--mode={mode}, but config.study.parts={tuple(config.study.parts)}: the config is a "
            "study; leave --mode out, or use a config without study.parts"
        )
    return "study"


def _inputs(run, mode):
    config, data = run.config, run.data
    table = tabular.digest(config.table)
    methods = compatibility.mended(config.space.name, config.supernet.sampler, config.sweep.score)
    if mode in SHARED:  # a report takes any results; a study's store checks its own
        methods = {}
    else:
        if run.constraints.latencies is not None:
            methods["latency"] = latency_table.digest(run.constraints.latencies)
        if code := plugins.digests_of_code(compatibility.decisive(config.to_dict())):
            methods["files"] = code
    return {"fingerprint": data.fingerprint, "order": data.order, "table": table, **methods}


@contextlib.contextmanager
def _claim(directory: Path, mode: str) -> Iterator[bool]:
    """Claim the workdir; yield whether this process writes status.json.

    The lead process does, unless another run has claimed the folder.
    """
    if not distributed.is_lead():
        yield False
        return
    with workdir.claim(directory, wait=False) as mine:
        if not mine and mode not in SHARED:
            raise ValueError(
                f"--workdir={directory} is in use by another process; wait for that, or use "
                f"another folder: --workdir={workdir.next_free(directory)}"
            )
        yield mine


def _on_sigterm():
    """Watch for SIGTERM; with several processes JAX itself tells all of them."""
    return contextlib.nullcontext() if distributed.process()[1] > 1 else preemption.on_sigterm()


def _say_nothing(status, **details):
    """Write nothing: status.json belongs to another process."""


@contextlib.contextmanager
def _recorded(say: Callable) -> Iterator[None]:
    """Keep status.json while a stage runs, and after it failed."""
    say("running")
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk must not hide the error
            say(_status_after(error), error=" ".join(str(error).split()))
        raise


def _status_after(error):
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, FloatingPointError) else "failed"


@contextlib.contextmanager
def _explained(directory: Path, stage: str) -> Iterator[None]:
    """Turn failures of memory and disk into a ValueError that says what to do."""
    try:
        yield
    except Exception as error:
        way_out = _way_out(error, stage)
        if way_out is None:
            raise
        what = str(error) or type(error).__name__  # a MemoryError may have no text
        raise ValueError(f"--workdir={directory}: {what}; {way_out}") from error


def _way_out(error, stage):
    if getattr(error, "errno", None) in _READ_ONLY:
        return "use a folder that can be written to: --workdir=<folder>"
    # Orbax and TensorStore raise other errors, which quote that of the system.
    if getattr(error, "errno", None) in _FULL or any(os.strerror(n) in str(error) for n in _FULL):
        return "free some space, then start again: it goes on from there"
    out = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)  # host, or device
    if out and stage in _MEMORY:
        return f"{stage} ran out of memory; lower {_MEMORY[stage]}"
    return None
