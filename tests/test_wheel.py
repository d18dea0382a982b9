"""A wheel of the checkout holds the whole package, and works away from the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")  # beside the package, to build it
NO_INDEX = ("No matching distribution found", "Could not find a version")  # as pip says it
USE = """
import sys, jax, nas_jax
space = nas_jax.spaces.make("cell", num_cells=1, num_blocks=1)
net = space.supernet(num_classes=10, filters=4)
images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
variables = nas_jax.masked.init(jax.random.key(1), net, images, space.all_on())
print(net.apply(variables, images, space.sample(jax.random.key(2))).shape)
print(nas_jax.__file__)
"""


def run(*command, cwd, **environment):
    """Run Python in a folder, with nothing of the checkout on its path."""
    gone = ("PYTHONPATH", "PYTHONSAFEPATH")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def pip(*arguments, cwd):
    return run("-m", "pip", "--disable-pip-version-check", "--retries=0", *arguments, cwd=cwd)


def can_build():
    """Whether this Python's own setuptools makes wheels, so that pip need not fetch another."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(map(int, version.split(".")[:2])) >= (70, 1)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy: a build leaves files behind, and takes up what an earlier one left."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nas_jax", copy / "nas_jax", ignore=ignored)
    isolation = ["--no-build-isolation"] if can_build() else []
    built = pip("wheel", "--no-deps", *isolation, "--wheel-dir=dist", ".", cwd=copy)
    if built.returncode and any(words in built.stderr for words in NO_INDEX):
        pytest.skip("no wheel can be built: setuptools 70.1 is neither installed nor to be fetched")
    assert built.returncode == 0, built.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return path


def files_of_source():
    files = (path for path in (ROOT / "nas_jax").rglob("*") if path.is_file())
    return {f.relative_to(ROOT).as_posix() for f in files if "__pycache__" not in f.parts}


def test_it_holds_all_files_of_the_package_and_no_others(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if ".dist-info/" not in name}
    assert package == files_of_source()
    assert "nas_jax/py.typed" in package


def test_a_supernet_runs_where_it_is_installed(wheel, tmp_path):
    """As a user does who installs without `-e`, from a folder of their own."""
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = ["--no-deps", "--no-index", f"--target={installed}"]
    done = pip("install", *target, str(wheel), cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    used = run("-c", USE, cwd=elsewhere, PYTHONPATH=str(installed))
    assert used.returncode == 0, used.stderr
    shape, file = used.stdout.splitlines()
    assert shape == "(2, 10)"
    assert Path(file) == installed / "nas_jax" / "__init__.py"
    assert (installed / "nas_jax" / "py.typed").is_file()
