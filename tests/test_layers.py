"""The order of the layers: a file imports only from lower ones."""

import ast
import functools
import pathlib

import pytest

import nas_jax

ROOT = pathlib.Path(nas_jax.__file__).parent
LAYERS = {
    0: "choices rng analysis kernels runtime variants interruption records file_paths "
    "image_size imaging compatibility naming",
    1: "ops execution workdir parallel data digits validate figures markdown "
    "trust columns identity",
    2: "supernet progress lineage network checkpoints",
    3: "spaces",
    4: "path_dropout cost datasets augment optim tables latency widths",
    5: "strategies samplers findings scaling",
    6: "train_step candidates trust_section pareto_section schedule_section widths_section",
    7: "score sections",
    8: "trainer",
    9: "constraints widths_task population",
    10: "supernet_task trained retrain",
    11: "scorer",
    12: "sweep report",
    13: "pool",
    14: "studies",
    15: "config",
    16: "stages",
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names.split()}
CONFIG_DICT_FROM = LAYER["trainer"]  # below, keyword arguments
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}


def module_name(file):
    """'spaces/cell.py' -> 'spaces.cell'; 'spaces/__init__.py' -> 'spaces'; '__init__.py' -> ''."""
    parts = pathlib.PurePosixPath(file).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(file) for file in FILES}


def layer(module):
    return LAYER[module.partition(".")[0]]


def imports(file, source):
    """Names of all modules that a file imports anywhere; `from a import b` is a.b if that is one.

    Modules of this package are without its name.
    """
    package = ("nas_jax", *pathlib.PurePosixPath(file).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parent = ".".join([*base, *filter(None, [node.module])])
            found = [f"{parent}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            inside = name.removeprefix("nas_jax").removeprefix(".")
            if inside == name:
                yield name
            elif inside in MODULES:
                yield inside
            elif (parent := inside.rpartition(".")[0]) in MODULES:
                yield parent
            else:
                yield inside


def wrong_arrows(file, source):
    """What is wrong with a file's imports, as sentences."""
    module = module_name(file)
    if not module:  # nas_jax/__init__.py may import whatever it likes
        return []
    if module.partition(".")[0] not in LAYER:
        return [f"{file} is in no layer"]
    folder, _, name = module.rpartition(".")
    wrong = []
    for imported in imports(file, source):
        top = imported.partition(".")[0]
        if top == "ml_collections":
            if layer(module) < CONFIG_DICT_FROM and module not in ("validate", "variants"):
                wrong.append(f"{file} (layer {layer(module)}) imports {imported}")
        elif imported in MODULES and imported != "":
            if top not in LAYER:
                wrong.append(f"{file} imports {imported}, which is in no layer")
                continue
            is_init = file.endswith("__init__.py")
            own = is_init and imported.startswith(f"{module}.")
            is_base = folder and imported == f"{folder}.base" and name != "base"
            if layer(imported) >= layer(module) and not own and not is_base:
                wrong.append(
                    f"{file} (layer {layer(module)}) imports {imported} (layer {layer(imported)})"
                )
    return wrong


@pytest.mark.parametrize("file", sorted(FILES))
def test_imports_point_down(file):
    assert not wrong_arrows(file, FILES[file])


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("ops.py", "from nas_jax import cost", "ops.py (layer 1) imports cost (layer 4)"),
        ("ops.py", "import nas_jax.spaces.cell", "ops.py (layer 1) imports spaces.cell (layer 3)"),
        ("ops.py", "from . import workdir", "ops.py (layer 1) imports workdir (layer 1)"),
        (
            "cost.py",
            "def f():\n  import nas_jax.optim",
            "cost.py (layer 4) imports optim (layer 4)",
        ),
        (
            "spaces/base.py",
            "from nas_jax.spaces.cell import CellSpace",
            "spaces/base.py (layer 3) imports spaces.cell (layer 3)",
        ),
        (
            "spaces/cell.py",
            "from nas_jax import spaces",
            "spaces/cell.py (layer 3) imports spaces (layer 3)",
        ),
        ("score.py", "import ml_collections", "score.py (layer 7) imports ml_collections"),
        ("helpers.py", "", "helpers.py is in no layer"),
    ],
)
def test_wrong_arrows_are_found(file, source, message):
    (found,) = wrong_arrows(file, source)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("spaces/cell.py", "from nas_jax.spaces import base"),
        ("spaces/cell.py", "from . import base\nfrom .. import ops"),
        ("spaces/__init__.py", "from nas_jax.spaces.base import Space"),
        ("validate.py", "import ml_collections"),
        ("trainer.py", "from ml_collections import ConfigDict"),
        ("cost.py", "import jax\nfrom nas_jax import spaces"),
    ],
)
def test_right_arrows_are_not(file, source):
    assert not wrong_arrows(file, source)


def test_each_module_is_in_one_layer():
    names = functools.reduce(lambda a, b: a + b.split(), LAYERS.values(), [])
    assert len(names) == len(set(names))
