"""A wheel of the checkout, and virtual environments that it is installed in."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")  # beside the package, to build it
PACKAGE = ("nas_jax", "configs")
# What a source distribution has beside them, as MANIFEST.in says.
FILES = ("MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "launch.py", "ruff.toml")
FOLDERS = ("benchmarks", "docs", "examples", "tests")
NO_INDEX = ("No matching distribution found", "Could not find a version")  # as pip says it


def run(*command, cwd, **environment):
    """Run Python in a folder, with nothing of the checkout on its path."""
    return started(sys.executable, *command, cwd=cwd, **environment)


def started(*command, cwd, **environment):
    """Run a command in a folder, with nothing of the checkout on Python's path."""
    gone = ("PYTHONPATH", "PYTHONSAFEPATH")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return subprocess.run(
        command,
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


def build(folder):
    """Build the wheel of a copy of the checkout, in a folder; skip the test where none can be."""
    copy = copied(folder)
    built(pip("wheel", "--no-deps", *isolation(), "--wheel-dir=dist", ".", cwd=copy))
    (path,) = (copy / "dist").glob("*.whl")
    return path


def copied(folder, files=NEEDED, folders=PACKAGE):
    """A copy to build in: a build leaves files behind, and takes up what an earlier one left."""
    folder.mkdir(exist_ok=True)
    for name in files:
        shutil.copy(ROOT / name, folder)
    for name in folders:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def isolation():
    return ["--no-build-isolation"] if can_build() else []


def built(done):
    if done.returncode and any(words in done.stderr for words in NO_INDEX):
        pytest.skip("nothing can be built: setuptools 70.1 is neither installed nor to be fetched")
    assert done.returncode == 0, done.stderr


def environment(folder):
    """A new virtual environment, which sees what this Python has installed, but for the project."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth are not read
    return folder / "bin" / "python", site


def command(python, *arguments, cwd):
    """The console script of an environment, as a user starts it."""
    return started(python.parent / "nas-jax", *arguments, cwd=cwd)
