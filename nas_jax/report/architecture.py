"""An architecture as a record that can show itself, as in a notebook."""

import base64
import dataclasses
import html
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from nas_jax.report import cell_figure
from nas_jax.spaces import Space, arch_id
from nas_jax.spaces.choices import Arch


@dataclasses.dataclass(frozen=True, repr=False)
class Architecture:
    """One architecture of a space. `str` of it is its canonical string.

    Attributes:
      space: the search space.
      text: the canonical string.

    Raises: ValueError if the string is not one of the space.
    """

    space: Space
    text: str

    def __post_init__(self):
        self.space.from_str(self.text)

    @property
    def masks(self) -> Arch:
        """The masks, float32 [num_options] for each Choice."""
        return self.space.from_str(self.text)

    @property
    def id(self) -> str:
        """The arch id, which names folders."""
        return arch_id(self.text)

    def png(self) -> bytes | None:
        """Draw it, and return the content of a PNG; None for a space without a graph."""
        if not hasattr(self.space, "graph"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "architecture.png"
            cell_figure.draw(path, self.space.graph(self.text))
            return path.read_bytes()

    def __str__(self):
        return self.text

    def __repr__(self):
        return "\n".join([self.text, *(f"  {line}" for line in self._lines())])

    def _repr_html_(self) -> str:
        title = f"<code>{html.escape(self.text)}</code>"
        if not hasattr(self.space, "graph"):
            rows = "<br>".join(html.escape(line) for line in self._lines())
            return f"<div>{title}<br>{rows}</div>"
        image = base64.b64encode(self.png()).decode()
        alternative = html.escape("; ".join(self._lines()))
        source = f"data:image/png;base64,{image}"
        return f'<div>{title}<br><img width="600" alt="{alternative}" src="{source}"></div>'

    def _lines(self) -> Iterator[str]:
        """Yield what each part of the network chooses."""
        if not hasattr(self.space, "graph"):
            choices = jax.tree.leaves(self.space.choices)
            tree = jax.tree.structure(self.space.choices)
            for choice, chosen in zip(choices, tree.flatten_up_to(self.space.indices(self.text))):
                names = self.space.option_names(choice)
                yield f"{choice.name}: {' + '.join(names[j] for j in chosen)}"
            return
        graph = self.space.graph(self.text)
        names = [*graph["inputs"], *(f"block {i}" for i in range(len(graph["blocks"])))]
        for number, block in enumerate(graph["blocks"]):
            inputs = " + ".join(names[j] for j in block["inputs"])
            yield f"block {number}: {' + '.join(block['ops'])} of {inputs}"
