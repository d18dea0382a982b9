"""The section of a report on how far the score can be trusted."""

import jax
import numpy as np

from nas_jax.report import analysis, figures, markdown, score_bias
from nas_jax.report.results import RunResults, columns, sizes

BIAS = """How options are rated: mean difference, in per cent of n, between an architecture's rank
by score and by stand-alone accuracy, over the architectures that use the option (above 0: rated too
high), with 95 % intervals of a bootstrap (of more than 5,000, of its normal limit); and the
option's share of all of its kind, in all architectures, the best tenth by score and by accuracy."""


def write(results: RunResults) -> str:
    """Say of every sample how the score treats it; draw the bias of options."""
    return "\n\n".join(
        text
        for (where, name), networks in results.samples.items()
        for text in _sample(results, where, name, networks)
    )


def _sample(results, where, name, networks):
    networks = [network for network in networks if network.one_shot is not None]
    yield f"### {where}, {name}"
    if len(networks) < analysis.MIN_PAIRS:
        way_out = f"Train more networks alone (`retrain.short.groups.{name}`)"
        if name == "table":
            way_out = "Evaluate more candidates (`sweep.num_candidates`)"
        few = f"n = {len(networks)} is less than {analysis.MIN_PAIRS}"
        yield f"{few}: too few to say. {way_out}."
        return
    archs, scores, truth = columns(networks, "arch", "one_shot", "accuracy")
    biases = {
        label: bias
        for uses in _uses(results.space, archs)
        for label, bias in score_bias.biases(uses, scores, truth).items()
    }
    yield "\n".join(f"- {text}" for text in _remarks(results.space, archs, scores, truth))
    warnings = [
        *_small(len(archs)),
        *size_warnings(scores, sizes(networks), truth),
        *_collapse(biases, len(archs)),
    ]
    yield "\n".join(f"- **Warning**: {text}" for text in warnings) or "No warnings."
    if len({*scores}) > 1:
        yield _bias(results.out, where, name, biases)


def _uses(space, archs):
    """Yield, for each kind of Choice, how often each architecture has an option, [n] by label.

    Choices are of one kind if their labels begin alike (inputs; ops). Shares are within a kind.
    """
    masks, kinds = space.from_strs(archs), {}
    for choice, mask in zip(jax.tree.leaves(space.choices), jax.tree.leaves(masks)):
        labels = space.option_names(choice)
        uses = kinds.setdefault(labels[0], {})
        for label, column in zip(labels, mask.T):
            uses[label] = uses.get(label, 0) + column
    for uses in kinds.values():
        yield {label: column for label, column in uses.items() if column.any()}


def _remarks(space, archs, scores, truth):
    n = len(archs)
    yield (
        f"{score_bias.num_tied(scores):,} of n = {n:,} architectures share their score with "
        "another (tau-b corrects for ties)."
    )
    classes = [space.isomorph(arch) for arch in archs]
    if len({*classes}) == n:
        yield "No two architectures are known to compute the same."
        return
    result = analysis.rank_correlations(*score_bias.merged(classes, scores, truth))
    merged = result.reason or f"Kendall's tau-b is {markdown.interval(result.kendall)}"
    yield (
        f"They are {len({*classes}):,} up to isomorphism; averaged over those that are isomorphic, "
        f"{merged}."
    )


def _small(n):
    if n < score_bias.FEW:
        yield f"n = {n} is less than {score_bias.FEW}: judge by the intervals, not by the values."


def size_warnings(scores, counted, truth):
    """Yield a sentence for each part in which a size ranks as well as the score does, or better.

    Args:
      scores, truth: [n].
      counted: sizes by name, [n] each.
    """
    for part, numbers in score_bias.parts(truth).items():
        ours, theirs = (np.asarray(values)[numbers] for values in (scores, truth))
        within = {name: np.asarray(values)[numbers] for name, values in counted.items()}
        against = score_bias.against_size(ours, within, theirs)
        verb = against and _verb(against.gain, part == "all", len(numbers))
        if verb:
            where = "" if part == "all" else f"within the {part} by accuracy "
            yield (
                f"{where}the score {verb} than counting {against.size}: tau-b is {against.tau:.2f} "
                f"against {against.tau_of_size:.2f}, and differs by "
                f"{markdown.interval(against.gain)} (n = {len(numbers):,})."
            )


def _verb(gain, is_all, n):
    """Say how the score ranks, where that is worth a warning; "" where it is not."""
    if gain.high < 0:
        return "ranks worse"
    if is_all:  # here a score is expected to be shown to rank better
        return "" if gain.low > 0 else "cannot be shown to rank better"
    # Among the best that is hard to show, so that only a lower tau-b is news, unless of a few.
    is_lower = gain.value < -analysis.ROUNDING and n >= score_bias.FEW
    return "ranks no better" if is_lower else ""


def _collapse(biases, n):
    for label, bias in biases.items() if n >= score_bias.MANY else ():
        if bias.dominates:
            yield (
                f"collapse: {label} is {bias.share_by_score:.0%} of its kind in the best tenth of "
                f"n = {n} by score, and {bias.share_by_truth:.0%} in the best by accuracy."
            )


def _bias(out, where, name, biases):
    path = out / f"bias_{where.replace(' = ', '')}_{name}.png"
    percent = {
        label: analysis.Estimate(*(100 * value for value in bias.rank))
        for label, bias in biases.items()
    }
    figures.intervals(path, percent, "rated too low  <   rank, % of n   >  too high")
    rows = [
        (
            label,
            markdown.interval(percent[label]),
            *(f"{share:.0%}" for share in bias[1:]),
        )
        for label, bias in biases.items()
    ]
    header = ("option", "rank by score - by accuracy (% of n)", "share", "by score", "by accuracy")
    return f"![Bias of options]({path.name})\n\n{BIAS}\n\n{markdown.table(header, rows)}"
