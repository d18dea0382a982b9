"""The lineage of a population: parents and hyper-parameters of its members, in lineage.jsonl.

The file has a line for the start and one for each turn. A line has "step" and lists [M], with an
item for each member: "scores" are the accuracies at this step, null where a member failed;
"parents" name the member whose state it goes on with; and the hyper-parameters are those that it
goes on with. After the last step every member is its own parent.
"""

from collections.abc import Sequence
from pathlib import Path

from nas_jax.storage import json_files, schemas

OTHER_FIELDS = ("step", "scores", "parents")


def read(path: Path) -> list[dict]:
    """Read lineage.jsonl; without the file there are no rows.

    Raises: ValueError that names the line if one is damaged.
    """
    rows = json_files.read_jsonl(path, schemas.MEMBERS)
    for number, row in enumerate(rows, 1):
        if problem := _problem(rows, row):
            raise ValueError(f"{path}, line {number} is damaged: {problem}")
    return rows


def _problem(rows, row):
    """Say how a row disagrees with the first one; '' if it does not."""
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
    """List the names of the hyper-parameters in rows of lineage.jsonl."""
    return [name for name in rows[0] if name not in OTHER_FIELDS]


def ancestors(rows: Sequence[dict]) -> list[int]:
    """Trace the best member back: return the number of its ancestor in each row.

    The best has the highest accuracy in the last row, which must be that of a turn.
    """
    scores = [-1 if score is None else score for score in rows[-1]["scores"]]
    member, line = scores.index(max(scores)), []
    for row in reversed(rows):
        line.append(member)
        member = row["parents"][member]
    return line[::-1]


def schedule(rows: Sequence[dict]) -> dict[str, list[float]]:
    """Return the hyper-parameters of the best member: {"step": [n], and each name: [n]}.

    A value holds from its step on. The learning rate is that of the step that comes next.
    """
    line = ancestors(rows)
    steps = {"step": [row["step"] for row in rows]}
    return steps | {n: [row[n][m] for row, m in zip(rows, line)] for n in hyperparameters(rows)}
