"""A reader of XLA's text of a compiled program (HLO): computations, instructions, shapes.

It reads what `jax.stages.Compiled.as_text` gives, of any backend, as far as `counts` needs it.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

HBM = 0  # the memory space of the device's large memory, whose name the text leaves out

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
_COMMENT = re.compile(r"/\*.*?\*/")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """The shape of an array, and where it lies.

    Attributes:
      dtype: XLA's name, such as "bf16".
      shape: its dimensions.
      bytes: what it takes in memory, with the padding of its tiles.
      space: the memory space, 0 (`HBM`) for the device's large memory.
    """

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    space: int


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
      name: unique in its computation.
      opcode: such as "fusion".
      arrays: the arrays of its result, a tuple flattened.
      operands: names of instructions of the same computation.
      attributes: the text behind the operands.
      text: between the parentheses of the operands: the number of a parameter.
      is_root: whether it is the result of the computation.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    text: str
    is_root: bool

    def called(self, key: str) -> tuple[str, ...]:
        """Return the names of the computations of an attribute, such as "calls"."""
        found = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes)
        return tuple(re.findall(r"[\w.\-]+", found[1])) if found else ()


@dataclasses.dataclass(frozen=True)
class Computation:
    """A computation: its instructions by name, in order."""

    name: str
    instructions: dict[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """Return the instruction that is the result."""
        return next(one for one in self.instructions.values() if one.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Return the parameters by their number."""
        ones = (one for one in self.instructions.values() if one.opcode == "parameter")
        return {int(one.text): one for one in ones}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Return the instructions that take each one as an operand."""
        users = {name: [] for name in self.instructions}
        for one in self.instructions.values():
            for operand in dict.fromkeys(one.operands):
                users[operand].append(one)
        return users


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: its computations by name, and the name of the first."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Read a program from the text of it.

    Raises: ValueError if there is no entry computation in the text.
    """
    computations, entry, lines, name = {}, None, {}, None
    for line in _COMMENT.sub("", text).splitlines():
        line = line.strip()
        if header := _HEADER.match(line):
            name, lines = header[2], {}
            entry = name if header[1] else entry
        elif line == "}" and name:
            computations[name], name = Computation(name, lines), None
        elif name and (found := _INSTRUCTION.match(line)):
            lines[found[2]] = _instruction(found[2], found[3], bool(found[1]))
    if entry is None:
        raise ValueError("no HLO text: it has no ENTRY computation")
    return Module(computations, entry)


def _instruction(name, text, is_root):
    """Read what stands behind "=": shape, opcode, operands, attributes."""
    opcode = _OPCODE.search(text, 0 if text.startswith("(") else text.index(" "))
    begin = opcode.end()
    end = _closing(text, begin)
    between = text[begin:end]
    return Instruction(
        name,
        opcode[1],
        tuple(_arrays(text[: opcode.start()])),
        tuple(_NAME.findall(between)),
        text[end + 1 :],
        between,
        is_root,
    )


def _closing(text, begin):
    """Find the parenthesis that closes the one before `begin`."""
    depth = 1
    for found in re.finditer(r"[()]", text[begin:]):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return begin + found.start()
    raise ValueError(f"no HLO text: {text[:80]!r} has no closing parenthesis")


def _arrays(text: str) -> Iterator[Array]:
    for dtype, dimensions, order, layout in _ARRAY.findall(text):
        shape = tuple(int(size.lstrip("<=")) for size in dimensions.split(",") if size)
        space = re.search(r"S\((\d+)\)", layout)
        bits = _BITS.get(dtype) if dtype in _BITS else int(re.search(r"\d+", dtype)[0])
        elements = math.prod(_padded(shape, order, layout))
        yield Array(dtype, shape, (elements * bits + 7) // 8, int(space[1]) if space else HBM)


def _padded(shape, order, layout):
    """Return the dimensions, the innermost first, rounded up to whole tiles.

    The layout {0,2,1:T(8,128)} has dimension 0 innermost, in tiles of 128, then dimension 2, of 8.
    """
    sizes = [shape[int(d)] for d in order.split(",")] if order else [*reversed(shape)]
    tile = re.search(r"T\(([\d,]+)\)", layout)
    if tile:
        for place, size in enumerate(reversed(tile[1].split(","))):
            if place < len(sizes):
                sizes[place] = math.ceil(sizes[place] / int(size)) * int(size)
    return sizes
