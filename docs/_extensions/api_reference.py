"""Writes the pages of the API reference: what a user of the package calls, from its docstrings."""

from pathlib import Path

import generated

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
    "nas_jax.spaces.combinations",
    "nas_jax.spaces.tabular",
    "nas_jax.spaces.wiring",
    "nas_jax.storage.checkpoints",
    "nas_jax.storage.identity",
    "nas_jax.strategies",
    "nas_jax.strategies.base",
)


_INDEX = """# Python API

The functions of a search (`nas_jax.search` and its stages) are in `nas_jax.api`; the guide to them
is [](../../howto/python.md).

```{toctree}
:maxdepth: 1

"""


def page(name):
    """Return the page of a module: what its docstrings say."""
    return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def pages():
    """Return {name of a page: its Markdown}: an index, and one for each module."""
    missing = {*nas_jax._PUBLIC.values(), *nas_jax._FUNCTIONS.values()} - {*MODULES}
    if missing:
        raise ValueError(f"no page has the public modules {sorted(missing)}")
    index = _INDEX + "".join(f"{name}\n" for name in MODULES) + "```\n"
    return {"index": index, **{name: page(name) for name in MODULES}}


def write(app):
    """Write the pages into `reference/api/`."""
    generated.write(Path(app.srcdir, "reference", "api"), pages())


def setup(app):
    """Tell Sphinx when to write them."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
