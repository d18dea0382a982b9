"""The code of README.md and of pages runs as it stands, and so does what README said before."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/howto/networks.md"]
PAGES += sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("docs/concepts/*.md")
    if path.stem != "index"  # which has no code
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)

# What README showed when its modules had other names; here with smaller networks.
FORMER = """
import jax
from nas_jax import cost, spaces, supernet

space = spaces.make("cell", num_cells=1, num_blocks=2)
space.count()
archs = space.sample(jax.random.key(0), (2,))

net = space.supernet(num_classes=10, filters=4)
images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
variables = supernet.init(jax.random.key(2), net, images[:1], space.all_on())
logits = jax.vmap(net.apply, (None, None, 0))(variables, images, archs)

cost.of(space, archs, filters=16).params
one = jax.tree.map(lambda mask: mask[0], archs)
model = space.standalone(one, num_classes=10, filters=64)

from nas_jax import latency, scaling

text = space.to_str(jax.device_get(one))
for found in scaling.fit(space, text, max_flops=20e6, depths=(1, 2)):
    print(found.space.num_cells, found.filters, found.params, found.flops)
latency.measure(space, text, filters=4, image_size=8, batch_size=1).median
widths = [12] * len(space.tensors(text))
model = space.standalone(text, num_classes=10, filters=16, widths=widths)
"""
FORMER_CONFIG = """
from nas_jax import config, cost, latency, scaling, spaces, supernet

def get_config():
    assert cost.of and latency.measure and scaling.fit and spaces.make and supernet.init
    return config.default()
"""


def python(*arguments):
    """Run Python as a user does, on one CPU device."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("document", PAGES)
def test_python_code_runs_as_it_stands(document, tmp_path, monkeypatch):
    """Block after block in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)
    assert not list(tmp_path.iterdir())  # what a reader tries out leaves no files


@pytest.mark.system
def test_python_code_of_the_page_on_python_runs(tmp_path, monkeypatch):
    """Its searches, too, in the folders that it names."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("nas_jax")
    before, names = logger.level, {}
    for block in BLOCK.findall((ROOT / "docs" / "howto" / "python.md").read_text(encoding="utf-8")):
        exec(compile(block, "docs/howto/python.md", "exec"), names)
    logger.setLevel(before)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["first", "halves"]
    assert names["found"].workdir.name == "halves"


def test_code_of_the_former_readme_runs():
    names = {}
    exec(compile(FORMER, "the former README.md", "exec"), names)
    assert names["logits"].shape == (2, 4, 10)
    assert names["space"].count() == 3 * 28 * 7 * 28


def test_a_config_file_with_the_former_imports_is_read(tmp_path):
    (tmp_path / "mine.py").write_text(FORMER_CONFIG)
    done = python("launch.py", f"--config={tmp_path / 'mine.py'}", "--config.sed=1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("launch.py: error: config.sed is no field")


def test_tables_can_still_be_written_by_the_former_command():
    done = python("-m", "nas_jax.tables")
    assert done.returncode == 1
    assert "python -m nas_jax.tables" in done.stderr


def test_the_package_shows_its_public_names():
    """In tab completion and `help`, and each is there; JAX comes with the first that needs it."""
    code = """
import sys, pydoc, nas_jax
assert "jax" not in sys.modules
assert {*nas_jax.__all__} <= {*dir(nas_jax)}
shown = pydoc.plain(pydoc.render_doc(nas_jax))
for name in nas_jax.__all__:
    assert name in shown and getattr(nas_jax, name), name
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
