"""CSV files: columns of one that comes from elsewhere, checked when read; the text of our own."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from nas_jax.storage import schemas


class Columns(NamedTuple):
    """The cells of a CSV file.

    Attributes:
      title: what errors call the file, such as "table=x.csv".
      names: of the columns.
      rows: {number of the line: cells of the row, one for each column}.
    """

    title: str
    names: list[str]
    rows: dict[int, list[str]]

    def texts(self, name: str) -> dict[int, str]:
        """Return the cells of a column by the numbers of their lines.

        Raises: ValueError if no column, or more than one, has that name.
        """
        if self.names.count(name) != 1:
            names = ", ".join(self.names) or "none"
            raise ValueError(
                f"{self.title} has the columns {names}, but needs {name!r}, and that once"
            )
        place = self.names.index(name)
        return {line: cells[place] for line, cells in self.rows.items()}

    def numbers(self, name: str, kind: schemas.Kind) -> dict[int, float]:
        """Return the numbers of a column by the numbers of their lines.

        Raises: ValueError that names the line, if a cell is not a number of that kind.
        """
        numbers = {line: _number(cell) for line, cell in self.texts(name).items()}
        for line, number in numbers.items():
            if problem := schemas.problem(kind, number, f"{self.title}, line {line}: {name}"):
                raise ValueError(problem)
        return numbers


def parse(content: bytes, title: str) -> Columns:
    """Read a CSV file: a line of names, then rows of as many cells. Empty lines are skipped.

    Args:
      content: of the file, in UTF-8 with or without a byte order mark.
      title: what errors call the file.

    Raises: ValueError that names the line, if the file is damaged.
    """
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.reader(text, strict=True)
        header = next(filter(None, reader), [])
        rows = dict((reader.line_num, cells) for cells in reader if cells)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{title} is damaged: {error}") from error
    for line, cells in rows.items():
        if len(cells) != len(header):
            raise ValueError(f"{title}, line {line} has {len(cells)} cells, not {len(header)}")
    return Columns(title, [" ".join(name.split()) for name in header], rows)


def write(rows: Iterable[Iterable[str]]) -> str:
    """Write rows of cells, the line of names first, as the text of a CSV file; see `parse`."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _number(cell):
    """Return a cell as a number, or unchanged if it is no number."""
    try:
        return float(cell)
    except ValueError:
        return cell
