"""What a chain space gains where candidates share their beginnings: sorted, shuffled, and alone."""

import jax
import numpy as np

from benchmarks import harness
from nas_jax import spaces
from nas_jax.nn import masked
from nas_jax.runtime import distributed, rng


def run(args) -> None:
    """Random candidates of NAS-Bench-Macro's space, `switch`, at each number of images."""
    space = spaces.make("nasbench_macro")
    net = space.supernet(num_classes=10, filters=args.filters, execution="switch")
    generator = np.random.default_rng(0)
    every = np.concatenate(list(space.enumerate_decisions()))
    chosen = generator.choice(len(every), args.candidates, replace=False)
    orders = {"sorted": np.sort(chosen), "shuffled": chosen}
    layers = len(space.choices)
    computed = len({tuple(row[:n]) for row in every[chosen] for n in range(1, layers + 1)})
    for count in args.images:
        images = generator.normal(size=(count, args.image_size, args.image_size, 3))
        images = images.astype(np.float32)
        variables = masked.init(rng.key(0), net, images[:1], space.all_on())
        given = distributed.replicate((variables, images))
        functions = {
            name: _function(_shared, net, given, space.from_decisions(every[order]))
            for name, order in orders.items()
        }
        archs = space.from_decisions(every[orders["sorted"]])
        functions["alone"] = _function(_alone, net, given, archs)
        case = (
            f"prefixes, {count} images, {args.threads} threads, {args.devices} devices, "
            f"{computed} of {layers * args.candidates} layers"
        )
        unit, work = "architectures", args.candidates
        harness.compare(args, case, functions, work=work, unit=unit, baseline="alone")


def _shared(net, variables, images, archs):
    return net.logits_of_each(variables, images, archs)


def _alone(net, variables, images, archs):
    return jax.lax.map(lambda arch: net.apply(variables, images, arch), archs)


def _function(logits, net, given, archs):
    pmapped = distributed.pmap(
        lambda variables, images, archs: logits(net, variables, images, archs),
        split={"archs"},
        split_out=True,
    )
    archs = distributed.shard(archs, jax.device_count())
    return lambda: jax.block_until_ready(pmapped(*given, archs))
