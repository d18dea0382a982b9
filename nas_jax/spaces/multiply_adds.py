"""Multiply-adds of a traced program, by the parameters that its products and convolutions use.

A product or convolution has one operand that depends on parameters and not on the images: its
kernel. Its multiply-adds are divided among the parameters of the kernel, by their sizes. Those of a
product without a kernel (of two activations, or with a constant) belong to the scope that computes
it.

A product of what does not depend on the images (parameters, and arrays that an op makes) could be
computed once for all of them, and does not count.

Of a choice of kernels by device the default counts, of another conditional the most expensive
branch. The body of a scan counts as often as it runs.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

IMAGES = -1  # the source of what depends on the images; parameters are numbered from 0
_Sources = frozenset[int]
_NONE: _Sources = frozenset()
_PROGRAMS = (Jaxpr, ClosedJaxpr)
_PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclasses.dataclass
class Tally:
    """Multiply-adds: by the number of a parameter, and by scope where there is no kernel."""

    sizes: Sequence[int]  # of the parameters; 0 for those that are no kernels
    of_params: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    of_scopes: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def total(self) -> float:
        """Add up all."""
        return self.of_params.total() + self.of_scopes.total()

    def add(self, flops: int, operands: Sequence[_Sources], scope: tuple[str, ...]) -> None:
        """Add those of a product, if one of its operands depends on the images."""
        if not any(IMAGES in sources for sources in operands):
            return
        kernels = [sources for sources in operands if sources and IMAGES not in sources]
        numbers = [number for sources in kernels for number in sources]
        whole = sum(self.sizes[number] for number in numbers)
        if not whole:
            self.of_scopes[scope] += flops
        for number in numbers if whole else ():
            self.of_params[number] += flops * self.sizes[number] / whole

    def merge(self, other: "Tally") -> None:
        """Add all of another tally."""
        self.of_params.update(other.of_params)
        self.of_scopes.update(other.of_scopes)


def count(jaxpr: Jaxpr, named: Mapping[Any, int], sizes: Sequence[int]) -> Tally:
    """Count the multiply-adds of a program whose arguments are the images.

    Args:
      jaxpr: the program.
      named: {variable of the program: number of the parameter that it is}.
      sizes: of the parameters; 0 for one that is no kernel.

    Raises: ValueError for a product in a loop whose number of turns is not known.
    """
    tally = Tally(sizes)
    images = [frozenset({IMAGES})] * len(jaxpr.invars)
    _walk(jaxpr, images, tally, 1, (), {v: frozenset({n}) for v, n in named.items()})
    return tally


def _walk(jaxpr, given, tally, times, scope, named=None):
    """Count a program's products `times` times; return the sources of its outputs."""
    named = named or {}
    known = {**dict(zip(jaxpr.invars, given)), **named}

    def sources(var):
        return _NONE if isinstance(var, Literal) else known.get(var, _NONE)

    for eqn in jaxpr.eqns:
        outs = _equation(eqn, list(map(sources, eqn.invars)), tally, times, scope)
        known.update((v, named.get(v, out)) for v, out in zip(eqn.outvars, outs))
    return list(map(sources, jaxpr.outvars))


def _equation(eqn, ins, tally, times, scope):
    name, params = eqn.primitive.name, eqn.params
    if name not in _PRODUCTS and not any(map(_has_program, params.values())):
        return [frozenset().union(*ins)] * len(eqn.outvars)
    scope = (*scope, *filter(None, str(eqn.source_info.name_stack).split("/")))
    if name in _PRODUCTS:
        tally.add(times * _flops(eqn), ins[:2], scope)
    elif name == "cond":
        return _conditional(params, ins[1:], tally, times, scope)
    elif name == "scan":
        return _scan(eqn, ins, tally, times, scope)
    elif inner := [p for p in params.values() if isinstance(p, _PROGRAMS)]:
        program = getattr(inner[0], "jaxpr", inner[0])
        if len(inner) == 1 and len(program.invars) == len(ins):
            return _walk(program, ins, tally, times, scope)
        _refuse_products(inner, name, scope)
    return [frozenset().union(*ins)] * len(eqn.outvars)


def _has_program(param):
    return isinstance(param[0] if isinstance(param, tuple) and param else param, _PROGRAMS)


def _flops(eqn):
    out = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return out * math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    kernel = eqn.invars[1].aval.shape
    return out * math.prod(kernel) // kernel[eqn.params["dimension_numbers"].rhs_spec[0]]


def _conditional(params, ins, tally, times, scope):
    """Take the default of a choice by platform; else the branch with the most multiply-adds."""
    branches, platforms = params["branches"], params.get("branches_platforms")
    if platforms is not None and None in platforms:
        branches = [branches[platforms.index(None)]]
    tallies = [Tally(tally.sizes) for _ in branches]
    outs = [_walk(b.jaxpr, ins, t, times, scope) for b, t in zip(branches, tallies)]
    tally.merge(max(tallies, key=Tally.total))
    return [frozenset().union(*each) for each in zip(*outs)]


def _scan(eqn, ins, tally, times, scope):
    program = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
    # Constants, carry, then what is sliced, which has an axis more outside. JAX names their numbers
    # in a way of its own in each version.
    last = len(ins) - _sliced(eqn.invars, program.invars)
    first = last - (len(eqn.outvars) - _sliced(eqn.outvars, program.outvars))
    while True:  # until what a turn passes on has all its sources
        outs = _walk(program, ins, Tally(tally.sizes), 1, scope)
        carry = [a | b for a, b in zip(ins[first:last], outs)]
        if carry == ins[first:last]:
            break
        ins = [*ins[:first], *carry, *ins[last:]]
    return _walk(program, ins, tally, times * eqn.params["length"], scope)


def _sliced(outside, inside):
    return sum(a.aval.ndim > b.aval.ndim for a, b in zip(outside, inside, strict=True))


def _refuse_products(inner, name, scope):
    for program in inner:
        tally = Tally(())
        program = getattr(program, "jaxpr", program)
        _walk(program, [frozenset({IMAGES})] * len(program.invars), tally, 1, scope)
        if tally.total():
            raise ValueError(
                f"{'/'.join(scope)}: a {name!r} computes products, and how often it runs is not "
                "known, so its multiply-adds cannot be counted; use jax.lax.scan"
            )
