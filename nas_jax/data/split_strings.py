"""Splits by the split strings of tensorflow-datasets (TFDS), such as "train[:90%]"."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def resolve(specs: Mapping[str, str], infos: Mapping[str, Any]) -> tuple[tuple, list]:
    """Return the sizes of train, valid and test, and their pieces [(split of `infos`, range)].

    Args:
      specs: {"train", "valid", "test": split string}.
      infos: {stored split: its SplitInfo}.

    Raises: ValueError that names the field, if a string is wrong or two overlap.
    """
    from tensorflow_datasets.core import ReadInstruction

    parts = {}
    for field, spec in specs.items():
        try:
            pieces = ReadInstruction.from_spec(spec).to_absolute(infos)
        except (ValueError, NotImplementedError) as error:  # the latter for slices of "all"
            allowed = f"slices such as [:90%] or [1000:] of {', '.join(infos)}"
            raise ValueError(
                f"data.{field}={spec!r}: {reason_of(error)}; allowed: {allowed}"
            ) from error
        counts = [infos[p.splitname].num_examples for p in pieces]
        parts[field] = [(p.splitname, range(n)[p.from_ : p.to]) for p, n in zip(pieces, counts)]
        if not any(rows for _, rows in parts[field]):
            raise ValueError(f"data.{field}={spec!r} has no images")
    _check_apart(specs, parts)
    sizes = tuple(sum(len(rows) for _, rows in pieces) for pieces in parts.values())
    return sizes, list(itertools.chain(*parts.values()))


def _check_apart(specs, parts):
    for a, b in itertools.combinations(parts, 2):
        for (split, rows), (other, others) in itertools.product(parts[a], parts[b]):
            if split == other and max(rows.start, others.start) < min(rows.stop, others.stop):
                raise ValueError(f"data.{a}={specs[a]!r} and data.{b}={specs[b]!r} overlap")


def check_classes(
    specs: Mapping[str, str], sizes: Sequence[int], labels: np.ndarray, names: Sequence[str]
) -> None:
    """Check the classes of splits. Raises: ValueError if valid or test has one that train lacks."""
    train, *others = np.split(labels, np.cumsum(sizes)[:-1])
    for field, other in zip(("valid", "test"), others):
        unseen = np.setdiff1d(other, train)
        if unseen.size:
            shown = ", ".join(repr(names[label]) for label in unseen[:5])
            raise ValueError(
                f"data.{field}={specs[field]!r} has classes that data.train={specs['train']!r} "
                f"lacks: {shown}{', ...' if unseen.size > 5 else ''}; choose slices that have them "
                "all (of a set that is stored sorted by class: a sum of several, or prepare it in "
                "a random order)"
            )


def reason_of(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().split("\n")[0].rstrip(".")
