"""Operations of convolutions and products of matrices, by XLA's text of them (`hlo`)."""

import functools
import math
import re

from nas_jax.aot.hlo import Computation, Instruction


def of(computation: Computation, one: Instruction) -> int:
    """Count an instruction's operations: 2 for each multiplication whose result is added.

    Those with padding are left out. A call of a library (cuDNN, cuBLAS) counts as what it computes.
    An instruction that is no product has 0.
    """
    if one.opcode not in ("convolution", "dot", "custom-call"):
        return 0
    if "dim_labels=" in one.attributes:
        return _of_convolution(computation, one)
    return _of_product(computation, one)


def _of_product(computation, one):
    contracted = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)', one.attributes)
    if not contracted:  # another library's
        return 0
    left = computation.instructions[one.operands[0]].arrays[0].shape
    depth = math.prod(left[int(d)] for d in re.findall(r"\d+", contracted[1]))
    return 2 * math.prod(one.arrays[0].shape) * depth


def _of_convolution(computation, one):
    """Count a convolution, forward or one of its gradients by cuDNN, whose window is forward's."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    first, second = (computation.instructions[n].arrays[0].shape for n in one.operands[:2])
    image, kernel, out = first, second, one.arrays[0].shape
    if "convBackwardInput" in one.attributes:
        image, kernel, out = out, second, first
    elif "convBackwardFilter" in one.attributes:
        image, kernel, out = first, out, second
    spatial = [c for c in labels[3] if c.isdecimal()]
    window = _window(one.attributes, len(spatial))
    pairs = math.prod(
        _valid_pairs(
            image[labels[1].index(c)], out[labels[3].index(c)], *(w[int(c)] for w in window)
        )
        for c in spatial
    )
    batch, features = out[labels[3].index("b")], out[labels[3].index("f")]
    return 2 * pairs * batch * features * kernel[labels[2].index("i")]


def _window(attributes, rank):
    """Read "window={size=3x3 pad=1_1x1_1 ..}": taps, stride, padding before, the two dilations."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(part.split("=") for part in found[1].split()) if found else {}

    def read(name, default="1"):
        values = fields[name].split("x") if name in fields else [default] * rank
        return [int(value.split("_")[0]) for value in values]

    return [read("size"), read("stride"), read("pad", "0"), read("lhs_dilate"), read("rhs_dilate")]


@functools.lru_cache(4096)
def _valid_pairs(size, out, taps, stride, before, dilation, spread):
    """Count pairs of an output and a tap of the window that meet a value of the image."""
    reach = (size - 1) * dilation + 1
    places = (o * stride + tap * spread - before for o in range(out) for tap in range(taps))
    return sum(0 <= place < reach and place % dilation == 0 for place in places)
