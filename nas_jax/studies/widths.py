"""Widths tuned after the search (the paper's section 5), against narrowing at the same cost."""

from nas_jax import analysis, figures, findings, markdown, widths_section

TITLE = "Tuned widths"
TEXT = """Every seed is a supernet and a search of its own, whose best architectures by score are
tuned. The networks are trained from scratch; mean ± sd over all n of them. Differences are paired
by architecture, with the 95 % interval of Student's t."""
NAMES = {"full": "full", "narrowed": "narrowed uniformly", "tuned": "tuned by MorphNet"}


def write(study) -> str:
    """Markdown of the table; trains what it needs and draws widths and differences."""
    (configs, *_), (searches, *_) = study.seeded().values(), study.searches().values()
    count = study.config.retrain.final.groups.tuned
    filters = study.config.retrain.final.filters[0]
    jobs = [
        (config, row["arch"], filters, config.seed)
        for config, trials in zip(configs, searches)
        for row in findings.ranked(trials)[:count]
    ]
    rows = study.pool.tune(jobs)
    archs = {
        "full": [row["arch"] for row in rows],
        **{name: [row[name] for row in rows] for name in ("narrowed", "tuned")},
    }
    networks = study.networks({arch for each in archs.values() for arch in each})
    accuracies = {name: [networks[a].accuracy for a in each] for name, each in archs.items()}
    gains = {
        f"tuned - {name}": analysis.mean_interval(
            [a - b for a, b in zip(accuracies["tuned"], accuracies[name])]
        )
        for name in ("narrowed", "full")
    }
    path = study.found.out / "widths_gains.png"
    figures.intervals(path, gains, "test accuracy (percentage points)")
    table = [
        (
            NAMES[name],
            len(rows),
            markdown.spread(analysis.summary(accuracies[name])),
            *(
                markdown.millions(analysis.summary([getattr(networks[a], f) for a in each]).mean)
                for f in ("params", "flops")
            ),
            markdown.interval(gains[f"tuned - {name}"]) if name != "tuned" else "",
        )
        for name, each in archs.items()
    ]
    header = ("widths", "n", "test accuracy (%)", "parameters (M)", "multiply-adds (M)")
    header += ("tuned - this",)
    parts = [widths_section.table(study.found, rows), f"![Differences]({path.name})", TEXT]
    return "\n\n".join([*parts, markdown.table(header, table)])
