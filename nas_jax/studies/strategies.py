"""Search strategies at the same budget: supernet, search, and the best found trained to the end."""

from nas_jax import analysis, figures, markdown
from nas_jax.trainer import count_steps

TITLE = "Search strategies compared"
TEXT = """The budget is what a search looks at: images that the supernet is trained on, and images
that candidates are scored on, each candidate with all of its own (those that a controller learns
from among them). Every seed is a supernet and a search of its own; its best architectures by score
are trained from scratch, and count as one value, their mean. Mean ± sd over seeds; differences from
the first strategy are paired by seed, with the 95 % interval of Student's t."""


def write(study) -> str:
    """Markdown of the table; trains what it needs and draws the differences."""
    configs = study.seeded()
    study.pool.train_supernets(
        {f"{label}, seed {c.seed}": c for label, several in configs.items() for c in several}
    )
    searches = study.searches().items()
    chosen = {label: [_best(study, rows) for rows in several] for label, several in searches}
    accuracies = _trained(study, chosen)
    rows = [
        (label, len(several), *_budget(study, several[0]), *_found(chosen[label]))
        + (markdown.spread(analysis.summary(accuracies[label])),)
        for label, several in configs.items()
    ]
    gains = {label: _gain(accuracies, label, study.reference) for label in configs}
    rows = [(*row, markdown.interval(gains[row[0]]) if any(gains[row[0]]) else "") for row in rows]
    del gains[study.reference]
    path = study.found.out / "strategies.png"
    axis = f"test accuracy, difference from {study.reference} (percentage points)"
    figures.intervals(path, gains, axis)
    header = ("strategy", "seeds", "images trained on", "candidates scored", "images scored on")
    header += ("images in all", "best score (%)", "parameters (M)", "test accuracy (%)")
    header += ("difference",)
    return "\n\n".join([f"![Differences]({path.name})", TEXT, markdown.table(header, rows)])


def _found(chosen):
    """Cells of what the searches of a strategy chose: the best score of each, the mean size."""
    scores = [100 * rows[0]["value"] for rows in chosen]
    params = [row["params"] for rows in chosen for row in rows]
    return markdown.spread(analysis.summary(scores)), markdown.millions(sum(params) / len(params))


def _gain(accuracies, label, reference):
    pairs = zip(accuracies[label], accuracies[reference], strict=True)
    return analysis.mean_interval([ours - theirs for ours, theirs in pairs])


def _best(study, trials):
    """The best different architectures of a search, as many as `retrain.final.groups.top`."""
    known = {row["arch"]: row for row in trials if row["value"] is not None}
    ranked = sorted(known.values(), key=lambda row: (-row["value"], row["arch"]))
    return ranked[: study.config.retrain.final.groups.top]


def _trained(study, chosen):
    """By label, for each seed the mean test accuracy (%) of its best architectures."""
    archs = {row["arch"] for searches in chosen.values() for rows in searches for row in rows}
    results = study.pool.train_networks(study.config, "final", {"top": sorted(archs)})
    accuracies: dict[str, list] = {}
    for row in results:
        accuracies.setdefault(row["arch"], []).append(100 * row["test_accuracy"])
    means = {arch: analysis.summary(values).mean for arch, values in accuracies.items()}
    return {
        label: [analysis.summary([means[r["arch"]] for r in rows]).mean for rows in searches]
        for label, searches in chosen.items()
    }


def _budget(study, config):
    """Of one search: images trained on, candidates scored, images scored on, images in all."""
    sweep, train = config.sweep, config.supernet.train
    steps = count_steps(train, study.pool.data.num_images("train"))
    learnt_from = 0
    if config.supernet.sampler == "strategy":
        learnt_from = steps // config.supernet.strategy_every * sweep.candidates_per_batch
    trained = steps * train.batch_size
    scored = sweep.num_candidates * sweep.num_images + learnt_from * sweep.batch_size
    numbers = trained, sweep.num_candidates + learnt_from, scored, trained + scored
    return [f"{number:,}" for number in numbers]
