"""Search strategies in a table of published accuracies: the regret after each query."""

import numpy as np

from nas_jax.report import analysis, figures, markdown, results
from nas_jax.spaces import tabular

TITLE = "Regret of search strategies"
MARKS = (50, 100, 200, 300)  # queries
TEXT = """A query tells a strategy what the table says of one architecture. The regret after n
queries is the best accuracy of the whole table less the best found, in percentage points, of the
accuracy that is searched in; the test accuracy is that of the architecture then best. Mean over
seeds, with the 95 % interval of the mean (Student's t; none where all seeds are equal); differences
from the first strategy are paired by seed, below zero is better."""


def write(study) -> str:
    """Draw the regret over the queries, and list it after some of them."""
    table = tabular.load(study.config.table, study.space)
    best = max(map(table.search_accuracy, table.rows))
    courses = {
        label: [_course(table, best, trials) for trials in searches]
        for label, searches in study.searches().items()
    }
    length = min(len(regrets) for several in courses.values() for regrets, _ in several)
    regrets = {
        label: np.asarray([regrets[:length] for regrets, _ in several])
        for label, several in courses.items()
    }
    path = study.results.out / "regret.png"
    lines = {label: _line(values) for label, values in regrets.items()}
    title = f"{table.path.stem}, {len(table.rows):,} architectures"
    figures.bands(path, {title: lines}, "queries", "regret (percentage points)")
    first = regrets[study.reference]
    marks = [mark for mark in MARKS if mark <= first.shape[1]] or [first.shape[1]]
    rows = [
        (
            label,
            len(values),
            *(markdown.interval(analysis.mean_interval(values[:, mark - 1])) for mark in marks),
            _difference(values, first),
            _tests(courses[label]),
        )
        for label, values in regrets.items()
    ]
    header = ("strategy", "seeds", *(f"regret after {mark}" for mark in marks))
    header += (f"difference after {first.shape[1]}", "test accuracy (%)")
    return "\n\n".join(
        [f"![Regret against queries]({path.name})", TEXT, markdown.table(header, rows)]
    )


def _course(table, best, trials):
    """Return (regret after each query, test accuracy of the best of all)."""
    values = [table.search_accuracy(row["arch"]) for row in trials]
    chosen = results.ranked(trials)[0]["arch"]
    return 100 * (best - np.maximum.accumulate(values)), table.rows[chosen].accuracy


def _line(values):
    estimates = [analysis.mean_interval(column) for column in values.T]
    mean, low, high = np.transpose(estimates)
    floor = max(values[values > 0].min() / 10, 1e-3) if (values > 0).any() else 1e-3
    return range(1, values.shape[1] + 1), *(np.maximum(line, floor) for line in (mean, low, high))


def _difference(values, first):
    if values is first:
        return ""
    return markdown.interval(analysis.mean_interval(values[:, -1] - first[:, -1]))


def _tests(courses):
    return markdown.interval(analysis.mean_interval([accuracy for _, accuracy in courses]))
