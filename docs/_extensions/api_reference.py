"""Writes the pages of the API reference: what a user of the package calls, from its docstrings."""

from pathlib import Path

import nas_jax

# Modules whose objects the guides use, beside the public names of the package.
MODULES = (
    "nas_jax.api",
    "nas_jax.build",
    "nas_jax.candidates.evaluators",
    "nas_jax.config",
    "nas_jax.costs.constraints",
    "nas_jax.costs.latency",
    "nas_jax.costs.params_flops",
    "nas_jax.costs.scaling",
    "nas_jax.data",
    "nas_jax.data.dataset",
    "nas_jax.data.records",
    "nas_jax.exports.folder",
    "nas_jax.exports.model",
    "nas_jax.nn.layers",
    "nas_jax.nn.masked",
    "nas_jax.nn.network",
    "nas_jax.oneshot.accuracy",
    "nas_jax.oneshot.path_dropout",
    "nas_jax.oneshot.path_samplers",
    "nas_jax.oneshot.training_variant",
    "nas_jax.pipeline",
    "nas_jax.proxies",
    "nas_jax.report.architecture",
    "nas_jax.run",
    "nas_jax.runtime",
    "nas_jax.runtime.events",
    "nas_jax.spaces",
    "nas_jax.spaces.base",
    "nas_jax.spaces.chains",
    "nas_jax.spaces.checks",
    "nas_jax.spaces.choices",
    "nas_jax.spaces.tabular",
    "nas_jax.spaces.wiring",
    "nas_jax.storage.checkpoints",
    "nas_jax.storage.identity",
    "nas_jax.strategies",
    "nas_jax.strategies.base",
)


def page(name):
    """Return the page of a module; of a package also with what it takes from its own modules."""
    return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def write(app):
    """Write the pages into `reference/api/`; those that are there and equal stay."""
    missing = {*nas_jax._PUBLIC.values(), *nas_jax._FUNCTIONS.values()} - {*MODULES}
    if missing:
        raise ValueError(f"no page has the public modules {sorted(missing)}")
    folder = Path(app.srcdir, "reference", "api")
    folder.mkdir(exist_ok=True)
    for name in MODULES:
        target, text = folder / f"{name}.md", page(name)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def setup(app):
    """Tell Sphinx when to write them."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
