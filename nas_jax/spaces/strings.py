"""Canonical strings of architectures that follow from Choices alone: the default of a space.

Choices are joined by '|' in their order, the options that are on by ',': 'conv,skip|conv'.
"""

from collections.abc import Sequence
from typing import Any

import jax

from nas_jax.spaces import choices as choices_lib

RESERVED = ",|@"  # '@' parts a string from the widths of its network


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Give a number to names that come again: ('conv', 'conv') -> ('conv', 'conv#2')."""
    seen = [list(names[:j]).count(name) for j, name in enumerate(names)]
    return tuple(f"{name}#{n + 1}" if n else name for name, n in zip(names, seen))


def write(choices: Any, names: Any, arch: choices_lib.Arch) -> str:
    """Write the string of one architecture, masks [num_options].

    Args:
      choices: the space's tree of Choices.
      names: function from a Choice to the names of its options.
      arch: masks.

    Raises: ValueError if the masks have a batch axis.
    """
    indices = choices_lib.to_indices(choices, arch)
    chosen = jax.tree.structure(choices).flatten_up_to(indices)
    parts = zip(map(names, jax.tree.leaves(choices)), chosen)
    return "|".join(",".join(distinct(own)[j] for j in on) for own, on in parts)


def read(choices: Any, names: Any, text: str) -> Any:
    """Read which options a string names: the tree of Choices with a tuple at each leaf.

    Arguments and order are those of `write`.

    Raises: ValueError if an option does not exist, or if the number of Choices differs.
    """
    leaves, treedef = jax.tree.flatten(choices)
    parts = text.split("|")
    if len(parts) != len(leaves):
        raise ValueError(
            f"architecture {text!r} has {len(parts)} Choices, parted by '|'; the space has "
            f"{len(leaves)}"
        )
    return treedef.unflatten(
        [
            _options(choice, distinct(names(choice)), part, text)
            for choice, part in zip(leaves, parts)
        ]
    )


def _options(choice, existing, part, text):
    given = part.split(",") if part else []
    for name in given:
        if name not in existing:
            raise ValueError(
                f"architecture {text!r}, {choice.name}: {name!r} is none of its options "
                f"({', '.join(existing)})"
            )
    return tuple(map(existing.index, given))
