"""What a program takes on a target, by its compiler's word: memory, traffic, operations."""

import dataclasses
import re
import time

import jax

from nas_jax.aot import counts
from nas_jax.aot.counts import Counts
from nas_jax.aot.programs import Program
from nas_jax.aot.targets import Target

_NEEDS = re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What one execution of a program takes on each device.

    Attributes:
      needs: bytes of memory: arguments, results, temporaries, code, and what lies beside them.
      limit: bytes that a program can have.
      temporaries: bytes of them.
      code: bytes of them; 0 where the compiler does not say.
      counts: traffic and operations; None where the program does not fit.
      seconds: of compilation.
    """

    needs: float
    limit: float
    temporaries: float
    code: float
    counts: Counts | None
    seconds: float

    @property
    def fits(self) -> bool:
        """Say whether the program fits the device."""
        return self.counts is not None and self.needs <= self.limit


def of(program: Program, target: Target) -> Footprint:
    """Compile a program for a target, and read what it takes.

    Raises: jax.errors.JaxRuntimeError if the compiler fails for another reason than memory.
    """
    began = time.perf_counter()
    try:
        compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needs, limit = _said(str(error), target)
        return Footprint(needs, limit, needs, 0, None, time.perf_counter() - began)
    seconds, memory = time.perf_counter() - began, compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    needs = memory.argument_size_in_bytes + max(results, 0) + memory.temp_size_in_bytes
    return Footprint(
        needs + memory.generated_code_size_in_bytes + program.resident,
        target.memory,
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
        counts.of_text(compiled.as_text(), program.taken),
        seconds,
    )


def _said(text, target):
    """Read the bytes needed and there, of "(20.1G) exceeds available HBM (15.75G)"."""
    found = _NEEDS.search(text)
    if not found:
        return float("inf"), target.memory
    used, used_unit, there, there_unit = found.groups()
    return float(used) * _UNITS[used_unit], float(there) * _UNITS[there_unit]


def roofline(counted: Counts, target: Target) -> tuple[float, str]:
    """Estimate the seconds of an execution: the longer of traffic and operations, at their peaks.

    Returns: the seconds, and what they are spent on, "memory" or "products".
    """
    memory, products = counted.bytes / target.bandwidth, counted.flops / target.flops
    return max((memory, "memory"), (products, "products"))
