"""Names of a network's arrays in its plain form, and in files: 'params/cell0/block1_sep3x3/..'."""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from nas_jax.nn import network
from nas_jax.spaces import Space
from nas_jax.spaces.base import Path

SEPARATOR = "/"
_AS_THEY_ARE = ("stem1", "stem2", network.CLASSIFIER)  # scopes of a single layer of Flax
_LEAVES = {  # an array of a network -> the layer and the array of Flax
    "kernel": ("conv", "kernel"),
    "depthwise": ("depthwise", "kernel"),
    "pointwise": ("pointwise", "kernel"),
    "offset": ("bias",),
}


def flat(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of variables by their paths, joined by '/', in the order of the names."""
    named = flax.traverse_util.flatten_dict(dict(variables), sep=SEPARATOR)
    return {name: np.asarray(named[name]) for name in sorted(named)}


def plain(space: Space, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a stand-alone network by the names that they have in its plain form.

    Options have their names in place of their numbers. Slices of a concat, of which each has its
    batch norm and its rows of the 1x1 convolution, become one array.

    Args:
      space: of this package.
      variables: params and batch_stats.
    """
    parts: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(variables)).items():
        collection, *scopes = path
        name, number = _renamed(space, tuple(scopes))
        whole = SEPARATOR.join((collection, *name))
        parts.setdefault(whole, {})[number] = np.asarray(leaf)
    return {name: _joined(parts[name]) for name in sorted(parts)}


def scope(space: Space, choice: str, option: int) -> str:
    """Return the name, in the plain form, of the layers of an option; `choice` is a name."""
    (found,) = (c for c in jax.tree.leaves(space.choices) if c.name == choice)
    label = space.option_names(found)[option].replace("#", "_")
    return f"{_short(choice).removesuffix('_ops')}_{label}"


def _short(choice):
    """Leave out the cell of the Choice of an untied cell, which is in its scope anyway."""
    cell, _, rest = choice.partition("_")
    return rest if cell.startswith("cell") and rest else choice


def _renamed(space, path: Path):
    """Return the path of an array in the plain form, and the number of the slice that it is."""
    owner, number = space.owner(path), 0
    if owner is not None:
        choice, option = owner
        at = path.index(choice)
        if choice.endswith("_inputs"):
            number, name, rest = option, _short(choice), path[at + 2 :]
        else:
            name, rest = scope(space, choice, option), path[at + 2 :]
            if rest[0] == "reduce":
                name = f"{name}_reduce"
            rest = rest[1:] if rest[0] in ("reduce", "op") else rest
        path = (*path[:at], name, *rest)
    if path[0] in _AS_THEY_ARE:
        return path, number
    return (*path[:-1], *_LEAVES.get(path[-1], path[-1:])), number


def _joined(slices):
    """Join slices along the channels that enter: the last axis but one of a kernel."""
    arrays = [slices[number] for number in sorted(slices)]
    return (
        arrays[0] if len(arrays) == 1 else np.concatenate(arrays, -2 if arrays[0].ndim > 1 else 0)
    )
