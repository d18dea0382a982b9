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
    searches = study.searches()
    chosen = {label: [_best(study, trials) for trials in searches[label]] for label in searches}
    accuracies = _trained(study, chosen)
    rows, gains = [], {}
    for label, several in configs.items():
        pairs = zip(accuracies[label], accuracies[study.reference])
        gain = analysis.mean_interval([ours - theirs for ours, theirs in pairs])
        if label != study.reference:
            gains[label] = gain
        scores = [100 * picks[0]["value"] for picks in chosen[label]]
        params = [row["params"] for picks in chosen[label] for row in picks]
        rows.append(
            (
                label,
                len(several),
                *(f"{number:,}" for number in _budget(study, several[0])),
                markdown.spread(analysis.summary(scores)),
                markdown.spread(analysis.summary(accuracies[label])),
                markdown.millions(analysis.summary(params).mean),
                markdown.interval(gain) if label in gains else "",
            )
        )
    path = study.found.out / "strategies.png"
    label = f"test accuracy, difference from {study.reference} (percentage points)"
    figures.intervals(path, gains, label)
    header = ("strategy", "seeds", "images trained on", "candidates scored", "images scored on")
    header += ("images in all", "best score (%)", "test accuracy (%)", "parameters (M)")
    header += ("difference",)
    return "\n\n".join([f"![Differences]({path.name})", TEXT, markdown.table(header, rows)])


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
    """(images trained on, candidates scored, images scored on, images in all) of one search."""
    sweep, train = config.sweep, config.supernet.train
    steps = count_steps(train, study.pool.data.num_images("train"))
    learnt_from = 0
    if config.supernet.sampler == "strategy":
        learnt_from = steps // config.supernet.strategy_every * sweep.candidates_per_batch
    trained = steps * train.batch_size
    scored = sweep.num_candidates * sweep.num_images + learnt_from * sweep.batch_size
    return trained, sweep.num_candidates + learnt_from, scored, trained + scored
