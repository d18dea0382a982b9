"""One-shot against stand-alone accuracy, on a random and a stratified sample (paper, figure 5)."""

import math

from nas_jax.report import analysis, figures, markdown
from nas_jax.report.sections import general

TITLE = "One-shot against stand-alone accuracy"


def write(study) -> str:
    """Markdown: distribution of scores, panels, coefficients, and the paper's points."""
    found = study.found
    found.trials = study.trials
    found.scored = [row for row in study.trials if row["value"] is not None]
    where = f"F = {min(study.config.retrain.short.filters)}"
    found.samples = {(where, name): networks for name, networks in study.samples.items()}
    return "\n\n".join([general.scores(found), general.ranking(found), *_paper(study)])


def _paper(study):
    """Their points, which they stratified by score, and the coefficients of these."""
    truth, scores = study.paper("standalone_accuracy"), study.paper("one_shot_accuracy")
    if truth is None:
        return
    path = study.found.out / "ranking_paper.png"
    points = figures.Points(scores, truth, [math.nan] * len(truth))
    title = f"the paper, stratified (n = {len(truth)})"
    figures.panels(path, [{title: points}], "one-shot accuracy (%)", "stand-alone accuracy (%)")
    result = analysis.rank_correlations(scores, truth)
    found = f"no coefficients ({result.reason})"
    if not result.reason:
        tau, rho, pearson = map(markdown.interval, result[:3])
        found = f"Kendall's tau-b {tau}, Spearman's rho {rho}, Pearson's r {pearson}"
    yield (
        f"![The paper's points]({path.name})\n\nThe paper's own {result.n} points, stratified by "
        f"score: {found}."
    )
