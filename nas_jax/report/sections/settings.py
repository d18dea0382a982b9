"""The sections of a report on what was run: the size of the space, versions and the config."""

import json

from nas_jax import config
from nas_jax.report import markdown
from nas_jax.report.results import RunResults


def space(results: RunResults) -> str:
    """Say how many architectures there are, and how many of them have a score."""
    n, share = len(results.ranked), 100 * len(results.ranked) / results.space.count()
    return f"{results.space.size()}, of which {n:,} ({share:.2g} %) have a score."


def write(results: RunResults) -> str:
    """List versions, and the config's fields that differ from the defaults."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    defaults = dict(_flat(json.loads(json.dumps(config.default().to_dict()))))
    rows = [row for row in _flat(results.config) if defaults.get(row[0]) != row[1]]
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
            yield f"{prefix}{key}", str(value)
