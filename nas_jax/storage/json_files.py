"""Text, JSON and JSON Lines. A file appears by a rename, or grows by whole lines.

So a run may be killed at any moment: no later run takes a half-written file for a whole one.
"""

import json
import logging
import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nas_jax.storage import file_paths, schemas

logger = logging.getLogger(__name__)


def write_text(path: Path, text: str) -> None:
    """Write a whole file. Readers see the old content or the new, never a part."""
    file_paths.check(path, "path")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path, schema: Any = schemas.ANY) -> Any:
    """Read a JSON file, and check it against a schema of `schemas`.

    Raises: ValueError that names the file, if it is not JSON or does not fit the schema.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of UTF-8 or JSON; nested without end
        raise ValueError(f"{path} is not JSON ({error})") from error
    if problem := schemas.problem(schema, value):
        raise ValueError(f"{path} is damaged: {problem}")
    return value


def append_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Append one line per row, in one write, and flush it to the disk; NaN becomes null."""
    text = "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in rows)
    file_paths.check(path, "path")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: Path, schema: Any = schemas.OBJECT) -> list[dict]:
    """Read the rows of a file that `append_jsonl` wrote; a missing file has no rows.

    A last line that is cut short or damaged is left out, with a warning.

    Raises: ValueError that names the line, if another line is damaged or does not fit `schema`.
    """
    return list(iterate_jsonl(path, schema))


def iterate_jsonl(path: Path, schema: Any = schemas.OBJECT) -> Iterator[dict]:
    """Yield the rows that `read_jsonl` reads, one after the other."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = enumerate(file, 1)
        number, line = next(lines, (0, ""))
        while line:
            following, later = next(lines, (0, ""))
            try:
                row = _row(line, schema) if line.endswith("\n") else None
            except ValueError as error:
                if later:
                    raise ValueError(f"{path}, line {number} is damaged: {error}") from error
                row = None
            if row is None:
                _warn_of_last(path, line)
                return
            yield row
            number, line = following, later


def _warn_of_last(path, line):
    how = "is damaged" if line.endswith("\n") else "was cut short"
    logger.warning("%s: the last line %s and is left out", path, how)


def count_lines(path: Path) -> int:
    """Count the whole lines of a file that `append_jsonl` wrote; a missing file has none."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def read_trials(path: Path) -> list[dict]:
    """Read the rows of a trials.jsonl; errors as of `read_jsonl`."""
    return read_jsonl(path, schemas.TRIAL)


def _row(line, schema):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{line.strip()[:60]!r} is not JSON") from None
    if problem := schemas.problem(schema, row):
        raise ValueError(problem)
    return row


def cut_jsonl(path: Path, step: int) -> None:
    """Drop the rows after `step`; a training that goes on from there writes them again."""
    _cut(path, schemas.STEP, lambda row: row["step"] <= step, most=math.inf)


def mend_jsonl(path: Path, schema: Any = schemas.OBJECT) -> None:
    """Drop a last line that is cut short or damaged, with a warning, so that lines can follow."""
    _cut(path, schema, lambda row: True, most=1)


def _cut(path: Path, schema: Any, keeps: Callable[[dict], bool], most: float) -> None:
    """Drop rows and damaged lines from the end, up to a row that `keeps`; at most `most` lines.

    Only the end of the file is read, however long it is. One `truncate` cuts it where a line ends.
    """
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, "r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            end, cut = len(text), 0
            while end and cut < most:
                start = text.rfind(b"\n", 0, end - 1) + 1
                if _is_kept(path, text[start:end], keeps, schema):
                    break
                end, cut = start, cut + 1
        if cut:
            file.truncate(end)
            os.fsync(file.fileno())


def _is_kept(path, line, keeps, schema):
    line = line.decode(errors="replace")
    try:
        if line.endswith("\n"):
            return keeps(_row(line, schema))
    except ValueError:
        pass
    _warn_of_last(path, line)
    return False


def finite(value: Any) -> Any:
    """Make a value plain: NumPy becomes numbers and lists; NaN, which JSON lacks, becomes None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
