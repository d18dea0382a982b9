"""What the files of a workdir have and nobody was told of, as events.

A process may be killed between a line and its event, and a listener may have been chosen later.
Lines of metrics.jsonl are told in any case: the next process writes those after its checkpoint
anew.
"""

import itertools
from collections.abc import Iterator

from nas_jax.report import results
from nas_jax.runtime.events import Event
from nas_jax.storage import json_files, schemas


def rounds(begun: Event, after: int) -> Iterator[Event]:
    """Yield the lines of trials.jsonl after the first `after`, as events of the sweep's rounds."""
    lines = json_files.iterate_jsonl(begun.where / "trials.jsonl", schemas.TRIAL)
    lines = itertools.islice(lines, after, None)
    size = begun.values["config"]["sweep.candidates_per_batch"]
    while rows := list(itertools.islice(lines, size - after % size)):
        yield Event("candidates", begun.where, after, rows)
        after += len(rows)


def networks(begun: Event) -> Iterator[Event]:
    """Yield an event for each result.json in the workdir."""
    for path in sorted(begun.where.glob("retrain/*/F*/*/*/result.json")):
        yield Event("network", path.parent, None, results.read_result(path))
