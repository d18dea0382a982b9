"""A wheel of the checkout holds the package and its configs, and works away from the checkout."""

import zipfile
from pathlib import Path

import pytest

from tests import wheels
from tests.wheels import ROOT, built, command, copied, environment, isolation, pip, run

pytestmark = pytest.mark.system

USE = """
import sys, jax, nas_jax
space = nas_jax.spaces.make("cell", num_cells=1, num_blocks=1)
net = space.supernet(num_classes=10, filters=4)
images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
variables = nas_jax.masked.init(jax.random.key(1), net, images, space.all_on())
print(net.apply(variables, images, space.sample(jax.random.key(2))).shape)
print(nas_jax.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return wheels.build(tmp_path_factory.mktemp("checkout"))


def files_of_source():
    """As they are installed: the configs inside the package."""
    files = [path for name in ("nas_jax", "configs") for path in (ROOT / name).rglob("*")]
    names = {f.relative_to(ROOT).as_posix() for f in files if f.is_file()}
    kept = {name for name in names if "__pycache__" not in name}
    return {name if name.startswith("nas_jax") else f"nas_jax/{name}" for name in kept}


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
    c = config.load("studies/_base:small")
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
