"""Paths of architectures, counted by hand."""

import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.spaces import nasbench_macro, paths


def test_paths_of_edges_are_counted():
    """Of NAS-Bench-201: through no edge, one, two and three; "none" breaks a path."""
    space = spaces.make("nasbench201", num_cells=1)
    archs = [
        "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)
        for ops in (
            ["none"] * 6,
            ["skip_connect"] * 6,
            ["nor_conv_3x3"] * 6,
            ["nor_conv_3x3", "none", "nor_conv_1x1", "none", "none", "nor_conv_3x3"],
            ["none", "none", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3"],
        )
    ]
    found = paths.of(space, space.from_strs(archs))
    assert found.count.tolist() == [0, 4, 4, 1, 1]  # 03, 013, 023, 0123
    assert found.shortest.tolist() == [np.inf, 0, 1, 3, 1]
    assert found.most["nor_conv_3x3"].tolist() == [0, 0, 3, 2, 0]
    assert found.total["nor_conv_3x3"].tolist() == [0, 0, 1 + 2 + 2 + 3, 2, 0]
    assert found.most["nor_conv_1x1"].tolist() == [0, 0, 0, 1, 0]  # the last is on no path
    assert found.total["avg_pool_3x3"].tolist() == [0, 0, 0, 0, 1]
    assert "skip_connect" not in found.most


def test_a_chain_has_one_path():
    space = spaces.make("nasbench_macro", stages=(1, 2))
    found = paths.of(space, space.from_strs(["000", "012", "222"]))
    assert found.count.tolist() == [1, 1, 1]
    assert found.shortest.tolist() == [0, 2, 3]
    assert found.total["mb6_k5"].tolist() == [0, 1, 3]


def test_inputs_of_a_cell_are_outputs_too():
    """Block 0 reads input 1 by a convolution, block 1 reads input 0 and block 0 by both ops."""
    given = {"num_cells": 2, "num_blocks": 2, "ops": ("identity", "sep3x3")}
    space = spaces.make("cell", **given)
    found = paths.of(space, space.from_strs(["1>sep3x3|0,2>identity,sep3x3"]))
    assert found.count[0] == 2 + 1 + 4  # both inputs; block 0; by each op from input 0, block 0
    assert found.shortest[0] == 0
    assert found.most["sep3x3"][0] == 2
    assert found.total["sep3x3"][0] == 1 + 1 + 1 + 2
    untied = spaces.make("cell", tied=False, **given)
    with pytest.raises(ValueError, match="has no one graph"):
        paths.of(untied, untied.sample(jax.random.key(0), (2,)))
    for of, why in ((space, "an input is part of the output"), (untied, "it has no one graph")):
        with pytest.raises(ValueError, match=f"'shortest_path' says nothing in CellSpace: {why}"):
            paths.check_shortest(of)
    paths.check_shortest(spaces.make("nasbench201"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, each: each._replace(writes="1"), "wirings go in a circle: 1"),
        (lambda name, each: each._replace(ops=(("layer9", 0),)), r"names the option .'layer9', 0"),
    ],
)
def test_wirings_that_are_no_graph_are_refused(change, message):
    """Of a space of a user's own."""

    class Own(nasbench_macro.NasBenchMacroSpace):
        def wirings(self):
            return {name: change(name, each) for name, each in super().wirings().items()}

        def outputs(self):
            return ("1",)

    space = Own((1, 2))
    with pytest.raises(ValueError, match=message):
        paths.of(space, space.sample(jax.random.key(0), (2,)))
