"""A report before it is a file: a title, a lead and sections, all of them Markdown."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nas_jax.report import markdown
from nas_jax.storage import csv_columns, json_files


class Document(NamedTuple):
    """A report.

    Attributes:
      title: its heading.
      lead: the first paragraph; "" for none.
      sections: (heading, Markdown) of each.
    """

    title: str
    lead: str
    sections: Sequence[tuple[str, str]]


def write(folder: Path, document: Document) -> Path:
    """Write report.md in a folder, and its tables as CSV files; return the path of report.md."""
    parts = [f"# {document.title}", *filter(None, [document.lead])]
    parts += [f"## {title}\n\n{text}" for title, text in document.sections]
    for title, text in document.sections:
        for name, rows in zip(table_names(title), markdown.tables(text)):
            json_files.write_text(folder / name, csv_columns.write(rows))
    path = folder / "report.md"
    json_files.write_text(path, "\n\n".join(parts) + "\n")
    return path


def table_names(title: str) -> Iterator[str]:
    """Yield the names of the CSV files of a section's tables, in order: "tables/scores_1.csv"."""
    number = 0
    while True:
        number += 1
        yield f"tables/{anchor(title).replace('-', '_')}_{number}.csv"


def anchor(title: str) -> str:
    """Make the name of a section in addresses: "How it was run" is "how-it-was-run"."""
    return "-".join(re.findall(r"\w+", title.lower()))
