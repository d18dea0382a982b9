"""Signals that rank a table's architectures: one-shot accuracy, proxies, ensembles, sizes.

With `study.surrogate_archs` two surrogates are among them, Gaussian processes that learn from
accuracies of architectures in the other half of the table: one from the architectures alone, one
from the signals as well.
"""

import math

import numpy as np

from nas_jax.costs import params_flops
from nas_jax.report import analysis, figures, heat_map, markdown, score_bias
from nas_jax.report.sections import members
from nas_jax.spaces import tabular
from nas_jax.strategies.gaussian_process import GaussianProcess
from nas_jax.training import evaluator_names

TITLE = "Signals that rank architectures"
HALVES = ("all", "first", "second")
BEST = 10
DRAWN = ("all", "top half")
DISGUISED = 0.1  # of tau given the parameters: below, a signal says little else
SIZES = ("parameters", "multiply-adds")
ALIKE = 0.5  # of tau with the parameters
TEXT = """Kendall's tau-b with the published test accuracy, over {n:,} architectures of the table
({half}), and over those that are best by it; 95 % intervals of a bootstrap over architectures. An
architecture at which a signal fails is ranked last. "Given parameters" is the partial tau: what a
signal still ranks among networks of equal size. The last column is the mean test accuracy of the
ten best by the signal (of the ten best there are: {best:.2f} %).{apart}"""
APART = """ {count:,} architectures of that half are left out: they are the same networks as some
whose accuracies a surrogate or a supernet learns from."""


def judged(table: tabular.Table, half: str) -> dict[str, float]:
    """Return the test accuracies, per cent, of a half of a table, by architecture.

    Args:
      table: published accuracies.
      half: of `HALVES`, see `tabular.half`.
    """
    rows = {arch: table.rows[arch].accuracy for arch in sorted(table.rows)}
    if half == "all":
        return rows
    return {arch: truth for arch, truth in rows.items() if tabular.half(arch) == half}


def write(study) -> str:
    """List how well every variant's values rank a table, and how they rank each other."""
    half = study.config.study.half
    table = tabular.load(study.config.table, study.space)
    whole, learnt = judged(table, half), _learnt(study, table)
    truth = _apart(study, whole, learnt)
    archs, accuracies = list(truth), list(truth.values())
    signals = {
        label: members.filled(study.values(config, archs))
        for label, config in study.variants.items()
    }
    signals |= _surrogates(study, table, learnt[0], archs)
    sizes = params_flops.of(study.space, study.space.from_strs(archs))
    costs = dict(zip(SIZES, (sizes.params, sizes.flops)))
    signals |= {label: np.asarray(values, float) for label, values in costs.items()}
    taus = {label: _taus(values, accuracies) for label, values in signals.items()}
    rows = [
        _row(label, values, taus[label], accuracies, sizes.params)
        for label, values in signals.items()
    ]
    header = ("signal", *score_bias.parts(accuracies), "given parameters", "best ten (%)")
    out = study.results.out
    drawn = {
        part: {label: taus[label][part] for label in taus}
        for part in DRAWN
        if part in taus[study.reference]  # a part of few architectures has none
    }
    figures.interval_groups(out / "signals.png", drawn, "Kendall's tau-b")
    heat_map.draw(out / "signals_between.png", list(signals), members.between(signals))
    best = np.sort(accuracies)[-BEST:].mean()
    left_out = len(whole) - len(archs)
    apart = APART.format(count=left_out) if left_out else ""
    return "\n\n".join(
        [
            "![How well signals rank](signals.png)",
            TEXT.format(n=len(archs), half=f"half: {half}", best=best, apart=apart),
            markdown.table(header, rows),
            _advice(study.reference, signals, taus, accuracies, sizes.params),
            "![How signals rank each other](signals_between.png)",
        ]
    )


def _learnt(study, table):
    """List the architectures whose accuracies surrogates, or supernets, learn from."""
    half, count = study.config.study.half, study.config.study.surrogate_archs
    learnt = tabular.drawn(table, "first" if half == "second" else "second", count)
    marks = max(config.supernet.landmarks.count for config in study.variants.values())
    return learnt, tabular.drawn(table, tabular.LEARNT, marks)


def _apart(study, truth, learnt):
    """Leave out architectures that are the same network as one that something learns from."""
    seen = {study.space.isomorph(arch) for archs in learnt for arch in archs}
    return {arch: value for arch, value in truth.items() if study.space.isomorph(arch) not in seen}


def _surrogates(study, table, learnt, archs):
    """Predict the architectures by surrogates, by label; {} if these learn from none."""
    if not learnt:
        return {}
    truth = np.asarray([table.rows[arch].accuracy for arch in learnt])
    proxies = {
        label: _lookup(study, config, learnt + archs)
        for label, config in study.variants.items()
        if config.sweep.score != evaluator_names.ENSEMBLE
    }
    given = {"of architectures alone": {}, "of signals, too": proxies}
    return {
        f"surrogate {which}, {len(learnt)} accuracies": _predicted(
            study.space, learnt, truth, archs, by
        )
        for which, by in given.items()
    }


def _lookup(study, config, archs):
    """Make masks -> values, float [n], NaN for a failure, of architectures, by a variant."""
    values = dict(zip(archs, study.values(config, archs)))
    return lambda masks: np.asarray([values[arch] for arch in study.space.to_strs(masks)], float)


def _predicted(space, learnt, truth, archs, proxies):
    def costs(masks):
        return params_flops.of(space, masks)._asdict()

    process = GaussianProcess(space, costs, params_flops.Cost._fields, proxies)
    process.fit(space.from_strs(learnt), truth)
    return process.means(space.from_strs(archs))


def _taus(values, truth):
    """Estimate tau as `members.taus`; NaN where there is none."""
    none = analysis.Estimate(math.nan, math.nan, math.nan)
    found = members.taus(values, np.asarray(truth))
    return {name: none if tau is None else tau for name, tau in found.items()}


def partial_tau(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Compute Kendall's partial tau of x and y, [n], given a third: NaN where it has none."""
    xy, xz, yz = (analysis.kendall(*pair) for pair in ((x, y), (x, given), (y, given)))
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / math.sqrt(rest) if rest > 0 else math.nan


def _row(label, values, taus, truth, params):
    given = partial_tau(values, np.asarray(truth), np.asarray(params, float))
    best = np.asarray(truth)[np.argsort(-np.asarray(values), kind="stable")[:BEST]].mean()
    alone = "" if label == "parameters" else f"{given:.2f}"
    return label, *map(markdown.interval, taus.values()), alone, f"{best:.2f}"


def _is_disguised(values, truth, params):
    """Say whether a signal counts parameters: it goes with them, and without them ranks little."""
    rest = abs(partial_tau(values, truth, params))
    return rest < DISGUISED and abs(analysis.kendall(values, params)) > ALIKE


def _advice(reference, signals, taus, truth, params):
    """Say which signal ranks best, by how much, and which say little beyond the size."""
    first = {label: of_parts["all"].value for label, of_parts in taus.items()}
    best = max(first, key=lambda label: np.nan_to_num(first[label], nan=-2))
    sentence = f"**{best} ranks best**, with tau {first[best]:.2f}"
    if best != reference:
        gain = analysis.kendall_gain(signals[best], signals[reference], truth)
        more = "" if gain is None else f": {markdown.interval(gain)} more than {reference}"
        sentence += more and f"{more}, on the same architectures"
    truth, params = np.asarray(truth), np.asarray(params, float)
    disguised = [
        label
        for label, values in signals.items()
        if label not in SIZES and _is_disguised(values, truth, params)
    ]
    if disguised:
        sentence += f". Little more than a count of parameters: {', '.join(disguised)}"
    return f"{sentence}."
