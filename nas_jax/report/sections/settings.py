"""The sections of a report on what was run: the size of the space, versions and the config."""

from nas_jax.config.variants import differing, flatten
from nas_jax.report import markdown
from nas_jax.report.results import RunResults
from nas_jax.spaces import combinations


def space(results: RunResults) -> str:
    """Say how many architectures there are, and how many of them have a score."""
    n, size, share = len(results.ranked), combinations.in_words(results.space), ""
    if combinations.is_exact(results.space):
        share = f" ({100 * n / results.space.count():.2g} %)"
    return f"{size}, of which {n:,}{share} have a score."


def write(results: RunResults) -> str:
    """List versions, and the config's fields that differ from the defaults."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    rows = [(name, str(value)) for name, value in differing(flatten(results.config))]
    return (
        f"{versions or 'Versions are not known'}.\n\nFields of the config that differ from the "
        f"defaults; all are in config.json:\n\n{markdown.table(('config', ''), rows)}"
    )
