"""Objects that a user names: of a registry, of an installed plug-in, of a module, or of a file.

One resolver serves search spaces, ops, strategies, samplers, evaluators, training variants,
optimisers, losses, augmentations, latencies and listeners. A plug-in is installed as an entry point
of the group `nas_jax.<kind>`, such as `nas_jax.spaces`.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nas_jax import naming

_importing = threading.RLock()
_PACKAGE = Path(__file__).parent
_FILE = "nas_jax_file_"  # how the module of a user's file is named, before a digest of its path


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
    return call(field, name, installed[name].load)


def check(field: str, name: Any, names: Iterable[str], kind: str) -> None:
    """Check a name before anything is imported: one of `names`, a "PLACE:NAME", or installed.

    Raises: ValueError, with the nearest name.
    """
    if name in (names := [*names]) or (isinstance(name, str) and ":" in name):
        return
    naming.check(field, name, [*names, *entry_points(kind)])


def maker(field: str, name: Any, registry: Mapping[str, Any], kind: str) -> Callable:
    """Return the function that a field names; arguments and errors as of `resolve`.

    Raises: ValueError if what it names cannot be called.
    """
    found = resolve(field, name, registry, kind)
    if not callable(found):
        raise ValueError(f"{field}={name!r} is a {type(found).__name__}, and cannot be called")
    return found


def options_of(
    field: str,
    name: Any,
    function: Callable,
    options: Iterable[tuple[str, Any]],
    options_field: str,
    context: Iterable[str] = (),
) -> dict[str, Any]:
    """Check options, the keyword-only arguments of a function, and return them as a dict.

    Args:
      field, name: of the config, which name the function.
      function: what has the options.
      options: (option, value) pairs.
      options_field: the field that has them, for errors.
      context: keywords that are no options, since the caller gives them.

    Raises: ValueError if an option is unknown, of another type than its default, or missing.
    """
    keywords = naming.keywords(function)
    defaults = {key: default for key, default in keywords.items() if key not in context}
    naming.check_options(options_field, name, options, defaults)
    given = dict(options)
    for key, default in defaults.items():
        if default is naming.REQUIRED and key not in given:
            raise ValueError(
                f"{field}={name!r} needs the option {key!r}: {options_field}=(({key!r}, <value>),)"
            )
    return given


def as_tuples(value: Any) -> Any:
    """Turn lists, which a config and a JSON file have, into tuples, which can be hashed."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


def hashable(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return options as (option, value) pairs in which lists, which a config has, are tuples."""

    return tuple((key, as_tuples(value)) for key, value in options.items())


def make(
    field: str,
    name: Any,
    registry: Mapping[str, Any],
    kind: str,
    *arguments: Any,
    options: Iterable[tuple[str, Any]] = (),
    options_field: str = "",
    context: Mapping[str, Any] | None = None,
) -> Any:
    """Call the function that a field names, and return what it makes.

    Args:
      field, name, registry, kind: as of `resolve`.
      *arguments: of the function.
      options, options_field: as of `options_of`.
      context: further keywords; those that the function lacks are left out.

    Raises: ValueError, in one line that names field and function, if a function of a user or a
      plug-in raises; those of `resolve` and `options_of`.
    """
    function, context = maker(field, name, registry, kind), context or {}
    given = options_of(field, name, function, options, options_field, context)
    keywords = naming.keywords(function)
    given |= {key: value for key, value in context.items() if key in keywords}
    if is_named(name, registry):
        return function(*arguments, **given)
    return call(field, name, function, *arguments, **given)


def call(field: str, name: Any, function: Callable, *arguments: Any, **options: Any) -> Any:
    """Call a function of a user or a plug-in.

    Raises: ValueError, in one line that names field, function and place, if it raises.
    """
    try:
        return function(*arguments, **options)
    except (MemoryError, FloatingPointError):  # of the machine, or of a training that diverged
        raise
    except Exception as error:
        raise ValueError(f"{field}={name!r}: {described(error)}") from error


def described(error: BaseException) -> str:
    """Say in one line what was raised, and where: in the user's last line, not in a library."""
    what = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__} in {_place(error)}: {what}"


def _place(error):
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_libraries())]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def is_named(name: Any, registry: Mapping[str, Any]) -> bool:
    """Say whether a name is this package's own, not a user's or a plug-in's."""
    return isinstance(name, str) and name in registry


def entry_points(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return {name: entry point} of the installed plug-ins of a kind."""
    return {point.name: point for point in importlib.metadata.entry_points(group=f"nas_jax.{kind}")}


def name_of(value: Any) -> str:
    """Return the name "FILE.py:NAME" or "MODULE:NAME" by which a class or function is found."""
    module = sys.modules[value.__module__]
    of_file = value.__module__.startswith(_FILE)
    return f"{module.__file__ if of_file else value.__module__}:{value.__qualname__}"


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: classes and functions by name, others by their repr."""
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, functools.partial):
        options = (f"{name}={plain(option)!r}" for name, option in sorted(value.keywords.items()))
        return f"{plain(value.func)}({', '.join([*map(repr, map(plain, value.args)), *options])})"
    return name_of(value) if hasattr(value, "__qualname__") else repr(value)


def file_of(name: Any) -> Path | None:
    """Return the file that a name "FILE.py:NAME" reads; None for other names."""
    place = name.rpartition(":")[0] if isinstance(name, str) else ""
    return Path(os.path.expanduser(place)) if place.endswith(".py") else None


def digests_of_code(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {file or module: digest of its source} of the user's code that a config names.

    That is "FILE.py:NAME", and "MODULE:NAME" of a module that was imported and is not installed.
    """
    places = {
        value.rpartition(":")[0]: path
        for value in _leaves(config)
        if (path := file_of(value) or _module_file(value)) and path.is_file()
    }
    return {
        place: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for place, path in sorted(places.items())
    }


def names_place(value: Any, place: str) -> bool:
    """Say whether a value of a config names something of a file or module, by "PLACE:NAME"."""
    names = (leaf for leaf in _leaves(value) if isinstance(leaf, str))
    return any(name.rpartition(":")[0] == place for name in names)


def _module_file(name):
    """Return the file of an imported module of the user's; None for a script and for a library."""
    place = name.rpartition(":")[0] if isinstance(name, str) else ""
    path = getattr(sys.modules.get(place), "__file__", None) if place != "__main__" else None
    return Path(path) if path and not path.startswith(_libraries()) else None


def _libraries():
    paths = sysconfig.get_paths()
    return (*(paths[kind] for kind in ("purelib", "platlib", "stdlib")), str(_PACKAGE))


def _leaves(tree):
    if isinstance(tree, Mapping | tuple | list):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _leaves(value)
    else:
        yield tree


def _attribute(field, name):
    place, _, attribute = name.rpartition(":")
    path = file_of(name)
    load = (lambda: _of_file(path)) if path else (lambda: importlib.import_module(place))
    if path and not path.is_file():
        raise ValueError(f"{field}={name!r}: there is no file {path.absolute()}")
    module = call(field, name, load)
    if not hasattr(module, attribute):
        own = [key for key in vars(module) if not key.startswith("_")] or ["nothing"]
        near = naming.nearest(attribute, own)
        raise ValueError(f"{field}={name!r}: {place} has no {attribute!r}; nearest: {near!r}")
    return getattr(module, attribute)


def _of_file(path: Path) -> ModuleType:
    """Import a file, again only if it was changed: equal objects of one content stay equal."""
    path = path.resolve()
    content = str(path).encode() + b"\0" + path.read_bytes()
    name = f"{_FILE}{hashlib.sha256(content).hexdigest()[:12]}"
    with _importing:  # so that no thread gets a half of it
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
