"""The ablation of ops: which the supernet rests on, and which stand-alone networks need."""

import jax
import numpy as np

from nas_jax.report import analysis, markdown

TITLE = "One op removed from all-on"
TEXT = """The one-shot accuracy of all paths, and of all but one op in every block. Beside it, over
the architectures of both samples that were trained alone: how much more accurate those that do not
use the op are (mean, one-shot and stand-alone), and how well the score ranks these alone."""


def write(study) -> str:
    """List the accuracy of all paths but one op, for each op.

    Raises: ValueError if the blocks of the space do not choose ops.
    """
    space, reference = study.space, study.variants[study.reference]
    choices = list(filter(_of_ops, jax.tree.leaves(space.choices)))
    if not choices:
        raise ValueError(
            "study.parts 'removal' wants the cell space, whose blocks choose their ops"
        )
    ops = space.option_names(choices[0])
    archs = [space.all_on(), *(_without(space, j) for j in range(len(ops)))]
    accuracies = study.values(reference, list(map(space.to_str, archs)))
    networks = list({n.arch: n for sample in study.samples.values() for n in sample}.values())
    networks = [network for network in networks if network.one_shot is not None]
    uses = _uses(space, [network.arch for network in networks])
    rows = [("all on", accuracies[0], "", "", "", *_ranked(networks, [True] * len(networks)))]
    for j, (op, accuracy) in enumerate(zip(ops, accuracies[1:])):
        lost = "" if None in (accuracy, accuracies[0]) else accuracy - accuracies[0]
        row = f"without {op}", accuracy, lost
        rows.append((*row, *_gaps(networks, uses[:, j]), *_ranked(networks, ~uses[:, j])))
    header = ("", "one-shot accuracy (%)", "difference from all on", "one-shot: without - with it")
    header += ("stand-alone: without - with it", "n without it", "Kendall's tau-b of these")
    return f"{TEXT}\n\n{markdown.table(header, rows)}"


def _without(space, option):
    """Return masks of all paths but one op of each block."""

    def mask(choice, on):
        return np.where(np.arange(len(on)) == option, 0, on) if _of_ops(choice) else on

    return jax.tree.map(mask, space.choices, space.all_on())


def _uses(space, archs):
    """Say which ops each architecture uses in any block, bool [N, ops]."""
    pairs = zip(jax.tree.leaves(space.choices), jax.tree.leaves(space.from_strs(archs)))
    return np.any([mask for choice, mask in pairs if _of_ops(choice)], axis=0)


def _of_ops(choice):
    return choice.name.endswith("ops")


def _gaps(networks, used):
    for field in ("one_shot", "accuracy"):
        values = np.asarray([getattr(network, field) for network in networks])
        both = 0 < used.sum() < len(used)
        yield float(values[~used].mean() - values[used].mean()) if both else ""


def _ranked(networks, chosen):
    kept = [network for network, keep in zip(networks, chosen) if keep]
    result = analysis.rank_correlations([n.one_shot for n in kept], [n.accuracy for n in kept])
    return result.n, result.reason or markdown.interval(result.kendall)
