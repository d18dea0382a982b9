"""The history of a run: what began and ended when, on what, by which command; history.jsonl.

A report takes the times of the stages from it. Workdirs of earlier versions have none.
"""

import collections
import datetime
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from nas_jax.storage import json_files, schemas

FILE = "history.jsonl"


class Stage(NamedTuple):
    """What a history says of a stage.

    Attributes:
      name: of the stage; "" of a training that is no part of one.
      starts: how often it began.
      seconds: it took in all, those of starts that are `unknown` left out.
      unknown: how many of its starts ended without a word, by a kill, or still run elsewhere.
      devices: it ran on, such as "2 x cpu"; each once.
      status: how it ended last: "done", "failed", ..., or "running".
    """

    name: str
    starts: int
    seconds: float
    unknown: int
    devices: tuple[str, ...]
    status: str


def append(directory: Path, status: str, **details: Any) -> None:
    """Append a line: `status` and details, with time (UTC), command and devices of the process."""
    row = {
        "time": _now(),
        "status": status,
        **details,
        "process": _PROCESS,
        "devices": devices(),
        "command": command(),
    }
    json_files.mend_jsonl(directory / FILE)  # where an earlier process had no room for its line
    json_files.append_jsonl(directory / FILE, [row])


def read(directory: Path) -> list[dict]:
    """Read the lines of a folder's history, none where it has no such file.

    Raises: ValueError that names the line, if one but the last is damaged.
    """
    return json_files.read_jsonl(directory / FILE, schemas.EVENT)


def by_stage(rows: list[dict]) -> list[Stage]:
    """Add up a history by stage, in the order of their first starts.

    A stage lasts from its line "running" to the next line of the same process; of this process,
    if there is none, until now, as does the stage that writes a report.
    """
    now = {"time": _now(), "status": "running"}
    spans: dict[str, list] = {}
    for number, row in enumerate(rows):
        if row["status"] == "running":
            following = (r for r in rows[number + 1 :] if r["process"] == row["process"])
            end = next(following, now if row["process"] == _PROCESS else None)
            spans.setdefault(row.get("stage", ""), []).append((row, end))
    return [_stage(name, several) for name, several in spans.items()]


def _stage(name, spans):
    ended = [(start, end) for start, end in spans if end is not None]
    seconds = sum((_time(end) - _time(start)).total_seconds() for start, end in ended)
    last = spans[-1][1]
    status = "running" if last is None else last["status"]
    if status == "running" and last is not None:  # the next stage began, or the report is written
        status = "done"
    on = tuple(dict.fromkeys(start["devices"] for start, _ in spans))
    return Stage(name, len(spans), seconds, len(spans) - len(ended), on, status)


def _time(row):
    return datetime.datetime.fromisoformat(row["time"])


def devices() -> str:
    """Name the devices of this process's JAX, such as "2 x cpu"."""
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def command() -> str:
    """Write the command of this process, as a shell takes it."""
    program, *arguments = sys.orig_argv or sys.argv
    if arguments and Path(arguments[0]).name == "nas-jax":  # a script that pip made
        program, *arguments = arguments
    return shlex.join([Path(program).name, *arguments])


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


_PROCESS = _now()  # when this process began, which tells it from others
