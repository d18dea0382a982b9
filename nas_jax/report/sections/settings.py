"""The sections of a report on what was run: the size of the space, versions and the config."""

from nas_jax.config.variants import differing
from nas_jax.report import markdown
from nas_jax.report.results import RunResults
from nas_jax.spaces import combinations


def space(results: RunResults) -> str:
    """Say how many architectures there are, and how many of them have a score."""
    n, size = len(results.ranked), combinations.in_words(results.space)
    share = "" if size.startswith("at most") else f" ({100 * n / results.space.count():.2g} %)"
    return f"{size}, of which {n:,}{share} have a score."


def write(results: RunResults) -> str:
    """List versions, and the config's fields that differ from the defaults."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    rows = [(name, str(value)) for name, value in differing(_flat(results.config))]
    return (
        f"{versions or 'Versions are not known'}.\n\nFields of the config that differ from the "
        f"defaults; all are in config.json:\n\n{markdown.table(('config', ''), rows)}"
    )


def _flat(tree, prefix=""):
    """Yield ('a.b', value) of a nested dict."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
