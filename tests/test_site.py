"""The documentation site is built strictly, with the tutorials executed; pages stay short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas_jax import config as config_lib
from nas_jax.config import variants

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = ("first_search", "trust", "judge")
LONGEST = 300  # lines of a page
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "NAS_JAX_TUTORIALS": "short",
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": "",
}
needs_table = pytest.mark.skipif(
    not {"NAS_BENCH_DIR", "TFDS_DATA_DIR"} <= {*os.environ},
    reason="needs a benchmark's table and CIFAR-10: NAS_BENCH_DIR, TFDS_DATA_DIR",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_is_no_longer_than_one_reads(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as HTML, with the tutorials run in a short form; a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(
        [*command, "-d", out / "doctrees", DOCS, out / "html"],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.mark.system
def test_every_page_is_in_the_site(site):
    made = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= made


@pytest.mark.system
def test_the_reference_has_every_field_of_the_config(site):
    pages = (site / "reference" / "config").glob("*.html")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    fields = {name for name, _ in variants.flatten(config_lib.default())}
    assert fields == set(re.findall(r'<span class="pre">([\w.]+)</span>', text)) & fields


@pytest.mark.system
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_table) if n == "judge" else n for n in TUTORIALS]
)
def test_a_tutorial_ran_and_shows_figures(site, name):
    page = (site / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
    assert page.count("cell_output") >= 3
    assert re.search(r'<img[^>]+src="\.\./_images/|src="data:image/png', page)


@pytest.mark.system
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_is_a_notebook(name, tmp_path):
    """As its first paragraph says: jupytext makes one for Jupyter of it."""
    notebook = tmp_path / "notebook.ipynb"
    page = DOCS / "tutorials" / f"{name}.md"
    command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "ipynb", page]
    subprocess.run([*command, "--output", notebook], check=True, timeout=120)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert {cell["cell_type"] for cell in cells} == {"code", "markdown"}
