"""Counts what a compiled program moves and computes, from its text (`hlo`).

One counter serves all compilers, so that programs can be compared. Its rules:

- A fusion reads its operands and writes its results, once each; of an operand that it only slices
  it reads the slices. Nothing inside a fusion moves.
- What lies in a fast memory of the chip (a TPU's VMEM) moves nothing. Padding of tiles does move.
- The body of a loop counts times its trips, which the text says, or else the caller. The branches
  of a conditional count by their shares, which the caller may give (`Taken`).
- Operations are those of convolutions and products of matrices: 2 for a multiplication and an
  addition, of which those with padding are left out. The rest is taken to hide behind the memory.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from nas_jax.aot import hlo, operations

_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("opt-barrier", "partition-id", "replica-id", "domain", "add-dependency"),
    "get-dimension-size",
}
_INSIDE = {"while", "conditional", "call", "async-start"}  # count what they call
_SLICES = {"slice", "dynamic-slice", "gather"}
_VIEWS = {"bitcast", "reshape", "get-tuple-element", "copy", "transpose"}  # inside a fusion
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a program does on each device.

    Attributes:
      bytes: read from and written to the device's large memory.
      flops: of convolutions and products of matrices.
      cycles: the compiler's own estimate of the fusions' cycles, where it writes one (TPUs); else
        0.
      collectives: {kind: (how many, bytes that a device gives)}.
      unknown_loops: loops whose trips nobody says; their bodies count once.
    """

    bytes: float = 0
    flops: float = 0
    cycles: float = 0
    collectives: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    unknown_loops: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Add what another part does."""
        both = dict(self.collectives)
        for kind, pair in other.collectives.items():
            both[kind] = tuple(map(sum, zip(both.get(kind, (0, 0)), pair)))
        return Counts(
            self.bytes + other.bytes,
            self.flops + other.flops,
            self.cycles + other.cycles,
            both,
            self.unknown_loops + other.unknown_loops,
        )

    def times(self, factor: float) -> "Counts":
        """Count a part `factor` times."""
        return Counts(
            self.bytes * factor,
            self.flops * factor,
            self.cycles * factor,
            {kind: (n * factor, size * factor) for kind, (n, size) in self.collectives.items()},
            self.unknown_loops,
        )


@dataclasses.dataclass(frozen=True)
class Taken:
    """How often the parts of a program run that depend on its input.

    Attributes:
      shares: {number of branches: how often each is taken, in their order}; of conditionals with
        another number of branches the largest counts, by its bytes and operations.
      trips: {number of branches: mean trips} of loops whose body chooses among so many.
    """

    shares: Mapping[int, Sequence[float]] = dataclasses.field(default_factory=dict)
    trips: Mapping[int, float] = dataclasses.field(default_factory=dict)


def of_text(text: str, taken: Taken = Taken()) -> Counts:
    """Count a program from the text of what was compiled.

    Raises: ValueError if it is no text of a program.
    """
    module = hlo.parse(text)
    return _Counter(module, taken).computation(module.entry)


class _Counter:
    """Counts the computations of a module, each once."""

    def __init__(self, module, taken):
        self._module, self._taken = module, taken

    @functools.cache  # noqa: B019 - a counter lives as long as one count
    def computation(self, name: str) -> Counts:
        """Count a computation, and all that it calls."""
        computation = self._module.computations[name]
        parts = (self._one(computation, one) for one in computation.instructions.values())
        return sum(parts, Counts())

    def _one(self, computation, one):
        opcode = one.opcode
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            return Counts()
        if opcode in _INSIDE:
            return self._called(one)
        kind = opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return self._collective(computation, one, kind)
        moved = self._moved(computation, one)
        return Counts(moved, self._flops(computation, one), _cycles(one))

    def _collective(self, computation, one, kind):
        given, made = self._operands(computation, one), one.arrays
        if len(made) > len(given):  # what starts one hands its operands on, too
            made = made[len(given) :]
        size = sum(a.bytes for a in given)  # wherever they lie
        return Counts(_in_hbm((*given, *made)), collectives={kind: (1, size)})

    def _called(self, one):
        if one.opcode == "while":
            body = self._sum(one.called("body") + one.called("condition"))
            trips = self._trips(one)
            if trips is None:
                return body + Counts(unknown_loops=1)
            return body.times(trips)
        if one.opcode != "conditional":
            return self._sum(one.called("calls") or one.called("to_apply"))
        branches = list(map(self.computation, _branches(one)))
        shares = self._taken.shares.get(len(branches))
        if shares is None:
            return max(branches, key=lambda branch: (branch.bytes, branch.flops))
        return sum((part.times(share) for part, share in zip(branches, shares)), Counts())

    def _sum(self, names):
        return sum(map(self.computation, names), Counts())

    def _trips(self, one):
        """Return the trips of a loop, by its text or by `Taken`; None if nobody says."""
        body = self._module.computations[one.called("body")[0]].instructions.values()
        for inside in body:
            if inside.opcode == "conditional" and len(_branches(inside)) in self._taken.trips:
                return self._taken.trips[len(_branches(inside))]
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', one.attributes):
            return int(known[1])
        condition = self._module.computations[one.called("condition")[0]]
        root = condition.root
        if root.opcode != "compare" or "direction=LT" not in root.attributes:
            return None
        limits = [condition.instructions[name] for name in root.operands]
        numbers = [int(x.text) for x in limits if x.opcode == "constant" and x.text.isdecimal()]
        return numbers[0] if len(numbers) == 1 else None

    # -- bytes ------------------------------------------------------------------------------------

    def _operands(self, computation, one):
        """Return the arrays that an instruction takes, each once."""
        return [a for n in dict.fromkeys(one.operands) for a in computation.instructions[n].arrays]

    def _moved(self, computation, one):
        written = _in_hbm(one.arrays)
        if one.opcode == "copy-start":  # results: the copy, the source, a context
            return _in_hbm(one.arrays[:2])
        if one.opcode == "fusion":
            return self._moved_by_fusion(computation, one)
        if one.opcode in _SLICES:
            return written + sum(a.bytes for a in one.arrays)
        if one.opcode in ("dynamic-update-slice", "scatter"):
            update = computation.instructions[one.operands[1 if one.opcode[0] == "d" else -1]]
            return 2 * sum(a.bytes for a in update.arrays)
        if one.opcode == "custom-call":  # its workspace is no traffic that one knows of
            written = _in_hbm(one.arrays[:1])
        return written + _in_hbm(self._operands(computation, one))

    def _moved_by_fusion(self, computation, one):
        (name,) = one.called("calls")
        inside = self._module.computations[name]
        moved = 0
        for number, operand in enumerate(one.operands):
            if operand in one.operands[:number]:
                continue
            arrays = computation.instructions[operand].arrays
            if arrays and arrays[0].space == hlo.HBM and number in inside.parameters:
                moved += _read(inside, inside.parameters[number], arrays[0].bytes)
        return moved + sum(
            _written(inside, result, array)
            for result, array in zip(_results(inside), one.arrays)
            if array.space == hlo.HBM
        )

    def _flops(self, computation, one):
        if one.opcode != "fusion":
            return operations.of(computation, one)
        inside = self._module.computations[one.called("calls")[0]]
        return sum(self._flops(inside, each) for each in inside.instructions.values())


def _in_hbm(arrays):
    """Return the bytes of those arrays that lie in the device's large memory."""
    return sum(a.bytes for a in arrays if a.space == hlo.HBM)


def _branches(one):
    """Return the names of a conditional's branches, in the order of their numbers."""
    pair = one.called("false_computation") + one.called("true_computation")
    return pair or one.called("branch_computations")


def _results(inside):
    """Return the instructions that give a fusion's results."""
    root = inside.root
    return [inside.instructions[n] for n in root.operands] if root.opcode == "tuple" else [root]


def _read(inside, parameter, whole):
    """Return the bytes that a fusion reads of a parameter: slices, if it takes nothing else."""
    total, waiting = 0, [parameter]
    while waiting:
        source = waiting.pop()
        for user in inside.users[source.name]:
            if user.opcode in _SLICES and user.operands[0] == source.name:
                total += sum(a.bytes for a in user.arrays)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == source.name:
                continue  # the rest of it stays in its place
            elif user.opcode in _VIEWS and not user.is_root:
                waiting.append(user)
            else:
                return whole
    return min(total, whole)


def _written(inside, result, array):
    """Return the bytes that a fusion writes: of an array that it updates in place, the update."""
    while result.opcode in ("bitcast", "copy") and result.operands:
        result = inside.instructions[result.operands[0]]
    if result.opcode == "dynamic-update-slice":
        update = inside.instructions[result.operands[1]]
        return sum(a.bytes for a in update.arrays)
    return array.bytes


def _cycles(one):
    found = re.search(r'"estimated_cycles":"(\d+)"', one.attributes)
    return int(found[1]) if found else 0
