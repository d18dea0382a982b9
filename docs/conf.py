"""Settings of the documentation site; `sphinx-build -W -n docs site` builds it strictly."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import nas_jax

project = "nas_jax"
author = copyright = "The nas_jax authors"
version = release = nas_jax.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "config_reference",
    "api_reference",
    "docstrings",
    "repository_links",
    "short_tutorials",
]
exclude_patterns = ["_extensions", "drawings"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4  # links to headings, as GitHub spells them

# The tutorials are notebooks: they run when the site is built, and what they print is on the page.
# NAS_JAX_TUTORIALS is "short", to try them out, or "off", to leave out running them.
short_tutorials = os.environ.get("NAS_JAX_TUTORIALS") == "short"
nb_execution_mode = "off" if os.environ.get("NAS_JAX_TUTORIALS") == "off" else "cache"
if not {"NAS_BENCH_DIR", "TFDS_DATA_DIR"} <= {*os.environ}:  # what this tutorial judges by
    nb_execution_excludepatterns = ["tutorials/judge.md"]
nb_execution_in_temp = True
nb_execution_timeout = 180  # seconds for a cell
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables, in what a cell shows

default_role = "code"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True  # fields of a class are described once
# Types of other libraries, which this site does not describe.
nitpick_ignore_regex = [("py:.*", r"(?!nas_jax\.).*")]

html_theme = "furo"
html_title = f"nas_jax {release}"
copybutton_prompt_text = "$ "
