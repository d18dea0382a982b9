"""The section of a report on hyper-parameters that changed while populations were trained."""

from collections.abc import Iterator
from pathlib import Path

from nas_jax.report import figures, markdown
from nas_jax.report.results import RunResults
from nas_jax.training import lineage

DISPLAY_NAMES = {
    "learning_rate": "learning rate",
    "clip_norm": "clipping norm",
    "l2": "L2",
    "label_smoothing": "label smoothing",
    "r": "path dropout's r",
}
MOST_ROWS = 12  # of a table
MOST_NETWORKS = 6  # whose schedules are shown
ABOUT = """What the best of {count} {what} was trained with, traced back through those that it was
copied from: bold in the figure, all members thin. The learning rate has the config's schedule in
it{also}. Members were copied in {copied} of {turns} turns;
the line of the best went through {lives} places of the population."""
OF_R = "; r is that at the end of path dropout's ramp"


def write(results: RunResults) -> str:
    """Draw and list the schedules that populations found, from each lineage.jsonl."""
    parts = [_part(results.lineage, "supernets", results.out / "schedule.png")]
    parts += _of_networks(results)
    return "\n\n".join(part for part in parts if part)


def _of_networks(results) -> Iterator[str]:
    """Yield the parts on stand-alone networks, the first of them."""
    for name, rows in list(results.networks_lineages.items())[:MOST_NETWORKS]:
        path = results.out / f"schedule_{name.replace('/', '_')}.png"
        yield _part(rows, f"trainings of the final network {name}", path)
    if (more := len(results.networks_lineages) - MOST_NETWORKS) > 0:
        yield f"{more} more have theirs in the folders of their networks, population/lineage.jsonl."


def _part(rows, what: str, path: Path) -> str:
    """Draw and list one schedule; '' without a population."""
    if not rows:
        return ""
    turns = len(rows) - 1  # nothing was trained with the last row
    if not turns:
        return f"No member of the {what} has a score yet."
    schedule, names = lineage.schedule(rows), lineage.hyperparameters(rows)
    steps = schedule["step"]
    panels = {
        DISPLAY_NAMES.get(name, name): ([row[name] for row in rows[:-1]], schedule[name][:-1])
        for name in names
    }
    figures.descent(path, steps, panels)
    line, own = lineage.ancestors(rows), list(range(len(rows[0]["parents"])))
    about = ABOUT.format(
        count=len(own),
        what=what,
        also=OF_R if "r" in names else "",
        turns=turns,
        copied=sum(row["parents"] != own for row in rows),
        lives=len(set(line)),
    )
    shown = range(0, turns, -(-turns // MOST_ROWS))
    table = markdown.table(
        ("from step", *(DISPLAY_NAMES.get(name, name) for name in names)),
        [(steps[i], *(f"{schedule[name][i]:.3g}" for name in names)) for i in shown],
    )
    return f"![Found schedule]({path.name})\n\n{about}\n\n{table}"
