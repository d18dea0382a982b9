"""Reads the package's docstrings, which are plain text with `names`, as Sphinx's markup."""

import re

_ALIGNED = re.compile(r"\S.* {2,}\S")  # the first line of an aligned table
_SPECIAL = re.compile(r"(`+[^`]*`+)|([*|])")


def _escaped(line):
    """Escape what would be emphasis or a substitution, outside of `names`."""
    return _SPECIAL.sub(lambda match: match[1] or "\\" + match[2], line)


def _paragraphs(lines):
    """Return the paragraphs of a docstring: lists of lines, without the empty ones between."""
    found = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return found[:-1] if not found[-1] else found


def _marked_up(paragraph):
    """Return the lines of a paragraph: an aligned or indented one is literal, a list has a gap."""
    if _ALIGNED.match(paragraph[0]) or paragraph[0].startswith("    "):
        return ["::", "", *("    " + line for line in paragraph)]
    lines = []
    for line in map(_escaped, paragraph):
        if line.startswith("- ") and lines and not lines[-1].startswith(("- ", "  ")):
            lines.append("")
        lines.append(line)
    return lines


def read(app, what, name, obj, options, lines):
    """Change the lines of a docstring in place, before napoleon reads its sections."""
    marked = [line for p in _paragraphs(lines) for line in (*_marked_up(p), "")]
    lines[:] = marked


def setup(app):
    """Tell Sphinx to read them so."""
    app.connect("autodoc-process-docstring", read, priority=400)
    return {"parallel_read_safe": True}
