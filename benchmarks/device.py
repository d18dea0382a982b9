"""What the device itself reaches: bytes a second of a copy, operations a second of a product."""

import jax
import jax.numpy as jnp

from benchmarks import harness
from nas_jax.runtime import rng

_SIZES = {"cpu": (2**26, 1024)}  # bytes that are copied, rows of a square matrix
_LARGE = 2**31, 8192  # elsewhere: long beside a launch
_IN_A_ROW = 10  # calls of a repeat, so that launches hide behind the work


def run(args) -> None:
    """A copy reads and writes each byte; a product of n x n matrices takes 2 n^3 operations."""
    count, rows = _SIZES.get(jax.default_backend(), _LARGE)
    dtype = jnp.dtype(args.dtype)
    matrix = jax.random.normal(rng.key(0), (rows, rows), dtype)
    array = jnp.zeros(count // dtype.itemsize, dtype)
    # Negation, since XLA would hand back the input of a program that only copies.
    copy = {"copy": _repeated(jnp.negative, array)}
    product = {"product": _repeated(jnp.matmul, matrix, matrix)}
    case, work = f"copy of {count} bytes, {args.dtype}", 2 * count * _IN_A_ROW
    harness.compare(args, case, copy, work=work, unit="bytes")
    case, work = f"product of {rows}x{rows} matrices, {args.dtype}", 2 * rows**3 * _IN_A_ROW
    harness.compare(args, case, product, work=work, unit="operations")


def _repeated(function, *given):
    compiled = jax.jit(function)

    def run():
        for _ in range(_IN_A_ROW):
            out = compiled(*given)
        out.block_until_ready()

    return run
