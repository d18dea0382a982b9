"""Writes the pages of the config reference: every field, read from where it is defined."""

import re
from pathlib import Path

import generated

from nas_jax.config import field_list

TOP = "top"  # the page of the fields of no section
_INDEX = """# Config fields

Every field with its default, its type and its rule, written from where the package defines it. Any
can be set on the command line, `--config.supernet.filters=8`; `nas-jax --help` lists the same.

```{toctree}
:maxdepth: 1

"""
_HEAD = "| field | default | what it is, and what it may be |\n|---|---|---|\n"


def _cell(text):
    """Return a text that stays in its cell of a table, with links to the pages it names."""
    plain = text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
    return re.sub(r"docs/(\w+)/(\w+)\.md", r"[\2](../../\1/\2.md)", plain)


def _row(field):
    what = f"as `{field.like}`"
    if not field.like:
        what = _cell(f"{field.comment} ({field.must_be})" if field.comment else field.must_be)
    default = repr(field.default).replace("|", "\\|")
    return f"| `{field.name}` | `{default}` | {what} |\n"


def pages():
    """Return {name of a page: its Markdown}: an index, and one for each top-level section."""
    comments, found = field_list.explained(), {}
    for section, fields in field_list.sections().items():
        page = section.partition(".")[0] or TOP
        level = "##" if "." in section else "#"
        found.setdefault(page, "")
        if page == section and found[page]:  # a section after its own subsections
            raise ValueError(f"{section} comes after its parts")
        title = f"`{section}`" if section else "No section"
        head = f"{level} {title}\n\n{_cell(comments.get(section, ''))}\n\n{_HEAD}"
        found[page] += head + "".join(map(_row, fields)) + "\n"
    return {"index": _INDEX + "".join(f"{name}\n" for name in found) + "```\n", **found}


def write(app):
    """Write the pages into `reference/config/`."""
    generated.write(Path(app.srcdir, "reference", "config"), pages())


def setup(app):
    """Tell Sphinx when to write them."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
