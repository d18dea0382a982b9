"""Architectures that training-free proxies measure a second: NAS-Bench-201, one cell a stage."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.workload import torch, torch_supernet
from nas_jax import spaces
from nas_jax.nn import masked
from nas_jax.proxies import PROXIES, Batches, of_each
from nas_jax.runtime import distributed, rng

NAMES = ("naswot", "synflow", "snip", "jacob_cov", "zico", "progressivity", "trainability")


def run(args) -> None:
    """Measure each proxy, and the same in PyTorch where it is there, at each number of images."""
    space = spaces.make("nasbench201", num_cells=1)
    archs = jax.device_get(space.sample(rng.key(1), (args.candidates,)))
    net = space.supernet(num_classes=10, filters=args.filters, execution=args.executions[0])
    for count in args.images:
        shape = count, args.image_size, args.image_size, 3
        images = np.array(jax.random.normal(rng.key(2), shape))
        labels = np.arange(count, dtype=np.int32) % 10
        variables = jax.device_get(masked.init(rng.key(0), net, images[:1], space.all_on()))
        for name in NAMES:
            ours, value = _ours(net, name, variables, images, labels, archs)
            functions = {args.executions[0]: ours}
            if torch is not None:
                functions |= _torch(space, name, variables, images, labels, archs)
            if "torch" in functions:
                np.testing.assert_allclose(value(ours()), functions["torch"](), rtol=1e-3)
            harness.compare(
                args,
                f"proxies, {name}, {count} images, {args.threads} threads, {args.devices} devices",
                functions,
                work=args.candidates,
                unit="architectures",
                images=count,
                candidates=args.candidates,
            )


def _ours(net, name, variables, images, labels, archs) -> tuple[Any, Any]:
    """Return a function that measures all architectures, and one that makes values of that."""
    proxy = PROXIES[name]
    batches = Batches(
        images.reshape(proxy.num_batches, -1, *images.shape[1:]),
        labels.reshape(proxy.num_batches, -1),
        rng.key(3),
    )
    compiled = distributed.pmap(of_each(net, proxy), split={"archs"}, split_out=True)
    given = distributed.replicate((variables, batches))
    archs = distributed.shard(archs, jax.device_count())

    def value(measured):
        return proxy.value(np.asarray(measured, np.float64).reshape(-1, *measured.shape[2:]))

    return lambda: jax.block_until_ready(compiled(*given, archs)), value


def _torch(space, name, variables, images, labels, archs):
    """Return {"torch": the values of all architectures}, {} of a proxy that is not there."""
    from benchmarks.baselines import torch_proxies

    if name not in torch_proxies.PROXIES:
        return {}
    params = variables["params"]
    if name == "synflow":
        params = jax.tree.map(jnp.abs, params)
    params = torch_supernet.to_torch(params, requires_grad=name != "naswot")
    network = torch_proxies.Network(space, params, norm=name != "synflow")
    given = torch_supernet.to_images(images), torch.from_numpy(labels).long()
    texts = space.to_strs(archs)
    edges = [[[on[0] for on in node] for node in space.parse(text)] for text in texts]
    proxy = torch_proxies.PROXIES[name]
    return {"torch": lambda: np.asarray([proxy(network, *given, arch) for arch in edges])}
