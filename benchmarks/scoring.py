"""Architectures scored per second: logits of random candidates on the same images."""

import contextlib
from typing import Any

import jax
import numpy as np

from benchmarks import harness
from benchmarks.baselines import naive_jax
from benchmarks.workload import Workload, torch, torch_supernet
from nas_jax.oneshot import schedule
from nas_jax.runtime import distributed, rng


def scorer(workload: Workload, execution: str, images: np.ndarray, archs: Any, naive=False):
    """A function that gives the logits [N, n, K] of all candidates, over all devices.

    Its `compiled` is the program.
    """
    devices, archs = jax.device_count(), jax.device_get(archs)
    order, net = schedule.plan(workload.net(execution), archs, devices)  # as a sweep has it
    replaced = naive_jax.kernels_replaced if naive else contextlib.nullcontext
    pmapped = distributed.pmap(
        lambda variables, images, archs: net.logits_of_each(variables, images, archs),
        split={"archs"},
        split_out=True,
    )
    given = distributed.replicate((workload.variables, images))
    archs = distributed.shard(jax.tree.map(lambda mask: mask[order], archs), devices)
    with replaced():  # matters where it is traced
        compiled = pmapped.lower(*given, archs).compile()

    def run():
        out = compiled(*given, archs)
        return np.asarray(out).reshape(-1, *out.shape[2:])[np.argsort(order)]

    run.compiled = compiled
    return run


def torch_scorer(workload: Workload, images: np.ndarray, archs: Any):
    """The same by PyTorch, one candidate after the other, only the chosen ops; None without it."""
    net = workload.torch_net()
    if net is None:
        return None
    batch = torch_supernet.to_images(images, workload.torch_device)
    indices = workload.indices(archs)

    def run():
        with torch.inference_mode():
            return torch.stack([net(batch, one).float() for one in indices]).cpu().numpy()

    return run


def functions(workload, images, archs, executions, naive=False):
    """All that is compared; checked to give the same logits.

    To 5e-4 only: with 512 images PyTorch's own float32 is 2e-4 from its float64 (ours 5e-6).
    """
    found = {name: scorer(workload, name, images, archs) for name in executions}
    if naive:
        found["naive"] = scorer(workload, "masked", images, archs, naive=True)
    baseline = torch_scorer(workload, images, archs)
    if baseline is not None:
        found["torch"] = baseline
    logits = {name: function() for name, function in found.items()}
    first = next(iter(logits.values()))
    for name, values in logits.items():
        scale = max(1.0, float(np.abs(first).max()))
        atol = workload.tolerance * scale
        np.testing.assert_allclose(values, first, rtol=0, atol=atol, err_msg=name)
    return found


_MOVED = {"identity": 0, "maxpool": 2, "avgpool": 2}  # arrays of an op; others are two units


def least_bytes(workload: Workload, archs: Any, count: int) -> int:
    """Bytes of all candidates on `count` images if every unit reads and writes an array once.

    A unit is a batch norm with its ReLU and convolution, a pooling, or a sum of two ops or more;
    only the chosen ops count. No form that keeps to units can move less.
    """
    args, space = workload.args, workload.space
    names, blocks = space.ops, len(space.choices)
    bytes_of = [  # an array [count, H, W, F] of each stage
        count * (args.image_size >> stage) ** 2 * (args.filters << stage)
        for stage in map(space.stage, range(args.cells))
    ]
    arrays = 0
    for indices in workload.indices(archs):
        arrays += 2 * (blocks + 1)  # two projections of what the cells before hand on
        for block in indices:
            ops = [names[j] for j in block["ops"]]
            arrays += len(block["inputs"]) + 1 + sum(_MOVED.get(op, 4) for op in ops)
            arrays += len(ops) + 1 if len(ops) > 1 else 0
    return arrays * sum(bytes_of) * np.dtype(jax.numpy.dtype(args.dtype)).itemsize


def _bytes_accessed(function):
    """Of all devices, by XLA's count, which takes a loop for one turn; None of other programs."""
    if not hasattr(function, "compiled"):
        return None
    costs = function.compiled.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs or {}
    return jax.device_count() * costs.get("bytes accessed", 0) or None


def run(args) -> None:
    """Measure at each number of images."""
    workload = Workload(args)
    archs = workload.space.sample(rng.key(1), (args.candidates,))
    for count in args.images:
        compared = functions(workload, workload.images(count), archs, args.executions, args.naive)
        harness.compare(
            args,
            f"scoring, {count} images, {args.threads} threads, {args.devices} devices",
            compared,
            work=args.candidates,
            unit="architectures",
            images=count,
            candidates=args.candidates,
            xla_bytes={name: _bytes_accessed(function) for name, function in compared.items()},
            least_bytes=least_bytes(workload, archs, count),
        )
