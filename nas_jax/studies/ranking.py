"""One-shot against stand-alone accuracy, on a random and a stratified sample (paper, figure 5)."""

import math

from nas_jax.report import analysis, figures, markdown
from nas_jax.report.sections import distribution, ranking

TITLE = "One-shot against stand-alone accuracy"


def write(study) -> str:
    """Draw both accuracies and list how well one ranks the other; so for the paper's points."""
    out, metric = study.results.out, study.results.ranking_metric
    where = f"F = {min(study.config.retrain.short.filters)}"
    samples = {(where, name): networks for name, networks in study.samples.items()}
    return "\n\n".join(
        [
            distribution.distribution(out, metric, study.trials),
            ranking.comparison(out, metric, samples, study.trials),
            *_paper(study),
        ]
    )


def _paper(study):
    """Yield the paper's points, which are stratified by one-shot accuracy, and coefficients."""
    truth, one_shot = study.paper("standalone_accuracy"), study.paper("one_shot_accuracy")
    if truth is None:
        return
    path = study.results.out / "ranking_paper.png"
    points = figures.Points(one_shot, truth, [math.nan] * len(truth))
    title = f"the paper, stratified (n = {len(truth)})"
    figures.panels(path, [{title: points}], "one-shot accuracy (%)", "stand-alone accuracy (%)")
    result = analysis.rank_correlations(one_shot, truth)
    coefficients = f"no coefficients ({result.reason})"
    if not result.reason:
        tau, rho, pearson = map(markdown.interval, result[:3])
        coefficients = f"Kendall's tau-b {tau}, Spearman's rho {rho}, Pearson's r {pearson}"
    yield (
        f"![The paper's points]({path.name})\n\nThe paper's own {result.n} points, stratified by "
        f"score: {coefficients}."
    )
