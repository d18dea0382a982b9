"""Checkpoints of a training run, by Orbax: a step's folder appears whole or not at all.

What a kill cannot damage a disk can, so each carries a digest of its arrays.

    <name>/<step>/          at regular steps; the last few are kept
    interrupted/<step>/     at the step after which a training was asked to stop, until the next one
    damaged/<step>/         what could not be read
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from nas_jax.storage import compatibility, file_paths
from nas_jax.storage.identity import Identity

logger = logging.getLogger(__name__)

SAVED_AS = {"sampler_state": "policy"}  # names of a state's fields in checkpoints


class Resumed(NamedTuple):
    """Where a training goes on."""

    step: int
    state: Any
    pending: dict  # of `Checkpoints.interrupt`; {} at a regular step


class Weights(NamedTuple):
    """What evaluation reads of a training's state."""

    step: int
    params: Any
    sampler_state: Any


class Checkpoints:
    """The checkpoints under `directory`, a context manager (leaving it waits for the last save).

    Args:
      directory: made if it is not there.
      keep: how many of the latest to keep; None keeps all.
      leads: whether this process reads and writes them; else there are none, and nothing is saved.
      identity: what they are of; None: it is neither saved nor compared.
    """

    def __init__(
        self,
        directory: Path,
        keep: int | None = None,
        leads: bool = True,
        identity: Identity | None = None,
    ):
        file_paths.check(directory, "directory")
        self._directory, self._identity = Path(directory).absolute(), identity
        self._manager = _manager(self._directory, keep) if leads else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._manager:
            self._manager.close()

    @property
    def latest(self) -> int | None:
        """The last regular step that was saved whole; None if there is none."""
        return self._manager and self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """All regular steps that were saved whole, the last one last."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, step: int, state: Any) -> None:
        """Save a NamedTuple of NumPy arrays; returns before the files are written."""
        if self._manager is None:
            return
        self._save(self._manager, step, state, {})
        shutil.rmtree(self._aside("interrupted"), ignore_errors=True)

    def interrupt(self, step: int, state: Any, pending: dict) -> None:
        """Save between two regular steps, with plain data beside it; returns when it is written."""
        if self._manager is None:
            return
        with contextlib.closing(_manager(self._aside("interrupted"), 1)) as manager:
            self._save(manager, step, state, {"pending": pending})

    def _save(self, manager, step, state, custom):
        custom = custom | {"digest": _digest(_named(state))}
        if self._identity:
            custom |= {"of": self._identity.to_json()}
        manager.save(step, args=ocp.args.StandardSave(_named(state)), custom_metadata=custom)

    def resume(self, like: Any) -> Resumed | None:
        """The last state that can be read; None where there is none.

        Damaged ones are set aside, and said.

        Raises: ValueError if none can be read, or they are of another network.
        """
        if self._manager is None:
            return None
        with contextlib.ExitStack() as stack:
            managers = [self._manager]
            if self._aside("interrupted").exists():
                managers.append(_manager(self._aside("interrupted"), 1))
                stack.callback(managers[-1].close)
            return self._last_sound(managers, like)

    def _last_sound(self, managers, like):
        errors = {}
        found = [(manager, step) for manager in managers for step in manager.all_steps()]
        for manager, step in sorted(found, key=lambda pair: pair[1], reverse=True):
            try:
                state, custom = _read(manager, step, like, self._identity)
            except _Unfit:  # it is sound, and an older one may be too old to say so
                raise
            except ValueError as error:
                errors[manager, step] = error
                continue
            for (damaged, number), error in errors.items():
                logger.warning("%s; going on from step %d", error, step)
                _set_aside(Path(damaged.directory) / str(number))
                damaged.reload()
            return Resumed(step, state, custom.get("pending", {}))
        for error in errors.values():
            raise error
        return None

    def _aside(self, name):
        return self._directory.with_name(name)

    def restore(self, step: int, like: Any) -> Any:
        """The state of a regular step, as NumPy arrays.

        Args:
          step: a step that was saved.
          like: a state of the same structure, shapes and dtypes; its values are not read.

        Raises: ValueError if the checkpoint is damaged, or of something else: another identity,
          structure, size or dtype.
        """
        return _read(self._manager, step, like, self._identity)[0]

    def weights(self, step: int, params: Any, sampler_state: Any) -> Weights:
        """Return what evaluation reads of a regular step's state, as NumPy arrays.

        Args:
          step: a step that was saved.
          params, sampler_state: trees of the same structure, shapes and dtypes.

        Raises: ValueError as `restore`.
        """
        path, saved, _ = _saved(self._manager, step, self._identity)
        like = {"params": params, "policy": sampler_state}
        there = {name: saved[name] for name in like}
        _check_fits(path, _forms(there), _forms(like))
        found = _in_form_of(like, there)
        return Weights(step, found["params"], found["policy"])


def _manager(directory, keep):
    def make(directory):
        return ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=False, multiprocessing_options=_alone()
            ),
            item_handlers=ocp.StandardCheckpointHandler(),  # so that item_metadata can be read
        )

    directory.mkdir(parents=True, exist_ok=True)
    try:
        return make(directory)
    except ValueError:  # of one step that it cannot even list
        for path in directory.iterdir():
            with tempfile.TemporaryDirectory() as alone:
                Path(alone, path.name).symlink_to(path)
                try:
                    make(Path(alone)).close()
                except ValueError as error:
                    logger.warning("checkpoint %s is damaged (%s)", path, error)
                    _set_aside(path)
        return make(directory)


def _alone():
    """One process saves for all; Orbax must not wait for the others."""
    index, prefix = jax.process_index(), f"owner{jax.process_index()}"
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=prefix
    )


def _set_aside(path):
    """Move a step's folder to damaged/."""
    target = path.parent.with_name("damaged") / path.name
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)


def _read(manager, step, like, identity):
    """(state, plain data) of a step, checked."""
    path, saved, custom = _saved(manager, step, identity)
    wanted = _named(like)
    for name in compatibility.FORMER_LEAVES:  # which are of no use any more
        if name in _forms(saved) and name not in _forms(wanted):
            saved = _without(saved, name.split("."))
    _check_fits(path, _forms(saved), _forms(wanted))
    found = _in_form_of(wanted, saved)
    return type(like)(*(found[SAVED_AS.get(name, name)] for name in like._fields)), custom


def _saved(manager, step, identity):
    """(path, arrays in dicts and lists, plain data) of a step, sound and of that identity."""
    path = f"{manager.directory}/{step}"
    try:
        there = manager.item_metadata(step).tree
        custom = manager.metadata(step).custom_metadata or {}
        _check_identity(path, custom, identity)
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), there)
        saved = manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except (_Unfit, jax.errors.JaxRuntimeError):  # the latter: no memory
        raise
    except Exception as error:  # whatever Orbax meets in a file that is not as it wrote it
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"checkpoint {path} is damaged ({reason})") from error
    if custom.get("digest", _digest(saved)) != _digest(saved):
        raise ValueError(f"checkpoint {path} is damaged (its arrays are not those that were saved)")
    return path, saved, custom


def _named(state):
    """A dict of a state's fields, by the names that they have in checkpoints."""
    return {SAVED_AS.get(name, name): value for name, value in state._asdict().items()}


def _in_form_of(like, saved):
    """The arrays of `saved` in the containers of `like`, whose leaves have the same names."""
    by_name = dict(zip(_forms(saved), jax.tree.leaves(saved)))
    return jax.tree.unflatten(jax.tree.structure(like), [by_name[name] for name in _forms(like)])


def _without(tree, path):
    """Nested dicts and lists without one leaf."""
    first, *rest = path
    if isinstance(tree, dict):
        kept = {key: value for key, value in tree.items() if key != first}
        return kept | ({first: _without(tree[first], rest)} if rest else {})
    kept = list(tree)
    kept[int(first)] = _without(tree[int(first)], rest) if rest else None
    return kept


class _Unfit(ValueError):
    """A checkpoint of another network."""


def _check_identity(path, custom, identity):
    if identity is not None:
        try:
            identity.check(path, custom.get("of"))
        except ValueError as error:
            raise _Unfit(error) from None


def _check_fits(path, saved, wanted):
    # Before anything is read: Orbax would cast other dtypes without a word.
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = (forms.get(name, "absent") for forms in (saved, wanted))
        if there != here:
            raise _Unfit(
                f"checkpoint {path} does not fit this network "
                f"(another space, width or optimiser?): {name} is {there} there and {here} here"
            )


def _forms(tree):
    """{'params.kernel': 'float32[3, 4]'} of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {n: f"{leaf.dtype}{list(leaf.shape)}" for n, (_, leaf) in zip(names, leaves)}


def _digest(tree):
    """Of all arrays, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
