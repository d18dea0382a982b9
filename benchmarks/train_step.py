"""A training step: all paths on in one group, and ghost batches that drop paths along the ramp."""

import contextlib
import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.baselines import naive_jax
from benchmarks.workload import Workload, torch, torch_supernet
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import distributed, rng
from nas_jax.training import train_step
from nas_jax.training.hyperparameters import HyperParameters

_L2, _RATE, _MOMENTUM = 1e-4, 0.1, 0.9
_HYPER = HyperParameters(*map(np.float32, (_RATE, _MOMENTUM, 0, _L2, 0, 0, 0)))


def jax_step(workload: Workload, execution: str, images, labels, num_groups: int, naive=False):
    """Compiled once; called with masks it gives a function that takes steps on all devices."""
    devices = jax.device_count()
    replaced = naive_jax.kernels_replaced if naive else contextlib.nullcontext

    def step(state, batch, root, masks, hyper):
        step = train_step.TrainStep(
            workload.net(execution),
            num_groups=num_groups // devices,
            groups_at_once=1 if execution == "switch" else num_groups // devices,
            prepare=lambda keys, images: images,
            sampler=lambda key, step, groups, *_: jax.tree.map(lambda m: m[groups], masks),
            space=workload.space,
            remat=workload.args.remat,
        )
        return step(state, batch, root, hyper)

    pmapped = distributed.pmap(step, split={"batch"}, split_out=False, donate={"state"})
    batch = distributed.shard({"image": images, "label": labels}, devices)

    def start(masks):
        state = train_step.create(jax.tree.map(jnp.array, workload.variables))
        state, root, masks = distributed.replicate((state, rng.key(0), masks))

        def run():
            nonlocal state
            with replaced():  # matters where it is traced, in the first call
                state, metrics = pmapped(state, batch, root, masks, _HYPER)
            return float(metrics["loss"])

        run.lower = lambda: pmapped.lower(state, batch, root, masks, _HYPER)
        return run

    return start


def torch_step(workload: Workload, images, labels, masks: Any, compiled=False):
    """The same step by PyTorch, one ghost batch after the other; None without it."""
    net = workload.torch_net(requires_grad=True)
    if net is None:
        return None
    indices = workload.indices(masks)
    device = workload.torch_device
    batch = torch_supernet.to_images(images, device)
    targets = torch.from_numpy(labels).long().to(device)
    pieces = list(zip(batch.chunk(len(indices)), targets.chunk(len(indices)), indices))
    optimiser = torch.optim.SGD(net.params.values(), _RATE, _MOMENTUM, nesterov=True)
    shares = _kernel_shares(workload, masks)

    def loss_of(images, targets, one):
        return torch.nn.functional.cross_entropy(net(images, one), targets) / len(pieces)

    if compiled:
        loss_of = torch.compile(loss_of, fullgraph=True)

    def run():
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for piece in pieces:
            loss = loss_of(*piece)
            loss.backward()
            total += loss.detach()
        for name, share in shares.items():
            parameter = net.params[name]
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=2 * _L2 * share)
        optimiser.step()
        return float(total)  # waits for a GPU

    return run


def _kernel_shares(workload, masks):
    """Per kernel, the share of ghost batches that use it: for L2 on active paths."""
    params = workload.variables["params"]
    shares = flax.traverse_util.flatten_dict(workload.space.usage(params, masks), sep="/")
    kernels = flax.traverse_util.flatten_dict(params, sep="/")
    return {name: float(shares[name]) for name, leaf in kernels.items() if leaf.ndim > 1}


def _starters(args, workload, batch_size, num_groups, all_on):
    """Per name, from masks to a function that takes a step from the same initial weights."""
    images = workload.images(batch_size)
    labels = np.random.default_rng(1).integers(0, 10, batch_size).astype(np.int32)
    names = dict.fromkeys([*args.executions, "masked"] if all_on else args.executions)
    found = {name: jax_step(workload, name, images, labels, num_groups) for name in names}
    if args.naive:
        found["naive"] = jax_step(workload, "masked", images, labels, num_groups, naive=True)
    if torch is not None:
        found["torch"] = functools.partial(torch_step, workload, images, labels)
        if all_on and args.torch_compile:
            found["torch_compile"] = functools.partial(found["torch"], compiled=True)
    return found


def _compare(args, workload, case, starters, masks, batch_size):
    functions = {name: start(masks) for name, start in starters.items()}
    losses = {name: function() for name, function in functions.items()}
    rtol = workload.tolerance / 5
    np.testing.assert_allclose(list(losses.values()), next(iter(losses.values())), rtol=rtol)
    return harness.compare(args, case, functions, work=batch_size, unit="images")


def run(args) -> None:
    """All paths on: one group a device. Dropped: ghost batches, at places of the ramp."""
    workload = Workload(args)
    threads = f"{args.threads} threads, {args.devices} devices"
    if args.all_on:
        _all_on(args, workload, threads)
    num_groups = args.batch_size // args.ghost_batch_size
    starters = _starters(args, workload, args.batch_size, num_groups, False)
    rates = []
    for share in args.ramp:
        masks = path_dropout.sample(
            rng.key(2), workload.space.choices, jnp.arange(num_groups), r=0.1, share=share
        )
        case = f"r=0.1 at {share:g} of the ramp, {threads}"
        rates.append(_compare(args, workload, case, starters, masks, args.batch_size))
    _average(args, rates, threads)


def _all_on(args, workload, threads):
    on = jax.tree.map(lambda mask: jnp.stack([mask] * args.devices), workload.space.all_on())
    size = args.all_on * args.devices
    starters = _starters(args, workload, size, args.devices, True)
    case = f"all paths on, groups of {args.all_on}, {threads}"
    _compare(args, workload, case, starters, on, size)


def _average(args, rates, threads):
    """Images per second over the whole ramp: the mean of the times."""
    if not rates:
        return
    mean = {name: len(rates) / sum(1 / rate[name] for rate in rates) for name in rates[0]}
    base = mean.get("torch")
    parts = [
        f"{name} {rate:.3g} images/s" + (f" ({rate / base:.2f}x)" if base else "")
        for name, rate in mean.items()
    ]
    print(f"average over the ramp, {threads}: " + ", ".join(parts), flush=True)
    harness.record(args, f"average over the ramp, {threads}", rates=mean, unit="images")
