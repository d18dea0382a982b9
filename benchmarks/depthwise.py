"""Depthwise convolutions for a TPU that is not there: a convolution a channel, blocks of columns.

What is compared is the cycles that the TPU's compiler expects; nothing was run.
"""

import importlib
import sys
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import harness
from nas_jax.aot import counts, targets

_SHAPES = (32, 16), (16, 32), (8, 64)  # pixels and channels of the paper's stages, F = 16
_SIZES = 3, 5, 7


def run(args: Any) -> None:
    """Compile both forms, value and gradients, for each size and stage of the paper's supernet."""
    target = targets.of(args.target)
    if not target.clock:
        sys.exit(f"benchmarks: error: --target={args.target}: its compiler expects no cycles")
    forms = _forms()
    with targets.compiling():
        place = jax.sharding.SingleDeviceSharding(targets.devices(args.target)[0])
        for pixels, channels in _SHAPES:
            for size in _SIZES:
                shapes = (args.batch_size, pixels, pixels, channels), (size, size, 1, channels)
                case = f"{size}x{size}, {args.batch_size:,} images {pixels} x {pixels} x {channels}"
                milliseconds = {}
                for name, pair in forms.items():
                    found = _counted(*pair, shapes, place)
                    milliseconds[name] = [1000 * one.cycles / target.clock for one in found]
                _report(args, target, case, milliseconds)


def _forms():
    """Return {name: (value, gradients)}: XLA's own form, and that of TPUs."""
    found = importlib.import_module("nas_jax.nn.kernels.depthwise")

    def gradients(x, kernel, g):
        return jax.vjp(found._depthwise_lax, x, kernel)[1](g)

    return {
        "per_channel": (found._depthwise_lax, gradients),
        "columns": (found._depthwise_columns, found._depthwise_grads_tpu),
    }


def _counted(value, gradients, shapes, place):
    """Count what the value takes, and what both gradients take."""
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in shapes)
    programs = jax.jit(value).lower(x, kernel), jax.jit(gradients).lower(x, kernel, x)
    return [counts.of_text(program.compile().as_text()) for program in programs]


def _report(args, target, case, milliseconds):
    lines = [
        f"{name} {value:.2f} and {grad:.2f} ms" for name, (value, grad) in milliseconds.items()
    ]
    value, gradients = (a / b for a, b in zip(*milliseconds.values()))
    print(f"{case}: {', '.join(lines)}: {value:.1f}x and {gradients:.1f}x fewer cycles", flush=True)
    harness.record(args, case, device=f"{target.kind}, compiled only", milliseconds=milliseconds)
