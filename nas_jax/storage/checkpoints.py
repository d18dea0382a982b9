"""Checkpoints of a training, by Orbax: the folder of a step appears whole or not at all.

A kill therefore damages none. A disk can, so each checkpoint carries a digest of its arrays.

    <name>/<step>/          of regular steps; the last few are kept
    interrupted/<step>/     of the step after which a training had to stop, until the next save
    damaged/<step>/         checkpoints that could not be read
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
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
    """The state from which a training goes on."""

    step: int
    state: Any
    pending: dict  # as given to `Checkpoints.interrupt`; {} at a regular step


class Weights(NamedTuple):
    """The part of a training's state that evaluation reads."""

    step: int
    params: Any
    sampler_state: Any


class Checkpoints:
    """The checkpoints in a folder: a context manager, which waits for the last save at its end.

    Args:
      directory: the folder, which is made if it is missing.
      keep: how many of the latest to keep; None keeps all.
      leads: whether this process reads and writes checkpoints; else it finds and saves none.
      identity: of the checkpoints; None: it is neither saved nor compared.
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
        """Save a NamedTuple of NumPy arrays, and return before the files are written."""
        if self._manager is None:
            return
        self._save(self._manager, step, state, {})
        shutil.rmtree(self._aside("interrupted"), ignore_errors=True)

    def interrupt(self, step: int, state: Any, pending: dict) -> None:
        """Save between two regular steps, with plain data; return when the files are written."""
        if self._manager is None:
            return
        with contextlib.closing(_manager(self._aside("interrupted"), 1)) as manager:
            self._save(manager, step, state, {"pending": pending})

    def _save(self, manager, step, state, custom):
        custom = custom | {"digest": _digest(_by_name(_named(state)))}
        if self._identity:
            custom |= {"of": self._identity.to_json()}
        manager.save(step, args=ocp.args.StandardSave(_named(state)), custom_metadata=custom)

    def resume(self, like: Any) -> Resumed | None:
        """Read the last sound checkpoint; None if there is no checkpoint.

        Damaged ones after it are moved to damaged/, with a warning.

        Args:
          like: a state of the same structure, shapes and dtypes; its values are not read.

        Raises: ValueError if all are damaged, or one is of another network.
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
        saved = [(manager, step) for manager in managers for step in manager.all_steps()]
        for manager, step in sorted(saved, key=lambda pair: pair[1], reverse=True):
            try:
                state, custom = _read(manager, step, like, self._identity)
            except _Unfit:  # it is sound; an older one may lack an identity, and would pass
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
        """Read the state of a regular step, as NumPy arrays.

        Args:
          step: a step that was saved.
          like: a state of the same structure, shapes and dtypes; its values are not read.

        Raises: ValueError if the checkpoint is damaged, or has another identity, structure, shape
          or dtype.
        """
        return _read(self._manager, step, like, self._identity)[0]

    def weights(self, step: int, params: Any, sampler_state: Any) -> Weights:
        """Read the weights of a regular step, as NumPy arrays; moving means, if there are any.

        Args:
          step: a step that was saved.
          params, sampler_state: trees of the same structure, shapes and dtypes.

        Raises: ValueError as `restore`.
        """
        path, saved, _ = _saved(self._manager, step, self._identity)
        like = {"params": params, "policy": sampler_state}
        kept = saved.get("average") or saved
        arrays = _part(path, {"params": kept["params"], "policy": saved["policy"]}, like)
        return Weights(step, arrays["params"], arrays["policy"])

    def variables(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Read what a network of a regular step is evaluated with; moving means, if there are any.

        Args:
          step: a step that was saved.
          like: the network's params and batch_stats, trees of shapes and dtypes.

        Returns: the same trees of NumPy arrays.

        Raises: ValueError as `restore`.
        """
        path, saved, _ = _saved(self._manager, step, self._identity)
        kept = saved.get("average") or saved
        return _part(path, {name: kept[name] for name in like}, dict(like))


def _manager(directory, keep):
    def make(directory):
        # Orbax numbers what it makes aside by one counter for all threads: two that save at once
        # would wait for each other's folders. So folders are made before a save goes aside.
        aside = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        return ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=False,
                multiprocessing_options=_alone(),
                async_options=aside,
            ),
            item_handlers=ocp.StandardCheckpointHandler(),  # so that item_metadata can be read
        )

    directory.mkdir(parents=True, exist_ok=True)
    try:
        return make(directory)
    except ValueError:  # Orbax cannot even list one of the steps
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
    """Make Orbax save in one process, without waiting for the others."""
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
    """Read and check (state, plain data) of a step."""
    path, saved, custom = _saved(manager, step, identity)
    wanted = _named(like)
    for name in compatibility.FORMER_LEAVES:  # these have no use any more
        if name in _forms(saved) and name not in _forms(wanted):
            saved = _without(saved, name.split("."))
    _check_fits(path, _forms(saved), _forms(wanted))
    arrays = _in_form_of(wanted, saved)
    return type(like)(*(arrays[SAVED_AS.get(name, name)] for name in like._fields)), custom


def _saved(manager, step, identity):
    """Read (path, arrays in dicts and lists, plain data) of a step; check digest and identity."""
    path = f"{manager.directory}/{step}"
    try:
        there = manager.item_metadata(step).tree
        custom = manager.metadata(step).custom_metadata or {}
        _check_identity(path, custom, identity)
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), there)
        saved = manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except (_Unfit, jax.errors.JaxRuntimeError):  # the latter: no memory
        raise
    except Exception as error:  # Orbax raises anything on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"checkpoint {path} is damaged ({reason})") from error
    # Earlier versions took the digest in the order of the tree, not of the names.
    digests = _digest(_by_name(saved)), _digest(saved)
    if custom.get("digest", digests[0]) not in digests:
        raise ValueError(f"checkpoint {path} is damaged (its arrays are not those that were saved)")
    return path, saved, custom


def _part(path, part, like):
    """Put a part of a saved state into the form of `like`, if it fits."""
    _check_fits(path, _forms(part), _forms(like))
    return _in_form_of(like, part)


def _named(state):
    """Turn a state into a dict, by the names that its fields have in checkpoints."""
    return {SAVED_AS.get(name, name): value for name, value in state._asdict().items()}


def _in_form_of(like, saved):
    """Put the arrays of `saved` into the containers of `like`, by the names of the leaves."""
    by_name = dict(zip(_forms(saved), jax.tree.leaves(saved)))
    return jax.tree.unflatten(jax.tree.structure(like), [by_name[name] for name in _forms(like)])


def _without(tree, path):
    """Copy nested dicts and lists without one leaf."""
    first, *rest = path
    if isinstance(tree, dict):
        kept = {key: value for key, value in tree.items() if key != first}
        return kept | ({first: _without(tree[first], rest)} if rest else {})
    kept = list(tree)
    kept[int(first)] = _without(tree[int(first)], rest) if rest else None
    return kept


class _Unfit(ValueError):
    """The checkpoint is sound, but of another network."""


def _check_identity(path, custom, identity):
    if identity is not None:
        try:
            identity.check(path, custom.get("of"))
        except ValueError as error:
            raise _Unfit(error) from None


def _check_fits(path, saved, wanted):
    # Orbax would cast other dtypes without a word.
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = (forms.get(name, "absent") for forms in (saved, wanted))
        if there != here:
            raise _Unfit(
                f"checkpoint {path} does not fit this network "
                f"(another space, width or optimiser?): {name} is {there} there and {here} here"
            )


def _forms(tree):
    """Name dtype and shape of each leaf: {'params.kernel': 'float32[3, 4]'}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {n: f"{leaf.dtype}{list(leaf.shape)}" for n, (_, leaf) in zip(names, leaves)}


def _by_name(tree):
    """Sort the leaves by their names, which no container changes."""
    return [
        leaf
        for _, leaf in sorted(zip(_forms(tree), jax.tree.leaves(tree)), key=lambda pair: pair[0])
    ]


def _digest(tree):
    """Hash all arrays, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
