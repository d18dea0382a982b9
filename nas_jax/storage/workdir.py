"""The folder of a run: its claim, the config and the inputs that it belongs to, its status."""

import contextlib
import fcntl
import functools
import itertools
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nas_jax import plugins
from nas_jax.storage import compatibility, decided, file_paths, history, json_files, schemas

SPLITS = "splits.json"
_MISSING = "absent"
VERSIONED = ("nas_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def claim(directory: Path, wait: bool) -> Iterator[bool]:
    """Claim `directory` for this process, until the block ends or the process dies.

    Args:
      directory: is made if it is missing.
      wait: whether to wait for a process that has it; else yield False.

    Yields: whether this process has the directory.
    """
    file_paths.check(directory, "directory")
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".claim", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def open_workdir(
    workdir: Path,
    config: dict,
    inputs: dict[str, str | None],
    facts: Mapping[str, Any] = MappingProxyType({}),
    *,
    grows: bool = False,
    turns: bool = False,
) -> None:
    """Make a workdir, or check that an existing one belongs to this config and these inputs.

    A field that config.json lacks has the value that reproduces runs from before that field. Where
    the inputs lie does not matter (`compatibility`).

    Args:
      workdir: the folder.
      config: of the run, resolved, a plain dict; or the part of it that decides the results here.
      inputs: for data.json, the inputs from outside that decide the results here: "fingerprint" of
        the images, the "order" in which they are taken, and "table", a digest of its file or None;
        also which form of a method is used (`compatibility.mended`).
      facts: for data.json of a new workdir, what else is said of the images; it is not compared.
      grows: whether fields may differ on which nothing in the folder depends yet (`decided`).
      turns: whether a supernet depends on the sweep's fields; it counts where `grows`.

    Raises: ValueError that names the fields that differ and proposes another workdir.
    """
    changed, is_used = check(workdir, config, inputs, grows=grows, turns=turns)
    config = json_files.finite(config)
    if changed and is_used:
        config = _grown(workdir, changed, config)
        decided.remove_outdated(workdir, changed)
    # data.json first: after a kill between the two, the fields still differ, and both are written.
    contents = {"data.json": {**inputs, **facts}, "config.json": config}
    if not is_used:  # these may be of other images
        for name in ("data.json", SPLITS):
            (workdir / name).unlink(missing_ok=True)
    for name, content in contents.items():
        if changed or not (workdir / name).exists():
            json_files.write_json(workdir / name, content)
    json_files.write_json(workdir / "versions.json", versions())


def check(
    workdir: Path,
    config: dict,
    inputs: dict[str, str | None],
    *,
    grows: bool = False,
    turns: bool = False,
) -> tuple[list[str], bool]:
    """Check that a workdir is of this config and these inputs, or none yet; see `open_workdir`.

    Returns: the fields that differ, and may; whether what is there depends on any field.
    """
    path, here = workdir / "config.json", _comparable(json_files.finite(config))
    there = _comparable(json_files.read_json(path, schemas.CONFIG)) if path.exists() else here
    found = list(_differing(there, here))
    used = decided.Decided(workdir, there, turns)
    study = there.get("study")
    is_study = isinstance(study, dict) and bool(study.get("parts"))  # its files lie elsewhere
    grows = grows and not is_study
    wrong = [_in_words(*each) for each in found if not (grows and used.may_be(each[0], each[2]))]
    if wrong:
        raise ValueError(
            f"--workdir={workdir} holds a run of another config: {'; '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}. Keep it and use another folder: "
            f"--workdir={next_free(workdir)}"
        )
    changed, is_used = [name for name, *_ in found], bool(used) or not grows
    if is_used:
        _check_inputs(workdir, inputs, there, changed, used if grows else None)
    return changed, is_used


def _grown(workdir, changed, config):
    """Return the content of config.json with the values of some fields as they are now.

    What an earlier version left out stays left out, by which it is known (`compatibility`). Its
    options are written first, since the field by which they are known may be among these.
    """
    there = compatibility.with_variant(json_files.read_json(workdir / "config.json"))
    there = compatibility.with_former_options(there)
    for name in changed:
        *sections, field = name.split(".")
        old, new = (
            functools.reduce(lambda part, key: part.setdefault(key, {}), sections, tree)
            for tree in (there, config)
        )
        if field in new:
            old[field] = new[field]
        else:
            old.pop(field, None)
    return there


def _comparable(config):
    return compatibility.completed(compatibility.decisive(config))


_OTHER_INPUTS = {  # what it means if a field of data.json differs
    "fingerprint": "on other images: the data set has changed since. Put the old one back, or",
    "order": "whose images are taken in another order;",
    "table": "that another table judges: its file has changed since. Put the old one back, or",
    "files": "with other code: a file that the config names has changed since. Undo that, or",
    "latency": "with other latencies: their table has changed since. Put the old one back, or",
    "path_dropout": "of an earlier version, which dropped paths of this space in another way;",
    "trained": "of an earlier version, which initialised candidates in another way;",
}


_FIELDS_OF_INPUTS = {  # an input is not compared if its field may differ, and does
    "table": "table",
    "latency": "sweep.latency.table",
    "trained": "sweep.score",
}


def _check_inputs(workdir, inputs, config, changed, used):
    """Check the inputs; `config` is that of the workdir, `used` what is decided there or None."""
    path = workdir / "data.json"
    if not path.exists():
        return
    there = json_files.read_json(path, schemas.DATA)
    left_out = {name for name, field in _FIELDS_OF_INPUTS.items() if field in changed}
    if "sweep.score" in changed and config.get("supernet", {}).get("sampler") != "path_dropout":
        left_out.add("path_dropout")  # of the evaluator alone
    for name, here in inputs.items():
        was = there.get(name, compatibility.INPUTS.get(name, here))
        if name == "files" and used is not None:  # what no stage has used may be mended
            fixed = [value for field, value in _leaves(config) if not used.may_be(field, None)]
            here = {file: here[file] for file in here if plugins.names_place(fixed, file)}
        if name not in left_out and not _is_same(name, was, here):
            raise ValueError(
                f"--workdir={workdir} holds a run {_OTHER_INPUTS[name]} use another folder: "
                f"--workdir={next_free(workdir)}"
            )


def _leaves(config, prefix=""):
    """Yield (field, value) of a nested config."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_same(name, was, here):
    if name == "files":  # a file that was not named before decides nothing that is there
        return all(here[file] == was[file] for file in here.keys() & was.keys())
    return was == here or (name == "fingerprint" and compatibility.same_images(was, here))


def write_splits(workdir: Path, origins: Mapping[str, list] | None) -> None:
    """Write splits.json, once: {split: file or number of each record}; nothing for None."""
    path = workdir / SPLITS
    if origins is not None and not path.exists():
        json_files.write_json(path, origins)


def differences(old: Any, new: Any) -> Iterable[str]:
    """Yield 'a.b is OLD there and NEW here' for every field in which two configs differ."""
    return itertools.starmap(_in_words, _differing(old, new))


def _in_words(name, old, new):
    return f"{name} is {_as_written(old)!r} there and {_as_written(new)!r} here"


def _as_written(value):
    """Return a value as configs have it: JSON turns tuples into lists."""
    return tuple(map(_as_written, value)) if isinstance(value, list | tuple) else value


def _differing(old, new, prefix=""):
    """Yield (field, old value, new value) of the fields in which two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differing(old.get(key, _MISSING), new.get(key, _MISSING), f"{prefix}.{key}")
    elif old != new:
        yield prefix.lstrip("."), old, new


def next_free(workdir: Path) -> Path:
    """Return the first of workdir-2, workdir-3, ... that does not exist."""
    number = 2
    while (free := workdir.with_name(f"{workdir.name}-{number}")).exists():
        number += 1
    return free


def versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that decide a run's numbers."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def set_status(workdir: Path, status: str, **details: Any) -> None:
    """Write status.json: 'running', 'done', 'diverged' or 'interrupted', with details.

    The same goes into the history of the folder.
    """
    json_files.write_json(workdir / "status.json", {"status": status, **details})
    history.append(workdir, status, **details)
