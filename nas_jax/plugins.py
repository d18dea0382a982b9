"""Objects that a user names: of a registry, of an installed plug-in, of a module, or of a file.

One resolver serves search spaces, ops, strategies, samplers, evaluators, optimisers, losses and
augmentations. A plug-in is installed as an entry point of the group `nas_jax.<kind>`, such as
`nas_jax.spaces`.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nas_jax import naming


def resolve(field: str, name: Any, registry: Mapping[str, Any], kind: str) -> Any:
    """Return the object that a field of the config names.

    Args:
      field: what errors call the name, such as "config.space.name".
      name: a key of `registry`, "FILE.py:NAME", "PACKAGE.MODULE:NAME", or the name of an installed
        plug-in. An object that is no text is returned as it is.
      registry: {name: object} of this package.
      kind: of the objects, such as "spaces".

    Raises: ValueError, in one line, if there is no such object (with the nearest name), or if its
      file or module raises.
    """
    if not isinstance(name, str) or name in registry:
        return registry[name] if isinstance(name, str) else name
    if ":" in name:
        return _attribute(field, name)
    installed = entry_points(kind)
    if name not in installed:
        naming.check(field, name, [*registry, *installed])
    return _loaded(field, name, installed[name].load)


def is_named(name: Any, registry: Mapping[str, Any]) -> bool:
    """Say whether a name is this package's own, not a user's or a plug-in's."""
    return isinstance(name, str) and name in registry


def entry_points(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return {name: entry point} of the installed plug-ins of a kind."""
    return {point.name: point for point in importlib.metadata.entry_points(group=f"nas_jax.{kind}")}


def file_of(name: Any) -> Path | None:
    """Return the file that a name "FILE.py:NAME" reads; None for other names."""
    place = name.rpartition(":")[0] if isinstance(name, str) else ""
    return Path(place).expanduser() if place.endswith(".py") else None


def _attribute(field, name):
    place, _, attribute = name.rpartition(":")
    path = file_of(name)
    load = (lambda: _of_file(path)) if path else (lambda: importlib.import_module(place))
    if path and not path.is_file():
        raise ValueError(f"{field}={name!r}: there is no file {path.absolute()}")
    module = _loaded(field, name, load)
    if not hasattr(module, attribute):
        own = [key for key in vars(module) if not key.startswith("_")] or ["nothing"]
        near = naming.nearest(attribute, own)
        raise ValueError(f"{field}={name!r}: {place} has no {attribute!r}; nearest: {near!r}")
    return getattr(module, attribute)


def _loaded(field, name, load):
    try:
        return load()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{error.filename}, line {error.lineno}" if isinstance(error, SyntaxError) else ""
        where = where or f"{frames[-1].filename}, line {frames[-1].lineno}"
        what = " ".join(str(error).split()) or "no message"
        raise ValueError(f"{field}={name!r}: {type(error).__name__} in {where}: {what}") from error


def _of_file(path: Path) -> ModuleType:
    """Import a file once: its classes stay the same, so equal objects stay equal."""
    path = path.resolve()
    name = f"nas_jax_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
