"""The report as a page for browsers: index.html, one file that needs no network.

The libraries of the extra `report` make it: markdown-it-py renders the texts of report.md, Jinja2
the page, Plotly draws the plots, DataTables (of itables) sorts and filters the tables. Their
scripts and the data of the run lie in the page, compressed; the scripts of our own, which join
them, are those in templates.
"""

import base64
import gzip
import importlib.util
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from nas_jax.report import document, page_data, run_facts
from nas_jax.report.document import Document
from nas_jax.report.results import RunResults
from nas_jax.storage import json_files

logger = logging.getLogger(__name__)

NAME = "index.html"
NEEDED = {"jinja2": "jinja2", "markdown_it": "markdown-it-py", "plotly": "plotly"}
NEEDED |= {"itables": "itables"}
PARTS = {  # of a run's page, after the report's sections
    "trials": "All trials",
    "networks": "All stand-alone networks",
    "stages": "Time and devices",
    "files": "Files",
}
TEMPLATES = Path(__file__).with_name("templates")
_NUMBER = re.compile(r"[-+]?[\d.,]+( ?%)?( ± [\d.,]+)?( \[.*\])?")


def missing() -> list[str]:
    """List the libraries that a page needs and that are not installed."""
    return [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]


def write(results: RunResults, made: Document, data: Mapping[str, Any]) -> Path | None:
    """Write index.html in the folder of the report, and return its path.

    Args:
      results: of the run; its texts and files are shown.
      made: the report; its figures lie in the folder.
      data: see `page_data.of`; {}: no plots, and no tables of trials and networks.

    Returns: None, and the log says what to do, if a library is missing.
    """
    if lacking := missing():
        logger.info(
            "report  no %s without %s: pip install 'nas_jax[report]'", NAME, ", ".join(lacking)
        )
        return None
    path = results.out / NAME
    json_files.write_text(path, _html(results, made, data))
    logger.info("report  %s", path)
    return path


def _html(results, made, data):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = document.anchor
    render = _Renderer(results.out)
    facts = run_facts.of(results)
    parts = {name: title for name, title in PARTS.items() if name in data or name in facts}
    return environment.get_template("page.html").render(
        document=made,
        name=results.directory.resolve().name,
        lead=render(made.lead, "lead"),
        sections=[(title, render(text, title)) for title, text in made.sections],
        tiles=page_data.tiles(results),
        parts=parts,
        data=data,
        facts=facts,
        best=results.best[0]["arch"] if results.ranked else "",
        scripts=_scripts(data) if data else {},
        files={path.name: path.read_text("utf-8") for path in TEMPLATES.iterdir()},
    )


def _scripts(data):
    """Return by name what the page unpacks: the data, the libraries' scripts and their style."""
    from plotly.offline import get_plotlyjs

    # Its file, without importing itables, which would read the user's options, and needs a home.
    package = Path(importlib.util.find_spec("itables").origin)
    bundle = package.with_name("html") / "dt_bundle.js"
    return {
        "data": _packed(json.dumps(data, separators=(",", ":"), allow_nan=False)),
        "plotly": _packed(get_plotlyjs()),
        "tables": _packed(bundle.read_text("utf-8")),
        "tables-style": _packed(bundle.with_suffix(".css").read_text("utf-8")),
    }


def _packed(text):
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


class _Renderer:
    """Makes HTML of Markdown; HTML in it is text. Its figures, of a folder, go into the page."""

    def __init__(self, folder):
        from markdown_it import MarkdownIt

        self._folder, self._names = folder, iter(())
        self._parser = MarkdownIt("commonmark", {"html": False}).enable("table")
        for rule in ("image", "table_open", "table_close"):
            method = getattr(self, f"_{rule}")
            # the renderer, which is the first argument of a rule, has no use here
            self._parser.add_render_rule(rule, lambda _, *args, method=method: method(*args))

    def __call__(self, text: str, title: str) -> str:
        """Render the text of the section `title`."""
        self._title, self._names = title, document.table_names(title)
        tokens = self._parser.parse(text)
        for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
            inside = token.children or ()
            if inside and all(child.type == "image" for child in inside):
                before.hidden = after.hidden = True  # a figure is no paragraph
        _align(tokens)
        return self._parser.renderer.render(tokens, self._parser.options, {})

    def _image(self, tokens, number, options, env):
        from markupsafe import escape

        name, label = tokens[number].attrGet("src"), tokens[number].content
        path = self._folder / name
        if Path(name).name != name or not path.is_file():  # no figure of ours
            return str(escape(label))
        with Image.open(path) as image:
            width, height = image.size
        source = base64.b64encode(path.read_bytes()).decode()
        links = "".join(
            f' <a href="{escape(p.name)}">{p.suffix[1:].upper()}</a>'
            for p in (path, path.with_suffix(".pdf"))
            if p.is_file()
        )
        return (
            f'<figure data-name="{escape(name)}"><img alt="{escape(label)}" width="{width}" '
            f'height="{height}" src="data:image/png;base64,{source}">'
            f"<figcaption>{escape(label)}<span>{links}</span></figcaption></figure>\n"
        )

    def _table_open(self, tokens, number, options, env):
        from markupsafe import escape

        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="table of: '
            f'{escape(self._title)}">\n<table>\n'
        )

    def _table_close(self, tokens, number, options, env):
        return f'</table>\n</div>\n<p class="csv"><a href="{next(self._names)}">CSV</a></p>\n'


def _align(tokens):
    """Mark the cells of columns that have numbers alone, to be aligned at the right."""
    columns: dict[int, list] = {}
    for number, token in enumerate(tokens):
        if token.type == "tr_open":
            column = 0
        elif token.type in ("th_open", "td_open"):
            columns.setdefault(column, []).append((token, tokens[number + 1].content))
            column += 1
        elif token.type == "table_close":
            for cells in columns.values():
                contents = [text for cell, text in cells if cell.type == "td_open" and text]
                if contents and all(map(_NUMBER.fullmatch, contents)):
                    for cell, _ in cells:
                        cell.attrSet("class", "number")
            columns = {}
