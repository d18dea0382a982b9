"""Shows links to files beside docs/ as their paths: the site holds the pages alone."""

import re

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?!docs/)[\w./]+)(?:#[\w-]+)?\)")


def _path(match):
    text, path = match[1].strip("`"), match[2]
    return f"`{path}`" if text == path else f"{match[1]} (`{path}`)"


def read(app, page, source):
    """Change a page's links that leave the folder of documents."""
    up = "../" * (page.count("/") + 1)
    source[0] = _OUTSIDE.sub(lambda m: _path(m) if f"]({up}" in m[0] else m[0], source[0])


def setup(app):
    """Tell Sphinx to read pages so."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
