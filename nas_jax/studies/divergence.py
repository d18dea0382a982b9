"""The paths that the supernet's predictions rest on (paper, figures 6 and 7).

The symmetrised KL divergence compares a candidate with networks of nearly all paths, with the same
weights, on a few training images. It needs no labels.
"""

import numpy as np

from nas_jax.config import variants
from nas_jax.report import analysis, figures, markdown
from nas_jax.report.results import columns
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training.ranking_metrics import RANKING_METRICS

TITLE = "What the one-shot model learns"
TEXT = """The divergence is D_KL(p||q) + D_KL(q||p) in nats between the predictions of a candidate
and of networks with nearly all paths on, with the same weights, on training images without labels;
as a score it is taken negative. Differences of tau-b are paired, with 95 % bootstrap intervals."""
COURSE = """The divergence over the training, of architectures spread evenly over the sample as
ordered by stand-alone accuracy; no. 1 is the least accurate."""


def write(study) -> str:
    """Draw the divergence against both accuracies and over the training; list how well it ranks."""
    config = variants.changed(study.variants[study.reference], "", [("sweep.score", "kl")])
    rows, panels = [], []
    for name, networks in study.samples.items():
        values = study.values(config, [network.arch for network in networks])
        archs, one_shot, truth = columns(networks, "arch", "one_shot", "accuracy")
        study.scores.setdefault(RANKING_METRICS["kl"].label, {}).update(zip(archs, values))
        rows += _rows(name, values, one_shot, truth)
        panels.append(_panels(name, values, one_shot, truth))
    if paper := study.paper("symmetric_kl"):
        theirs = [-value for value in paper]
        accuracies = study.paper("one_shot_accuracy"), study.paper("standalone_accuracy")
        rows += _rows("the paper, stratified", theirs, *accuracies)
        panels.append(_panels("the paper", theirs, *accuracies))
    header = ("sample", "ranked by", "what is ranked", "n", "Kendall's tau-b", "Spearman's rho")
    header += ("tau-b, difference from the one-shot accuracy",)
    path = study.results.out / "divergence.png"
    figures.panels(path, panels, "KL divergence (nats)", "accuracy (%)", sharey=False)
    image = f"![Divergence and accuracy]({path.name})"
    return "\n\n".join([image, TEXT, markdown.table(header, rows), _course(study, config)])


def _rows(name, values, one_shot, truth):
    """Yield rows: minus the divergence against both accuracies, one-shot against stand-alone."""
    gain = analysis.kendall_gain(values, one_shot, truth)
    difference = "" if gain is None else markdown.interval(gain)
    for ranker, ranked, x, y, last in (
        ("minus the divergence", "one-shot accuracy", values, one_shot, ""),
        ("minus the divergence", "stand-alone accuracy", values, truth, difference),
        ("one-shot accuracy", "stand-alone accuracy", one_shot, truth, ""),
    ):
        result = analysis.rank_correlations(x, y)
        yield name, ranker, ranked, result.n, *markdown.coefficients(result, 2), last


def _panels(name, values, one_shot, truth):
    def points(accuracies):
        pairs = [(-v, a) for v, a in zip(values, accuracies) if None not in (v, a)]
        return figures.Points(*np.reshape(pairs, (-1, 2)).T, [np.nan] * len(pairs))

    return {f"{name}: one-shot": points(one_shot), f"{name}: stand-alone": points(truth)}


def _course(study, config):
    networks = sorted(next(reversed(study.samples.values())), key=lambda n: n.accuracy)
    numbers = analysis.evenly(range(len(networks)), study.config.study.course)
    networks = {number + 1: networks[number] for number in numbers}
    with Checkpoints(study.store.supernet(config) / "checkpoints") as checkpoints:
        steps = checkpoints.steps
    archs = [network.arch for network in networks.values()]
    courses = [[_plus(v) for v in study.values(config, archs, step)] for step in steps]
    names = [f"{n.accuracy:.1f} % (no. {number})" for number, n in networks.items()]
    path = study.results.out / "divergence_course.png"
    axes = "training step", "KL divergence (nats)", "stand-alone accuracy"
    figures.courses(path, steps, dict(zip(names, zip(*courses))), *axes)
    rows = [(f"{step:,}", *course) for step, course in zip(steps, courses)]
    table = markdown.table(("step", *names), rows)
    return f"![Course of the divergence]({path.name})\n\n{COURSE}\n\n{table}"


def _plus(value):
    """Turn a value back into a divergence; NaN for a failure."""
    return float("nan") if value is None else -value
