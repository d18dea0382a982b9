"""The baselines are the same network; PyTorch's is skipped where it is not installed."""

import argparse

import jax
import numpy as np
import pytest

from benchmarks import proxies, reading, train_step
from benchmarks.baselines import naive_jax
from benchmarks.workload import Workload, torch_supernet
from nas_jax import spaces
from nas_jax.nn import masked
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import rng

pytestmark = pytest.mark.system


def _workload(**sizes):
    settings = {"filters": 4, "threads": 1, "dtype": "float32", "remat": "none"}
    return Workload(argparse.Namespace(**settings, **sizes))


def test_torch_baseline_has_the_same_parameters_and_logits():
    """Against PyTorch in float64, whose own float32 is less exact than ours."""
    pytest.importorskip("torch")
    workload = _workload(cells=3, blocks=4, image_size=16)
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


def test_torch_baselines_of_proxies_have_the_same_values():
    """Of eight random networks, by kept codes of ReLUs and by autograd."""
    pytest.importorskip("torch")
    from benchmarks.baselines import torch_proxies

    space = spaces.make("nasbench201", num_cells=1, num_stages=2)
    net = space.supernet(num_classes=10, filters=4)
    images, labels = np.array(jax.random.normal(rng.key(2), (8, 8, 8, 3))), np.arange(8)
    archs = jax.device_get(space.sample(rng.key(1), (8,)))
    variables = jax.device_get(masked.init(rng.key(0), net, images[:1], space.all_on()))
    given = variables, images, labels.astype(np.int32), archs
    for name in torch_proxies.PROXIES:
        ours, value = proxies._ours(net, name, *given)
        theirs = proxies._torch(space, name, *given)["torch"]()
        np.testing.assert_allclose(value(ours()), theirs, rtol=1e-4, err_msg=name)


def test_naive_baseline_has_the_same_logits_and_none_of_our_kernels():
    """Also where ours was traced before: what is traced once must not be used again."""
    workload = _workload(cells=1, blocks=2, image_size=8)
    given = workload.variables, workload.images(4), workload.space.all_on()
    net = workload.net("masked")
    ours = jax.jit(lambda *given: net.apply(*given)).lower(*given)
    with naive_jax.kernels_replaced():
        naive = jax.jit(lambda *given: net.apply(*given)).lower(*given)
    again = jax.jit(lambda *given: net.apply(*given)).lower(*given)
    grouped = ["feature_group_count = 4" in form.as_text() for form in (ours, naive, again)]
    assert grouped == [False, True, False]
    logits = [form.compile()(*given) for form in (ours, naive)]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)


def test_the_training_step_that_is_timed_is_the_same_in_every_form():
    """Eight ghost batches, of which each drops paths of its own."""
    workload = _workload(cells=1, blocks=2, image_size=8)
    images, labels = workload.images(16), np.arange(16, dtype=np.int32) % 10
    masks = path_dropout.sample(
        jax.random.key(2), workload.space.choices, np.arange(8), r=0.1, share=1.0
    )
    losses = [
        train_step.jax_step(workload, form, images, labels, 8)(masks)()
        for form in ("masked", "switch")
    ]
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_what_a_reader_walks_through_is_counted():
    """Nine calls: two climbs; one return, since a function is read once."""
    search = reading.Call("candidates/sweep.py", "search", 1, True, ())
    named = [("runtime/rng.py", "key"), ("spaces/base.py", "all_on"), ("runtime/rng.py", "key")]
    called = [reading.Call(file, name, 2, False, (search,)) for file, name in named]
    unseen = reading.Call("nn/layers.py", "helper", 5, False, (search, called[0]))
    inside = reading.Call("spaces/base.py", "<lambda>", 3, False, (search,))
    rows = reading.Call("candidates/evaluators.py", "rows", 4, True, (search,))
    later = reading.Call("report/page.py", "report", 1, True, ())
    key = reading.Call("runtime/rng.py", "stream", 9, False, (search,))
    found = reading.after_the_run([search, *called, unseen, inside, key, rows, later])
    assert found.pop("walk")[1:] == [
        *("runtime/rng.py", "spaces/base.py", "runtime/rng.py", "candidates/evaluators.py")
    ]
    assert found == {"files": 4, "climbs": 2, "returns": 1}


def test_calls_are_those_of_the_package_while_nothing_is_imported():
    calls = reading.calls_of(lambda: path_dropout.rates((), 0.1))
    assert [call[:2] for call in calls] == [("oneshot/path_dropout.py", "rates")]
    assert not calls[0].takes_run
    assert calls[0].callers == ()


def test_the_way_to_the_first_mask_is_the_call_stack_in_the_step():
    """The same function outside a step, when the network is initialised, is not the end."""
    other = reading.Call("data/loading.py", "load", 3, False, ())
    at_first = reading.Call("nn/execution.py", "weighted_sum", 4, False, ())
    step = reading.Call("training/train_step.py", "TrainStep.__call__", 1, False, ())
    drawn = reading.Call("oneshot/path_dropout.py", "sample", 2, False, (step,))
    summed = at_first._replace(callers=(step,))
    found = reading.to_the_first_mask(
        [other, at_first, step, drawn, summed, drawn._replace(line=7)]
    )
    way = ["training/train_step.py", "nn/execution.py"]
    assert found == {"functions": 4, "files": 4, "files of the step": 3, "way": way}
