"""Paths of architectures: from the input of a cell, or of a chain, to its output.

They are read off masks and the wiring of a space; no network runs. A cell whose input reaches its
output by a short path trains well where many cells follow each other, as a residual network does
(Veit et al., NeurIPS 2016).

Letters: N architectures.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax.spaces import wiring
from nas_jax.spaces.base import Space

IDENTITIES = ("identity", "skip_connect")  # names of ops that a path passes unchanged


class Paths(NamedTuple):
    """The paths of N architectures; float64 [N] each.

    Attributes:
      count: how many there are.
      shortest: the least number of ops on one, identities apart; inf where there is no path.
      most: the largest number of an op on one, by its name; 0 where there is no path.
      total: its number on all paths together.
    """

    count: np.ndarray
    shortest: np.ndarray
    most: dict[str, np.ndarray]
    total: dict[str, np.ndarray]


def of(space: Space, archs: Any) -> Paths:
    """Follow the paths of architectures, masks [N, k].

    Raises: ValueError if the space has no common graph (`Space.outputs`).
    """
    outputs = space.outputs()
    if not outputs:
        raise ValueError(
            f"{type(space).__name__} has no one graph (Space.outputs), so it has no paths; untied "
            "cells have one each"
        )
    edges, names = _edges(space, archs)
    written = {target for *_, target, _ in edges}
    size = len(jax.tree.leaves(archs)[0])
    found = {name: _start(size, names) for name in _inputs(edges) | set(outputs) - written}
    for tensor in _in_order(edges, written):
        into = [
            _extended(found[source], name, is_on)
            for is_on, source, target, name in edges
            if target == tensor
        ]
        found[tensor] = _joined(into)
    return _joined([found[name] for name in outputs])


def check_shortest(space: Space) -> None:
    """Check that shortest paths can differ.

    Raises: ValueError as `of`, or if an input is an output, so that the shortest path is none.
    """
    edges, _ = _edges(space, jax.tree.map(lambda mask: mask[None], space.all_on()))
    outputs = space.outputs()
    if not outputs or _inputs(edges) & {*outputs}:
        why = "an input is part of the output" if outputs else "it has no one graph"
        raise ValueError(
            f"'shortest_path' says nothing in {type(space).__name__}: {why} (Space.outputs)"
        )


def _edges(space, archs):
    """List (is on, bool [N]; tensor read; tensor written; op's name), and the names of ops."""
    choices, masks = jax.tree.leaves(space.choices), jax.tree.leaves(jax.device_get(archs))
    is_on = {
        (choice.name, number): mask[:, number] != 0
        for choice, mask in zip(choices, masks, strict=True)
        for number in range(choice.num_options)
    }
    labels = {choice.name: space.option_names(choice) for choice in choices}
    empty = {(choice.name, number) for choice in choices for number in choice.empty}
    edges = [
        (is_on[option] & is_on[read], source, each.writes, labels[option[0]][option[1]])
        for option, each in wiring.checked(space.wirings(), choices, type(space).__name__).items()
        if each.ops == (option,) and option not in empty
        for source, read in each.reads
    ]
    return edges, sorted({name for *_, name in edges} - {*IDENTITIES})


def _inputs(edges):
    return {source for _, source, _, _ in edges} - {target for _, _, target, _ in edges}


def _in_order(edges, written):
    """Yield the tensors that are written, each after those that it is computed from."""
    left = set(written)
    while left:
        waiting = {target for _, source, target, _ in edges if source in left and target in left}
        if waiting == left:
            raise ValueError(f"config.space: its wirings go in a circle: {', '.join(sorted(left))}")
        yield from sorted(left - waiting)
        left = waiting


def _start(size, names):
    ones, zeros = np.ones(size), np.zeros(size)
    return Paths(ones, zeros, dict.fromkeys(names, zeros), dict.fromkeys(names, zeros))


def _extended(paths, name, is_on):
    """Go on by an op, where it is on; elsewhere there is no path."""
    step, exists = name not in IDENTITIES, is_on & (paths.count > 0)
    most, total = dict(paths.most), dict(paths.total)
    if step:
        most[name], total[name] = most[name] + 1, total[name] + paths.count
    return Paths(
        np.where(exists, paths.count, 0),
        np.where(exists, paths.shortest + step, np.inf),
        {key: np.where(exists, value, 0) for key, value in most.items()},
        {key: np.where(exists, value, 0) for key, value in total.items()},
    )


def _joined(every):
    """Take the paths of several together."""

    def by_name(how, which):
        return {key: how([getattr(each, which)[key] for each in every]) for key in every[0].most}

    def total(values):
        return np.sum(values, 0)

    def largest(values):
        return np.max(values, 0)

    return Paths(
        total([each.count for each in every]),
        np.min([each.shortest for each in every], 0),
        by_name(largest, "most"),
        by_name(total, "total"),
    )
