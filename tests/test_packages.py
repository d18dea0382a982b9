"""The order of the packages: a file imports from its own package and from rows below it alone."""

import ast
import graphlib
import pathlib
import re

import pytest

import nas_jax

ROOT = pathlib.Path(nas_jax.__file__).parent
ORDER = (  # from the bottom up
    "naming",
    "plugins",
    "runtime storage nn",
    "data spaces",
    "costs oneshot proxies",
    "strategies",
    "run config",
    "training",
    "report candidates",
    "standalone",
    "given listeners",
    "build tables plan",
    "studies preview exports aot",
    "pipeline",
    "api cli",
)
ROW = {name: row for row, names in enumerate(ORDER) for name in names.split()}
CONFIG_DICT_FROM = ROW["run"]  # below, keyword arguments; and in `config`
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}


def module_name(file):
    """'spaces/cell.py' -> 'spaces.cell'; 'spaces/__init__.py' -> 'spaces'; '__init__.py' -> ''."""
    parts = pathlib.PurePosixPath(file).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(file) for file in FILES}


def package(module):
    return module.partition(".")[0]


def imports(file, source):
    """Names of all modules that a file imports anywhere; `from a import b` is a.b if that is one.

    Modules of this package are without its name.
    """
    own = ("nas_jax", *pathlib.PurePosixPath(file).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else ()
            parent = ".".join([*base, *filter(None, [node.module])])
            found = [f"{parent}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            inside = name.removeprefix("nas_jax").removeprefix(".")
            if inside == name:
                yield name
            elif inside not in MODULES and (parent := inside.rpartition(".")[0]) in MODULES:
                yield parent
            else:
                yield inside


def wrong_imports(file, source):
    """What is wrong with a file's imports, as sentences."""
    module = module_name(file)
    if not module:  # nas_jax/__init__.py may import whatever it likes
        return []
    own = package(module)
    if own not in ROW:
        return [f"{file}: {own} is in no row"]
    wrong = []
    for imported in imports(file, source):
        if imported == "ml_collections" or imported.startswith("ml_collections."):
            if ROW[own] < CONFIG_DICT_FROM and own != "config":
                wrong.append(f"{file} ({own}) imports {imported}")
        elif imported in MODULES and imported:
            above = package(imported) != own and ROW.get(package(imported), 99) >= ROW[own]
            if above:
                wrong.append(f"{file} ({own}) imports {imported}, which is not below")
    return wrong


@pytest.mark.parametrize("file", sorted(FILES))
def test_imports_point_down(file):
    assert not wrong_imports(file, FILES[file])


def test_no_two_modules_import_each_other():
    graph = {module_name(file): set(imports(file, source)) for file, source in FILES.items()}
    del graph[""]
    own = {name: {m for m in found if m in MODULES and m != name} for name, found in graph.items()}
    graphlib.TopologicalSorter(own).prepare()


@pytest.mark.parametrize("file", sorted(FILES))
def test_imports_can_be_seen(file):
    """No name of a module is made of strings, but of the public API's and of a user's own."""
    assert file in ("__init__.py", "plugins.py") or "import_module" not in FILES[file]
    assert "__import__" not in FILES[file]


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("nn/layers.py", "from nas_jax import spaces", "nn/layers.py (nn) imports spaces"),
        ("nn/layers.py", "import nas_jax.spaces.cell", "nn/layers.py (nn) imports spaces.cell"),
        ("nn/layers.py", "from ..storage import workdir", "nn/layers.py (nn) imports storage.work"),
        (
            "spaces/cell.py",
            "def f():\n  import nas_jax.training.optim",
            "spaces/cell.py (spaces) imports training.optim",
        ),
        (
            "oneshot/path_dropout.py",
            "import ml_collections",
            "oneshot/path_dropout.py (oneshot) imports ml_collections",
        ),
        ("helpers.py", "", "helpers.py: helpers is in no row"),
    ],
)
def test_wrong_imports_are_found(file, source, message):
    (found,) = wrong_imports(file, source)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("spaces/cell.py", "from nas_jax.spaces import base"),
        ("spaces/cell.py", "from . import base\nfrom ..nn import layers"),
        ("config/validation.py", "import ml_collections"),
        ("training/loop.py", "from ml_collections import ConfigDict"),
        ("costs/latency.py", "import jax\nfrom nas_jax import spaces"),
    ],
)
def test_right_imports_are_not(file, source):
    assert not wrong_imports(file, source)


def test_each_package_is_in_one_row():
    names = " ".join(ORDER).split()
    assert len(names) == len(set(names))


MOST_LINES, MOST_OF_A_FUNCTION, MOST_PARAMETERS = 350, 60, 12


@pytest.mark.parametrize("file", sorted(FILES))
def test_files_and_functions_fit_on_a_few_screens(file):
    assert len(FILES[file].splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(FILES[file])):
        if isinstance(node, ast.FunctionDef):
            given = [
                a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            ]
            parameters = [name for name in given if name not in ("self", "cls")]
            assert node.end_lineno - node.lineno < MOST_OF_A_FUNCTION, node.name
            assert len(parameters) <= MOST_PARAMETERS, node.name


def test_the_drawing_in_the_documents_has_the_order():
    """From the top down, as in `ORDER` from the bottom up."""
    text = (ROOT.parent / "docs" / "engineering" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.partition("```")[2].partition("```")[0]
    names = (line[:48] for line in drawing.splitlines())  # what they are for follows
    rows = [set(re.findall(r"\w+", line)) for line in names]
    drawn = [row for row in rows if row]
    assert [set(names.split()) for names in reversed(ORDER)] == drawn
