"""What the options of Choices read and write: a supernet as a graph of named tensors.

Cells of one architecture have the same graph, so a tensor has one name in all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nas_jax.spaces.choices import Choice

Option = tuple[str, int]  # name of a Choice, number of an option


class Wiring(NamedTuple):
    """What an option reads and writes.

    Attributes:
      reads: (tensor, option): the tensor is read if that option is on. It may be the option itself.
      writes: the tensor that it writes.
      ops: options that are computed from what is read, if they are on; of an op itself.
      joined: whether all options of its Choice that are on are one convolution, of a concat.
    """

    reads: tuple[tuple[str, Option], ...]
    writes: str
    ops: tuple[Option, ...]
    joined: bool = False


def options(choice: Choice) -> list[Option]:
    """List the options of a Choice."""
    return [(choice.name, number) for number in range(choice.num_options)]


def checked(
    wirings: dict[Option, Wiring], choices: Sequence[Choice], name: str
) -> dict[Option, Wiring]:
    """Return the wirings of a space, which a user's may have of its own.

    Args:
      wirings: by option.
      choices: of the space.
      name: of the space's class, for an error.

    Raises: ValueError if they lack an option, or name one that is none.
    """
    there = {option for choice in choices for option in options(choice)}
    named = {option for each in wirings.values() for _, option in each.reads}
    named |= {option for each in wirings.values() for option in each.ops}
    for which, wrong in (("lacks", there - set(wirings)), ("names", named - there)):
        if wrong:
            raise ValueError(
                f"config.space: {name}.wirings() {which} the option {min(wrong)!r} (a Choice's "
                "name and a number); it must have all options of the Choices, and no others"
            )
    return wirings


def of_chain(choices: Sequence[Choice]) -> dict[Option, Wiring]:
    """Return the wiring of Choices of ops, each of which reads what the one before writes."""
    return {
        option: Wiring(((str(number), option),), str(number + 1), (option,))
        for number, choice in enumerate(choices)
        for option in options(choice)
    }


def of_blocks(blocks: Sequence[dict[str, Choice]]) -> dict[Option, Wiring]:
    """Return the wiring of a cell's blocks {"inputs", "ops"}; block i writes tensor 2 + i."""
    wirings: dict[Option, Wiring] = {}
    for number, block in enumerate(blocks):
        inputs, ops = options(block["inputs"]), options(block["ops"])
        reads = tuple((str(tensor), option) for tensor, option in enumerate(inputs))
        output = str(2 + number)
        for one in reads:
            wirings[one[1]] = Wiring((one,), output, tuple(ops), joined=True)
        wirings |= {op: Wiring(reads, output, (op,)) for op in ops}
    return wirings


def of_edges(nodes: Sequence[Sequence[Choice]]) -> dict[Option, Wiring]:
    """Return the wiring of edges; `nodes` has, for node 1, 2, .., the edges from nodes 0, 1, .."""
    wirings = {}
    for target, edges in enumerate(nodes, 1):
        for source, choice in enumerate(edges):
            for option in options(choice):
                wirings[option] = Wiring(((str(source), option),), str(target), (option,))
    return wirings
