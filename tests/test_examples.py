"""The examples run as they are, from a folder of a user, with a wheel of the package installed."""

import json

import pytest

from tests import compilation_cache, wheels

pytestmark = pytest.mark.system

OWN = {  # what config.json, or another file of the run, says of the part that is one's own
    "own_folder": ("config.json", '"folder:shapes"'),
    "own_arrays": ("data.json", "[\n    28,\n    28,\n    1\n  ]"),
    "own_space": ("config.json", '"__main__:Blocks"'),
    "own_op": ("config.json", "SqueezeExcite"),
    "own_strategy": ("config.json", "own_strategy.py:Climb"),
    "own_evaluator": ("config.json", "own_evaluator.py:margin"),
    "own_loss": ("config.json", "own_loss.py:lion"),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of a new virtual environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    python, _ = wheels.environment(folder / "environment")
    wheel = str(wheels.build(folder / "checkout"))
    done = wheels.pip(f"--python={python}", "install", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return python


def test_each_is_listed():
    assert {path.stem for path in (wheels.ROOT / "examples").glob("*.py")} == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_an_example_searches_with_a_part_of_its_own(python, tmp_path, name):
    script = wheels.ROOT / "examples" / f"{name}.py"
    flags = compilation_cache.flags(num_devices=1)
    done = wheels.started(python, script, cwd=tmp_path, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr[-2000:]
    workdir = tmp_path / "runs" / name
    assert done.stdout.splitlines()[-1] == f"runs/{name}/report/report.md"
    assert (workdir / "report" / "report.md").stat().st_size
    assert json.loads((workdir / "status.json").read_text())["status"] == "done"
    file, text = OWN[name]
    assert text in (workdir / file).read_text()
