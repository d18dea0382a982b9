"""Temporary memory that XLA reserves: the training step, and scoring candidates at once."""

import jax
import numpy as np

from benchmarks import harness
from benchmarks.compile_time import started
from benchmarks.workload import Workload
from nas_jax.runtime import rng

_MIB = 2**20


def run(args) -> None:
    """Bytes by XLA's own count, beside the outputs of all choice blocks' ops."""
    workload = Workload(args)
    for execution in args.executions:
        step = started(args, workload, execution).lower().compile()
        _report(args, f"training step of {args.batch_size} images, {execution}", step)
    archs = workload.space.sample(rng.key(1), (args.candidates,))
    images = workload.images(args.images[0])
    for execution in args.executions:
        net = workload.net(execution)
        scored = jax.jit(lambda v, x, a, net=net: net.logits_of_each(v, x, a))
        compiled = scored.lower(workload.variables, images, archs).compile()
        name = f"scoring {args.candidates} candidates on {len(images)} images, {execution}"
        _report(args, name, compiled)
    print(f"outputs of all ops for those candidates: {_activations(args) / _MIB:.0f} MiB")


def _report(args, case, compiled):
    temporary = compiled.memory_analysis().temp_size_in_bytes
    print(f"{case}: {temporary / _MIB:.0f} MiB", flush=True)
    harness.record(args, case, temporary_bytes=temporary)


def _activations(args):
    """Bytes of one array per option of every block of every cell, for all candidates."""
    space = Workload(args).space
    options = sum(choice.num_options for choice in jax.tree.leaves(space.choices))
    sizes = [
        (args.image_size // 2 ** space.stage(cell)) ** 2 * args.filters * 2 ** space.stage(cell)
        for cell in range(args.cells)
    ]
    return 4 * options * int(np.sum(sizes)) * args.candidates * args.images[0]
