"""Who descends from whom in a population, and with which hyper-parameters: lineage.jsonl.

A line per turn, and one before the first step: {"step", "scores" (of this step, null where a member
failed), "parents" (whose state each member goes on with), and the hyper-parameters it goes on with,
a list [members] each}. At the end all are their own parents.
"""

from collections.abc import Sequence
from pathlib import Path

from nas_jax.storage import schemas, workdir

OTHER_FIELDS = ("step", "scores", "parents")


def read(path: Path) -> list[dict]:
    """The rows of lineage.jsonl; no file is no rows. Raises: ValueError: a line is damaged."""
    rows = workdir.read_jsonl(path, schemas.MEMBERS)
    for number, row in enumerate(rows, 1):
        if problem := _problem(rows, row):
            raise ValueError(f"{path}, line {number} is damaged: {problem}")
    return rows


def _problem(rows, row):
    """What does not go with the first row, '' if all does."""
    schema, size = (
        {name: [schemas.NUMBER] for name in hyperparameters(rows)},
        len(rows[0]["parents"]),
    )
    if row is not rows[0]:
        schema["scores"] = [schemas.NUMBER.or_null()]
    if problem := schemas.problem(schema, row):
        return problem
    if any(len(row[name]) != size for name in (*schema, "parents")):
        return f"the first line is of {size} members"
    return "" if max(row["parents"], default=0) < size else f"of {size} members none is a parent"


def hyperparameters(rows: Sequence[dict]) -> list[str]:
    """Names of the hyper-parameters in the rows of lineage.jsonl."""
    return [name for name in rows[0] if name not in OTHER_FIELDS]


def ancestors(rows: Sequence[dict]) -> list[int]:
    """Of the member that scores best in the last row, which must be of a turn: the number of its
    ancestor in each row.
    """
    scores = [-1 if score is None else score for score in rows[-1]["scores"]]
    member, found = scores.index(max(scores)), []
    for row in reversed(rows):
        found.append(member)
        member = row["parents"][member]
    return found[::-1]


def schedule(rows: Sequence[dict]) -> dict[str, list[float]]:
    """What the best member was trained with: {"step": [n], and each hyper-parameter: [n]}.

    A value holds from its step on; of the learning rate it is the first after that step.
    """
    line = ancestors(rows)
    found = {"step": [row["step"] for row in rows]}
    return found | {n: [row[n][m] for row, m in zip(rows, line)] for n in hyperparameters(rows)}
