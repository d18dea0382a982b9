"""Config files: those that come with the package, by name, and a user's own, by path."""

import importlib.util
import inspect
import logging
import os
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from nas_jax import naming, plugins
from nas_jax.config import recipes, variants
from nas_jax.config.defaults import default
from nas_jax.storage import compatibility, file_paths, json_files, schemas

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder of the configs that come with the package.

    It is `nas_jax/configs` where the package is installed, and `configs` in a checkout.
    """
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """List the names of these configs, such as "digits" and "studies/final".

    Files that begin with "_" are not for --config, but may be loaded by others.
    """
    root = folder()
    paths = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if not path.name.startswith("_"))


def path_of(given: str) -> str:
    """Return "FILE.py" or "FILE.py:variant" of what --config names.

    Args:
      given: a name of `names`, or the path of a file that ends in .py; each may end in ":variant".

    Raises: ValueError if there is no such config (with the nearest), or no such file.
    """
    name, colon, variant = given.partition(":")
    if not name.endswith(".py"):
        path = folder() / f"{name}.py"
        if not path.is_file():
            naming.check("--config", name, names())
        return f"{path}{colon}{variant}"
    path = os.path.expanduser(name)
    if not Path(path).is_file():
        stem = name.removesuffix(".py").removeprefix("configs/")
        near = naming.nearest(stem, names())
        raise ValueError(
            f"--config={given}: there is no file {name}; the configs that come with nas_jax have "
            f"names without .py, such as --config={near}"
        )
    return f"{path}{colon}{variant}"


def default_workdir(given: str) -> Path:
    """Return runs/NAME-variant, for what --config names."""
    path, _, variant = given.partition(":")
    return Path("runs", "-".join(filter(None, (Path(path).stem, variant))))


def load(given: str) -> ConfigDict:
    """Return the config of a name or a file, each of which may end in ":variant".

    Configs are made of others by it: it works in a checkout, where the package is installed, and
    in a file that is loaded by its path.

    Raises: ValueError as of `path_of`, or if the config has no such variant.
    """
    path, colon, variant = path_of(given).partition(":")
    module = _module(Path(path))
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config={given}: {path} has no function get_config")
    if colon and not inspect.signature(module.get_config).parameters:
        raise ValueError(f"--config={given}: it has no variants; leave out the colon and the rest")
    return module.get_config(*([variant] if colon else []))


def path_in_workdir(directory: str | Path) -> Path:
    """Return the path of the config.json of the run in a folder.

    Raises: ValueError if there is none.
    """
    path = file_paths.local(directory, "--workdir") / "config.json"
    if not path.exists():
        raise ValueError(f"--workdir={directory} holds no run: there is no {path}")
    return path


def of_workdir(directory: str | Path) -> ConfigDict:
    """Return the config of the run in a folder, as its config.json says.

    Raises: ValueError if there is none.
    """
    path = path_in_workdir(directory)
    return _completed(json_files.read_json(path, schemas.OBJECT))


def as_begun(config: ConfigDict, directory: Path) -> ConfigDict:
    """Return the config of a run that began before some fields existed, as it began."""
    path = directory / "config.json"
    if not path.exists():
        return config
    there = json_files.read_json(path, schemas.CONFIG)
    former = dict(compatibility.former_values(config.to_dict(), default().to_dict(), there))
    former |= _of_former_smash(config, there)
    if former:
        logger.warning(
            "%s was begun by an earlier version; it goes on as it began, with %s",
            directory,
            ", ".join(f"{name}={value!r}" for name, value in former.items()),
        )
        config = config.copy_and_resolve_references()
        config.update_from_flattened_dict(former)
    return config


def _of_former_smash(config, there):
    """Return {field: value} of a SMASH that was begun when it had one form and no recipe.

    These are its form, and what it has where the config has a value of the recipe. What is set
    otherwise on purpose stays, and is then refused.
    """
    values, options = recipes.recipe(config), config.supernet.variant_options
    began = there.get("sweep", {}).get("options")  # SMASH was a strategy once
    began = there.get("supernet", {}).get("variant_options", began)
    if not values or recipes.names_form(options) or recipes.names_form(began):
        return {}
    began, now = (dict(variants.flatten(tree)) for tree in (_completed(there), config))
    if began.get(recipes.FIELD) != "smash":
        return {}
    former = {name: began.get(name) for name, value in values.items() if now.get(name) == value}
    former = {name: value for name, value in former.items() if value not in (None, now[name])}
    return former | {"supernet.variant_options": (*options, tuple(compatibility.FORMER_SMASH))}


def _completed(there):
    return ConfigDict(_with_tuples(compatibility.completed(there)))


def _with_tuples(tree):
    if isinstance(tree, dict):
        return {name: _with_tuples(value) for name, value in tree.items()}
    return plugins.as_tuples(tree)


def _module(path: Path) -> ModuleType:
    """Run a config's file; each time anew, so that a file that was changed is read again."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
