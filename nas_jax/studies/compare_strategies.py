"""Search strategies at the same budget: supernet, search, and the best trained alone."""

from nas_jax import plan
from nas_jax.report import analysis, figures, markdown, results

TITLE = "Search strategies compared"
TEXT = """The budget is what a search looks at: images that the supernet is trained on, and images
that candidates are scored on, each candidate with all of its own (those that a controller learns
from, or a population is selected by, among them). What alphas learn from (DARTS, GDAS) counts as
scored on. A population's images are those of all its members. Every seed is a supernet and a search
of its own; its best architectures by score are trained from scratch, and count as one value, their
mean. Mean ± sd over seeds; differences from the first strategy are paired by seed, with the 95 %
interval of Student's t (none where all are equal)."""
MANY = 5  # seeds, of fewer of which an interval may be narrow by chance
FEW = f"""**Warning**: there are fewer than {MANY} seeds. An interval of so few may be narrow by
chance: conclude nothing from it, and raise `study.num_seeds`."""


def write(study) -> str:
    """Train what is missing; draw the differences and list the strategies."""
    configs = study.seeded()
    count = study.config.retrain.final.groups.top
    chosen = {
        label: [results.ranked(trials)[:count] for trials in searches]
        for label, searches in study.searches().items()
    }
    networks = study.networks(
        {
            label: [row["arch"] for rows in searches for row in rows]
            for label, searches in chosen.items()
        }
    )
    accuracies = {
        label: [_mean(networks[row["arch"]].accuracy for row in rows) for rows in searches]
        for label, searches in chosen.items()
    }
    gains = {
        label: _gain(values, accuracies[study.reference])
        for label, values in accuracies.items()
        if label != study.reference
    }
    rows = [
        (
            label,
            sum(map(bool, chosen[label])),
            *_budget(study, several[0]),
            *_chosen_cells(chosen[label], networks),
            markdown.spread(analysis.summary([a for a in accuracies[label] if a is not None])),
            markdown.interval(gains[label]) if label in gains else "",
        )
        for label, several in configs.items()
    ]
    header = ("strategy", "seeds", "images trained on", "candidates scored", "images scored on")
    header += ("images in all", "best score (%)", "parameters (M)", "test accuracy (%)")
    header += ("difference",)
    few = [FEW] if min(seeds for _, seeds, *_ in rows) < MANY else []
    return "\n\n".join([*_figure(study, gains), TEXT, *few, markdown.table(header, rows)])


def _figure(study, gains):
    if gains:
        path = study.results.out / "strategies.png"
        axis = f"test accuracy (percentage points), difference from\n{study.reference}"
        figures.intervals(path, gains, axis)
        yield f"![Differences]({path.name})"


def _mean(values):
    """Compute the mean; None without values, since the supernet diverged."""
    values = list(values)
    return sum(values) / len(values) if values else None


def _chosen_cells(chosen, networks):
    """Return cells on the choices of a strategy: best value of each seed, mean size."""
    values = [100 * rows[0]["value"] for rows in chosen if rows]
    params = [networks[row["arch"]].params for rows in chosen for row in rows]
    return markdown.spread(analysis.summary(values)), markdown.millions(_mean(params))


def _gain(accuracies, reference):
    """Compute the mean gain over the seeds for which both have an accuracy."""
    pairs = zip(accuracies, reference, strict=True)
    return analysis.mean_interval([a - b for a, b in pairs if None not in (a, b)])


def _budget(study, config):
    """Count for one search: images trained on, candidates, images evaluated on, all images."""
    run, sweep, size = study.store.run(config), config.sweep, config.supernet.train.batch_size
    members = run.variant.selection.size if run.variant.selection else 1
    trained = round(members * plan.training_steps(run) * size)
    num_evaluated = plan.evaluations_between_steps(run) * sweep.candidates_per_batch
    evaluated = sweep.num_candidates * sweep.num_images + num_evaluated * sweep.batch_size
    evaluated += (plan.all_steps(run) - run.supernet_steps) * size  # what alphas learn from
    numbers = trained, sweep.num_candidates + num_evaluated, evaluated, trained + evaluated
    return [f"{number:,}" for number in numbers]
