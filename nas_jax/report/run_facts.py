"""Where and how a run was made: its command, time and devices by stage, its files."""

import statistics
from typing import Any

from nas_jax.report.results import RunResults
from nas_jax.runtime import progress
from nas_jax.storage import history

LATER = ("report", "export")  # stages that make nothing of a run


def of(results: RunResults) -> dict[str, Any]:
    """Collect them from the files of a run.

    A process that only wrote a report is no part of the run: its command and time are left out.

    Returns:
      "commands": each command that worked in the folder, the last first.
      "stages": rows (stage, time, starts, devices, how it ended), none of a run of an earlier
        version.
      "speed": of the supernet's training, images a second, None where metrics.jsonl has none.
      "training": time of all stand-alone networks, "" where there are none.
      "files": the files of the folder, relative to the report's.
    """
    rows = history.read(results.directory)
    makers = {row["process"] for row in rows if row.get("stage") not in LATER}
    rows = [row for row in rows if row["process"] in makers]
    speeds = [row["images_per_second"] for row in results.metrics if "images_per_second" in row]
    return {
        "commands": list(dict.fromkeys(row["command"] for row in reversed(rows))),
        "stages": [_row(stage) for stage in history.by_stage(rows)],
        "speed": f"{statistics.median(speeds):,.0f}" if speeds else "",
        "training": _training(results),
        "files": _files(results),
    }


def _row(stage):
    time = progress.duration(stage.seconds) if stage.unknown < stage.starts else "not known"
    if 0 < stage.unknown < stage.starts:
        time += f", and {_starts(stage.unknown)} of which no end was recorded"
    # a stage that was killed says so no more than one that still runs, in another process
    status = "no end was recorded" if stage.status == "running" else stage.status
    return stage.name or "training", time, stage.starts, ", ".join(stage.devices), status


def _starts(count):
    return f"{count} start{'s' * (count > 1)}"


def _training(results):
    """Add up the networks of both protocols and the named ones; those of several groups once."""
    groups = [
        (protocol, filters, "random", networks)
        for protocol in ("short", "final")
        for (filters, _), networks in getattr(results, protocol).items()
    ]
    groups += [("named", *key, networks) for key, networks in results.named.items()]
    trained = {(*key, n.arch): n.seconds for *key, networks in groups for n in networks}
    if not trained or None in trained.values():
        return ""
    return progress.duration(sum(trained.values()))


def _files(results):
    files = (path for path in results.directory.iterdir() if not path.name.startswith("."))
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in files)
    here = results.out.name
    return [*(f"../{name}" for name in names if name != f"{here}/"), "report.md"]
