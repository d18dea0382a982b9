"""The sections of a report on what was run: the size of the space, versions and the config."""

from nas_jax.report import markdown
from nas_jax.report.results import RunResults
from nas_jax.report.sections.networks import IMAGES

SHOWN = (  # beginnings of the config's fields that the report repeats
    *("seed", "metric", "data.", "table", "space.", "network."),
    *("supernet.filters", "supernet.execution", "supernet.variant"),
    *("supernet.sampler", "supernet.archs_per_step", "supernet.distillation"),
    "supernet.path_dropout.",
    *("supernet.train.num_", "supernet.train.batch_size", "supernet.train.ghost_batch_size"),
    *(
        "supernet.train.optimizer",
        "supernet.train.base_lr",
        "supernet.train.schedule",
        "supernet.train.l2",
        "sweep.",
    ),
    *(f"retrain.{protocol}." for protocol in IMAGES),
)


def space(results: RunResults) -> str:
    """Say how many architectures there are, and how many of them have a score."""
    count, n = results.space.count(), len(results.ranked)
    return f"{count:,} architectures, of which {n:,} ({100 * n / count:.2g} %) have a score."


def write(results: RunResults) -> str:
    """List versions and the config's main fields."""
    rows = [row for row in _flat(results.config) if row[0].startswith(SHOWN)]
    if dict(rows).get("supernet.sampler", "path_dropout") != "path_dropout":
        rows = [row for row in rows if not row[0].startswith("supernet.path_dropout.")]
    if results.selected:  # masks were learnt, not drawn
        drawn = ("supernet.sampler", "supernet.path_dropout.", "supernet.archs_per_step")
        rows = [row for row in rows if not row[0].startswith(drawn)]
    if dict(rows).get("supernet.variant") == "none":
        rows = [row for row in rows if not row[0].startswith("supernet.variant")]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"{versions or 'Versions are not known'}.\n\n{markdown.table(('config', ''), rows)}"


def _flat(tree, prefix=""):
    """Yield ('a.b', value) of a nested dict."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
