"""Makes the tutorials small, to try them out: NAS_JAX_TUTORIALS=short."""

import re

_SIZE = re.compile(r"(```\{code-cell\} ipython3\n:tags: \[size\]\n.*?)(```\n)", re.S)
_SMALL = """small = {
    "supernet.train.num_steps": 20,
    "sweep.num_candidates": 96,
    "retrain.short.groups.random": 4,
    "retrain.short.train.num_epochs": 0.1,
}
fields |= {name: small[name] for name in small if name in fields}
"""


def read(app, page, source):
    """Add to the cell of a tutorial that is tagged `size` what makes it small."""
    if app.config.short_tutorials and page.startswith("tutorials/"):
        source[0], cells = _SIZE.subn(lambda match: match[1] + _SMALL + match[2], source[0])
        if cells != 1:
            raise ValueError(f"{page} has {cells} cells with the tag `size`, not one")


def setup(app):
    """Tell Sphinx to read pages so."""
    app.add_config_value("short_tutorials", False, "env")
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
