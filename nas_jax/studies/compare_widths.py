"""Widths tuned after the search (paper, section 5), against narrowing at the same cost."""

from nas_jax.report import analysis, figures, markdown, results
from nas_jax.report.results import columns
from nas_jax.report.sections import widths

TITLE = "Tuned widths"
TEXT = """Every seed is a supernet and a search of its own, whose best architectures by score are
tuned. The networks are trained from scratch; mean ± sd over all n of them. Differences are paired
by architecture, with the 95 % interval of Student's t (none where all are equal)."""
NAMES = {"full": "full", "narrowed": "narrowed uniformly", "tuned": "tuned by MorphNet"}
HEADER = ("widths", "n", "test accuracy (%)", "parameters (M)", "multiply-adds (M)", "tuned - this")


def write(study) -> str:
    """Train what is missing; draw widths and differences, and list the networks."""
    rows = study.store.tune(_jobs(study))
    archs = {name: [row["arch" if name == "full" else name] for row in rows] for name in NAMES}
    trained = study.networks(archs)
    networks = {name: [trained[arch] for arch in each] for name, each in archs.items()}
    gains = {
        name: _gain(networks["tuned"], others)
        for name, others in networks.items()
        if name != "tuned"
    }
    path = study.results.out / "widths_gains.png"
    labelled = {f"tuned - {name}": gain for name, gain in gains.items()}
    figures.intervals(path, labelled, "test accuracy (percentage points)")
    table = markdown.table(HEADER, [_row(n, each, gains.get(n)) for n, each in networks.items()])
    drawn = widths.table(study.results.out, rows)
    return "\n\n".join([drawn, f"![Differences]({path.name})", TEXT, table])


def _jobs(study):
    """List the jobs of `Store.tune`: the best architectures of each seed's search."""
    (configs, *_), (searches, *_) = study.seeded().values(), study.searches().values()
    final = study.config.retrain.final
    return [
        (config, row["arch"], final.filters[0], config.seed)
        for config, trials in zip(configs, searches)
        for row in results.ranked(trials)[: final.groups.tuned]
    ]


def _gain(networks, others):
    return analysis.mean_interval([a.accuracy - b.accuracy for a, b in zip(networks, others)])


def _row(name, networks, gain):
    fields = "accuracy", "params", "flops"
    accuracy, *sizes = map(analysis.summary, columns(networks, *fields))
    cells = markdown.spread(accuracy), *(markdown.millions(size.mean) for size in sizes)
    return NAMES[name], len(networks), *cells, markdown.interval(gain) if gain else ""
