"""The PyTorch baseline is the same network; skipped where PyTorch is not installed."""

import argparse

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.workload import Workload, torch_supernet  # noqa: E402


def test_torch_baseline_has_the_same_parameters_and_logits():
    """Against PyTorch in float64, whose own float32 is less exact than ours."""
    args = argparse.Namespace(cells=3, filters=4, image_size=16, threads=1)
    workload = Workload(args)
    images, space = workload.images(4), workload.space
    archs = space.sample(jax.random.key(1), (3,))
    params = torch_supernet.to_torch(workload.variables["params"])
    sizes = sum(leaf.size for leaf in jax.tree.leaves(workload.variables["params"]))
    assert sum(tensor.numel() for tensor in params.values()) == sizes
    net = torch_supernet.Supernet(space, {name: t.double() for name, t in params.items()})
    apply = jax.jit(workload.net("masked").apply)
    for i, indices in enumerate(workload.indices(archs)):
        ours = apply(workload.variables, images, jax.tree.map(lambda m, i=i: m[i], archs))
        theirs = net(torch_supernet.to_images(images).double(), indices).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
