"""Writes the pages of the config reference: every field, read from where it is defined."""

from pathlib import Path

from nas_jax.config import field_list

TOP = "top"  # the page of the fields of no section
_HEAD = "| field | default | what it is, and what it may be |\n|---|---|---|\n"


def _cell(text):
    """Return a text that stays in its cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _row(field):
    what = _cell(f"{field.comment} ({field.must_be})" if field.comment else field.must_be)
    what = f"as `{field.like}`" if field.like else what
    default = repr(field.default).replace("|", "\\|")
    return f"| `{field.name}` | `{default}` | {what} |\n"


def pages():
    """Return {name of a page: its Markdown}, one for each top-level section of the config."""
    comments, found = field_list.explained(), {}
    for section, fields in field_list.sections().items():
        page = section.partition(".")[0] or TOP
        level = "##" if "." in section else "#"
        found.setdefault(page, "")
        if page == section and found[page]:  # a section after its own subsections
            raise ValueError(f"{section} comes after its parts")
        title = f"`{section}`" if section else "Fields of no section"
        head = f"{level} {title}\n\n{_cell(comments.get(section, ''))}\n\n{_HEAD}"
        found[page] += head + "".join(map(_row, fields)) + "\n"
    return found


def write(app):
    """Write the pages into `reference/config/`; those that are there and equal stay."""
    folder = Path(app.srcdir, "reference", "config")
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        target = folder / f"{name}.md"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def setup(app):
    """Tell Sphinx when to write them."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
