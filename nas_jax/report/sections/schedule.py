"""The section of a report on hyper-parameters that changed while a population was trained."""

from nas_jax.report import figures, markdown
from nas_jax.report.results import RunResults
from nas_jax.training import lineage

DISPLAY_NAMES = {"learning_rate": "learning rate", "l2": "L2", "r": "path dropout's r"}
MOST_ROWS = 12  # of the table
ABOUT = """What the best of {count} members was trained with, traced back through those that it was
copied from: bold in the figure, all members thin. The learning rate has the config's schedule in
it; r is that at the end of path dropout's ramp. Members were copied in {copied} of {turns} turns;
the line of the best went through {lives} places of the population."""


def write(results: RunResults) -> str:
    """Draw and list the schedule that the population found, from lineage.jsonl."""
    rows = results.lineage
    turns = len(rows) - 1  # nothing was trained with the last row
    if not turns:
        return "No member has a score yet."
    schedule, names = lineage.schedule(rows), lineage.hyperparameters(rows)
    steps = schedule["step"]
    panels = {
        DISPLAY_NAMES.get(name, name): ([row[name] for row in rows[:-1]], schedule[name][:-1])
        for name in names
    }
    figures.descent(results.out / "schedule.png", steps, panels)
    line, own = lineage.ancestors(rows), list(range(len(rows[0]["parents"])))
    about = ABOUT.format(
        count=len(own),
        turns=turns,
        copied=sum(row["parents"] != own for row in rows),
        lives=len(set(line)),
    )
    shown = range(0, turns, -(-turns // MOST_ROWS))
    table = markdown.table(
        ("from step", *(DISPLAY_NAMES.get(name, name) for name in names)),
        [(steps[i], *(f"{schedule[name][i]:.3g}" for name in names)) for i in shown],
    )
    return f"![Found schedule](schedule.png)\n\n{about}\n\n{table}"
