"""The sections of a report: each is a function of the findings that writes its figures and returns
its Markdown.

Accuracies are printed in per cent, parameters and multiply-adds in millions.
"""

import math

from nas_jax.report import analysis, figures, markdown, score_bias
from nas_jax.report.results import SIZE_RANKERS, columns
from nas_jax.report.sections import pareto, schedule, widths
from nas_jax.report.sections import trust as trust_lib

ACCURACY = {"short": "validation accuracy (%)", "final": "test accuracy (%)"}
SIZES = ("parameters (M)", "multiply-adds (M)")
THRESHOLDS = (10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)  # per cent
SETTINGS = (  # beginnings of the config's fields that the report repeats
    *("seed", "data.", "table", "space.", "network.", "supernet.filters", "supernet.execution"),
    *("supernet.sampler", "supernet.path_dropout."),
    *("supernet.train.num_", "supernet.train.batch_size", "supernet.train.ghost_batch_size"),
    *("supernet.train.base_lr", "supernet.train.schedule", "supernet.train.l2", "sweep."),
    *(f"retrain.{protocol}." for protocol in ACCURACY),
)
RANKING = """Correlation of what ranks architectures with their stand-alone accuracy (mean over
seeds), with 95 % intervals of a bootstrap over the n architectures (5,000 at a time where there are
more). A stratified sample holds more of the extremes than the candidates do, so it is easier to
rank; only the random sample speaks for them. The top half and the top tenth are the best by
stand-alone accuracy."""
SHARED = """Score and judge share images: the scores are of {:,} of the validation images, all of
which judge the stand-alone networks with {}, so their errors are not independent, which favours the
score."""
REGRET = """Stand-alone accuracy, in percentage points, lost by training only the k best-scored of
the n architectures, and by training k at random (exact mean). Both train k networks; the
supernet's own training comes on top."""
BARS = "Error bars, where there are several seeds, are their sd."
FINAL = """Mean ± sd over the n architectures of a group; seeds are averaged first, and their own
sd (pooled) stands apart where there are several. All-on is no architecture of the space."""
CELL = """A line is a tensor and runs into the concat on the right. A block concatenates the tensors
at its dots and adds up its ops."""
LAST_CELL = "Each cell has its own; this is the last."


def _size(found):
    count, n = found.space.count(), len(found.ranked)
    return f"{count:,} architectures, of which {n:,} ({100 * n / count:.2g} %) have a score."


def _training(found):
    rows, last = found.metrics, found.metrics[-1]
    series = {
        "training loss": [row["loss"] for row in rows],
        "training accuracy (%)": [100 * row["accuracy"] for row in rows],
        "learning rate": [row["learning_rate"] for row in rows],
    }
    shares = [row.get("drop_share", row.get("drop_rate")) for row in rows]  # the older name
    if None not in shares:
        series["path dropout (% of its final rate)"] = [100 * share for share in shares]
    figures.curves(found.out / "training.png", [row["step"] for row in rows], series)
    return (
        f"![Training curves](training.png)\n\nAt step {last['step']:,} the loss is "
        f"{last['loss']:.3f} and the accuracy {100 * last['accuracy']:.2f} %, both of the "
        "architectures that were trained, averaged since the line before."
    )


def scores(found) -> str:
    """Distribution of the candidates' scores."""
    score = found.score
    values = [score.factor * row["value"] for row in found.scored]
    summary = analysis.summary(values)
    quantiles = {share: summary.quantiles[share] for share in (0.5, 0.9, 0.99)}
    marks = {"mean": summary.mean, "sd": summary.sd, "quantiles": quantiles}
    accurate = score.unit == "%"
    step = 100 / found.scored[0]["num_images"] if accurate else 1e-3
    figures.histogram(found.out / "scores.png", values, step, score.label, **marks)
    rows = [
        ("mean ± sd", markdown.spread(summary)),
        ("lowest", summary.low),
        ("highest", summary.high),
    ]
    rows += [(f"{share:.0%} quantile", value) for share, value in summary.quantiles.items()]
    rows += [
        (f"candidates at {bar} % or more", 100 * count / summary.n)
        for bar in THRESHOLDS
        for count in [sum(analysis.reaches(value, bar) for value in values)]
        if accurate and 0 < count < summary.n
    ]
    failed = f"{len(found.trials) - summary.n:,} of {len(found.trials):,} candidates failed."
    table = markdown.table((score.name, score.unit, "n"), [(*row, summary.n) for row in rows])
    return f"![Distribution of scores](scores.png)\n\n{failed}\n\n{table}"


def ranking(found) -> str:
    """How well scores, sizes and another seed rank stand-alone accuracy.

    Of networks of the protocol "short" the errors of both are not independent: scores are of some
    of the validation images that judge.
    """
    header = ("networks", "sample", "part", "ranked by", "n")
    header += ("Kendall's tau-b", "Spearman's rho", "Pearson's r")
    rows = [
        row
        for key, group in found.samples.items()
        for row in _coefficients(found.score.name, *key, group)
    ]
    places = dict.fromkeys(where for where, _ in found.samples)
    images = [_panels(found, where) for where in places]
    notes = [BARS, RANKING, *_shared(found, [where for where in places if where != "published"])]
    return "\n\n".join([*images, *notes, markdown.table(header, rows), _seeds(found.samples)])


def _shared(found, places):
    if places and found.scored and found.score.on_valid:
        yield SHARED.format(found.scored[0]["num_images"], " or ".join(places))


def _panels(found, where):
    points = {
        f"{name} sample": _points(group, "one_shot")
        for (place, name), group in found.samples.items()
        if place == where
    }
    if not (labelled := _labelled(points)):
        return f"None of the networks with {where} has a score."
    labels = found.score.label, f"stand-alone {_truth(where)}"
    name = f"ranking_{where.replace(' = ', '')}.png"
    figures.panels(found.out / name, [labelled], *labels)
    return f"![Score and stand-alone accuracy, {where}]({name})"


def _truth(where):
    return ACCURACY["final" if where == "published" else "short"]


def _coefficients(score, where, name, networks):
    """Rows for each part and ranker, all on the same networks: those with a score."""
    networks = [network for network in networks if network.one_shot is not None]
    (truth,) = columns(networks, "accuracy")
    for part, numbers in score_bias.parts(truth).items() if networks else ():
        for label, x, y in _rankers(score, [networks[i] for i in numbers], part):
            result = analysis.rank_correlations(x, y)
            yield where, name, part, label, result.n, *markdown.coefficients(result)


def _rankers(score, networks, part):
    """(label, what ranks, what is ranked): the score, costs, and a training ranking another.

    Within the best by the mean of the seeds these are pushed apart, so seeds are compared over all.
    """
    for label, field in {score: "one_shot", **SIZE_RANKERS}.items():
        yield label, *columns(networks, field, "accuracy")
    if part == "all" and all(len(network.accuracies) > 1 for network in networks):
        yield "one seed, ranking another", *zip(*(n.accuracies[:2] for n in networks))
    if all(network.valid is not None for network in networks):
        yield "validation accuracy", *columns(networks, "valid", "accuracy")


def _seeds(samples):
    rows = [
        (where, name, seeds.n, seeds.between, seeds.within, seeds.ratio)
        for (where, name), group in samples.items()
        if not math.isnan((seeds := _over_seeds(group)).within)
    ]
    header = (
        "networks",
        "sample",
        "n",
        "sd between architectures (%)",
        "sd between seeds (%)",
        "ratio",
    )
    return markdown.table(header, rows) if rows else "Every network has one seed."


def _regret(found):
    rows = [
        (where, name, result.n, result.k, result.regret, result.random)
        for (where, name), group in found.samples.items()
        for result in analysis.top_k_regret(*columns(group, "one_shot", "accuracy"))
    ]
    header = ("networks", "sample", "n", "k", "k best-scored", "k at random")
    return f"{REGRET}\n\n{markdown.table(header, rows)}"


def final(found) -> str:
    """Accuracies and sizes of the groups of final networks."""
    rows = []
    for (filters, name), group in found.final.items():
        accuracy, *sizes = map(analysis.summary, columns(group, "accuracy", "params", "flops"))
        noise = _over_seeds(group).within
        row = [filters, _label(name), accuracy.n, markdown.spread(accuracy)]
        rows.append(
            [
                *row,
                "" if math.isnan(noise) else noise,
                *(markdown.millions(size.mean) for size in sizes),
            ]
        )
    header = ("F", "group", "n", ACCURACY["final"], "sd over seeds (%)", *SIZES)
    return f"{FINAL}\n\n{markdown.table(header, rows)}"


def _cost(found):
    protocol = "final" if found.final else "short"
    groups: dict[str, list] = {}
    for (_, name), group in getattr(found, protocol).items():
        groups.setdefault(_label(name), []).extend(group)
    points = _labelled({name: _points(group, "params", 1e-6) for name, group in groups.items()})
    labels = SIZES[0], f"stand-alone {ACCURACY[protocol]}"
    figures.groups(found.out / "cost.png", points, *labels)
    return f"![Accuracy against parameters](cost.png)\n\n{BARS}"


def _best(found):
    rows = [
        (
            i,
            f"`{r['arch']}`",
            found.score.factor * r["value"],
            *map(markdown.millions, (r["params"], r["flops"])),
        )
        for i, r in enumerate(found.ranked[:10], 1)
    ]
    table = markdown.table(("", "architecture", found.score.label, *SIZES), rows)
    text = f"The first {len(rows)} of n = {len(found.ranked):,}:\n\n{table}"
    if not hasattr(found.space, "graph"):
        return f"This space says nothing about how to draw an architecture.\n\n{text}"
    figures.cell(found.out / "best.png", found.space.graph(found.best[0]["arch"]))
    about = CELL if getattr(found.space, "tied", True) else f"{CELL} {LAST_CELL}"
    return f"![The best cell](best.png)\n\n{about}\n\n{text}"


def how(found) -> str:
    """Versions and the config's main fields."""
    rows = [row for row in _flat(found.config) if row[0].startswith(SETTINGS)]
    if dict(rows).get("supernet.sampler", "path_dropout") != "path_dropout":
        rows = [row for row in rows if not row[0].startswith("supernet.path_dropout.")]
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return f"{versions or 'Versions are not known'}.\n\n{markdown.table(('config', ''), rows)}"


def _flat(tree, prefix=""):
    """('a.b', value) of a nested dict."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


# -- points ---------------------------------------------------------------------------------------


def _label(group):
    return group.replace("_", "-")


def _over_seeds(networks):
    return analysis.over_seeds({network.arch: network.accuracies for network in networks})


def _points(networks, field, unit=1):
    """Accuracy against `field`; error bars are the sd over seeds, where there are several."""
    known = [network for network in networks if getattr(network, field) is not None]
    x, y = columns(known, field, "accuracy")
    sds = _over_seeds(known).sds
    return figures.Points([unit * value for value in x], y, [sds[n.arch] for n in known])


def _labelled(samples):
    return {f"{name} (n = {len(points.x)})": points for name, points in samples.items() if points.x}


NEEDS_SAMPLES = (("samples",), "selected result in retrain/short", "retrain")
# title, who writes it, what of the findings it needs (one of them), where that is, who makes it;
# one that no mode makes is left out where it is missing
SECTIONS = (
    ("The space", _size, ("space",), "", ""),
    ("Training of the one-shot model", _training, ("metrics",), "metrics.jsonl", "supernet"),
    ("Found schedule", schedule.write, ("lineage",), "", ""),
    ("Scores", scores, ("scored",), "score in trials.jsonl", "sweep"),
    ("The best architectures", _best, ("scored",), "score in trials.jsonl", "sweep"),
    ("Score against cost", pareto.write, ("ranked",), "score in trials.jsonl", "sweep"),
    ("How well scores rank", ranking, *NEEDS_SAMPLES),
    ("How far the score can be trusted", trust_lib.write, *NEEDS_SAMPLES),
    ("Regret", _regret, *NEEDS_SAMPLES),
    ("Final networks", final, ("final",), "result in retrain/final", "retrain"),
    ("Tuned widths", widths.write, ("widths",), "", ""),
    ("Accuracy and size", _cost, ("final", "short"), "result in retrain", "retrain"),
    ("How it was run", how, ("config",), "config.json", "supernet"),
)
