"""The section of a report on the architecture that the supernet's training itself selected."""

from nas_jax.report import markdown
from nas_jax.report.results import RunResults
from nas_jax.report.sections.networks import SIZES

TEXT = """The largest of the learnt alphas are this architecture, the first candidate of the sweep.
{} The alphas were learnt on validation images{}."""
SAME = """, those that give the score among them, so the score
is no estimate of the accuracy on others"""
AMONG = "Its score is number {} of {} scored architectures."
ALONE = "No other has a score."


def write(results: RunResults) -> str:
    """List score and sizes of the selected architecture, and its place among the candidates."""
    row, metric = results.selected, results.ranking_metric
    archs = [scored["arch"] for scored in results.ranked]
    value = "failed" if row["value"] is None else metric.factor * row["value"]
    place = ALONE
    if len(archs) > 1 and row["value"] is not None:
        higher = sum(scored["value"] > row["value"] for scored in results.ranked)
        place = AMONG.format(higher + 1, len(archs))
    sizes = (markdown.millions(row[field]) for field in ("params", "flops"))
    table = markdown.table(
        ("architecture", metric.label, *SIZES), [(f"`{row['arch']}`", value, *sizes)]
    )
    same = SAME if row.get("score") == "accuracy" else ""
    return f"{TEXT.format(place, same)}\n\n{table}"
