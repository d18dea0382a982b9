"""A wheel of the checkout holds the package and its configs, and works away from the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
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
    copy = copied(tmp_path_factory.mktemp("checkout"))
    built(pip("wheel", "--no-deps", *isolation(), "--wheel-dir=dist", ".", cwd=copy))
    (path,) = (copy / "dist").glob("*.whl")
    return path


def copied(folder):
    """A copy to build in: a build leaves files behind, and takes up what an earlier one left."""
    folder.mkdir(exist_ok=True)
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    for name in ("nas_jax", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def isolation():
    return ["--no-build-isolation"] if can_build() else []


def built(done):
    if done.returncode and any(words in done.stderr for words in NO_INDEX):
        pytest.skip("nothing can be built: setuptools 70.1 is neither installed nor to be fetched")
    assert done.returncode == 0, done.stderr


def files_of_source():
    """As they are installed: the configs inside the package."""
    files = [path for name in ("nas_jax", "configs") for path in (ROOT / name).rglob("*")]
    names = {f.relative_to(ROOT).as_posix() for f in files if f.is_file()}
    kept = {name for name in names if "__pycache__" not in name}
    return {name if name.startswith("nas_jax") else f"nas_jax/{name}" for name in kept}


def environment(folder):
    """A new virtual environment, which sees what this Python has installed, but for the project."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth are not read
    return folder / "bin" / "python", site


def command(python, *arguments, cwd):
    """The console script of an environment, as a user starts it."""
    gone = ("PYTHONPATH", "PYTHONSAFEPATH")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    script = [python.parent / "nas-jax", *arguments]
    return subprocess.run(script, cwd=cwd, env=kept, capture_output=True, text=True, timeout=300)


def test_it_holds_all_files_of_the_package_and_no_others(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if ".dist-info/" not in name}
    assert package == files_of_source()
    assert {"nas_jax/py.typed", "nas_jax/configs/studies/final.py"} <= package


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


MINE = """
from nas_jax import config

def get_config():
    c = config.load("studies/base:small")
    c.seed = -7
    return c
"""
MINE_GIVEN = ["--config=mine.py", "--workdir=run"]


@pytest.mark.parametrize("editable", [False, True])
def test_the_command_finds_its_configs_and_a_users_own(request, tmp_path, editable):
    """From any folder, and no package `configs` is installed."""
    python, site = environment(tmp_path / "environment")
    if editable:
        source = ["-e", str(copied(tmp_path / "checkout"))]
        done = pip(
            f"--python={python}", "install", "--no-deps", *isolation(), *source, cwd=tmp_path
        )
        built(done)
    else:
        wheel = str(request.getfixturevalue("wheel"))
        done = pip(f"--python={python}", "install", "--no-deps", wheel, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not (site / "configs").exists()
    (tmp_path / "mine.py").write_text(MINE)
    for arguments, seed in ((["--config=cifar:small", "--config.seed=-1"], -1), (MINE_GIVEN, -7)):
        used = command(python, *arguments, cwd=tmp_path)
        assert used.returncode == 2
        assert used.stderr == f"nas-jax: error: config.seed={seed} must be 0 or more\n"
    assert "supernet.train.base_lr = 0.1" in command(python, "--help", cwd=tmp_path).stdout
