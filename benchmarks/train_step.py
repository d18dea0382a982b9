"""A training step: all paths on in one group, and ghost batches that drop paths along the ramp."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks.workload import Workload, torch
from nas_jax import parallel, path_dropout, train_step

_L2, _RATE, _MOMENTUM = 1e-4, 0.1, 0.9


def jax_step(workload: Workload, execution: str, images, labels, masks: Any, naive=False):
    """A function that takes one step on all devices and returns the loss."""
    devices = jax.device_count()
    num_groups = jax.tree.leaves(masks)[0].shape[0] // devices
    tx = optax.sgd(_RATE, _MOMENTUM, nesterov=True)
    step = train_step.make(
        workload.net(execution),
        tx,
        num_groups=num_groups,
        groups_at_once=1 if execution == "switch" else num_groups,
        prepare=lambda keys, images: images,
        sample_masks=lambda key, step, groups: jax.tree.map(
            lambda m: jnp.asarray(m)[groups], masks
        ),
        usage=workload.space.usage,
        l2=_L2,
        l2_norm_params=False,
        label_smoothing=0.0,
    )
    pmapped = parallel.pmap(step, split=(False, True, False), split_out=False, donate=(0,))
    state = train_step.create(jax.tree.map(jnp.array, workload.variables), tx)
    state, root = parallel.replicate((state, jax.random.key(0)))
    batch = parallel.shard({"image": images, "label": labels}, devices)

    def run():
        nonlocal state
        replaced = contextlib.nullcontext()
        if naive:
            from benchmarks.baselines import naive_jax

            replaced = naive_jax.kernels_replaced()
        with replaced:
            state, metrics = pmapped(state, batch, root)
        return float(metrics["loss"])

    run.lower = lambda: pmapped.lower(state, batch, root)
    return run


def torch_step(workload: Workload, images, labels, masks: Any, compiled=False):
    """The same step by PyTorch, one ghost batch after the other; None without it."""
    net = workload.torch_net(requires_grad=True)
    if net is None:
        return None
    from benchmarks.baselines import torch_supernet

    indices = workload.indices(masks)
    batch, targets = torch_supernet.to_images(images), torch.from_numpy(labels).long()
    pieces = list(zip(batch.chunk(len(indices)), targets.chunk(len(indices)), indices))
    optimiser = torch.optim.SGD(net.params.values(), _RATE, _MOMENTUM, nesterov=True)
    shares = _kernel_shares(workload, masks)

    def loss_of(images, targets, one):
        return torch.nn.functional.cross_entropy(net(images, one), targets) / len(pieces)

    if compiled:
        loss_of = torch.compile(loss_of)

    def run():
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for piece in pieces:
            loss = loss_of(*piece)
            loss.backward()
            total += loss.item()
        for name, share in shares.items():
            parameter = net.params[name]
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=2 * _L2 * share)
        optimiser.step()
        return total

    return run


def _kernel_shares(workload, masks):
    """Per kernel, the share of ghost batches that use it: for L2 on active paths."""
    import flax.traverse_util

    params = workload.variables["params"]
    shares = flax.traverse_util.flatten_dict(workload.space.usage(params, masks), sep="/")
    kernels = flax.traverse_util.flatten_dict(params, sep="/")
    return {name: float(shares[name]) for name, leaf in kernels.items() if leaf.ndim > 1}


def _functions(args, workload, batch_size, masks, all_on):
    images = workload.images(batch_size)
    labels = np.random.default_rng(1).integers(0, 10, batch_size).astype(np.int32)
    names = dict.fromkeys([*args.executions, "masked"] if all_on else args.executions)
    found = {name: jax_step(workload, name, images, labels, masks) for name in names}
    if args.naive:
        found["naive"] = jax_step(workload, "masked", images, labels, masks, naive=True)
    kinds = {"torch": False} | ({"torch_compile": True} if all_on and args.torch_compile else {})
    for name, compiled in kinds.items():
        step = torch_step(workload, images, labels, masks, compiled)
        if step is not None:
            found[name] = step
    losses = {name: step() for name, step in found.items()}  # of the same initial weights
    np.testing.assert_allclose(list(losses.values()), next(iter(losses.values())), rtol=1e-4)
    return found


def run(args) -> None:
    """All paths on: one group of 64 images. Dropped: ghost batches, at places of the ramp."""
    workload = Workload(args)
    threads = f"{args.threads} threads, {args.devices} devices"
    on = jax.tree.map(lambda mask: jnp.stack([mask] * args.devices), workload.space.all_on())
    size = 64 * args.devices
    found = _functions(args, workload, size, on, True)
    harness.compare(args, f"all paths on, groups of 64, {threads}", found, work=size, unit="images")
    rates = []
    for share in args.ramp:
        groups = jnp.arange(args.batch_size // args.ghost_batch_size)
        masks = path_dropout.sample(
            jax.random.key(2), workload.space.choices, groups, r=0.1, share=share
        )
        found = _functions(args, workload, args.batch_size, masks, False)
        case = f"r=0.1 at {share:g} of the ramp, {threads}"
        rates.append(harness.compare(args, case, found, work=args.batch_size, unit="images"))
    _average(args, rates, threads)


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
