"""MorphNet's penalty against the values that its published code is tested with.

The networks, scales and numbers are those of google-research/morph-net, flop_regularizer_test.py:
images of 17x19 pixels and three channels, scales above 0.45 are alive. That code counts a
multiply-add as two operations. A batch norm scales what its convolution makes.
"""

import functools

import flax.traverse_util
import jax
import numpy as np
import pytest

from nas_jax.costs import widths
from nas_jax.spaces.base import Layer

THRESHOLD = 0.45
PIXELS = {"conv3": 9 * 10}  # of the output, with stride 2; else 17 * 19
# Two convolutions read the image, two read the concat of what they make.
CONCAT = (
    Layer(("conv1",), (), "conv1", ("conv1",)),
    Layer(("conv2",), (), "conv2", ("conv2",)),
    Layer(("conv3",), ("conv1", "conv2"), "conv3", ("conv3",)),
    Layer(("conv4",), ("conv1", "conv2"), "conv4", ("conv4",)),
)
# A depthwise convolution behind conv2, with a batch norm of its own, scales the same channels.
DEPTHWISE = (*CONCAT[:2], Layer(("dw2",), ("conv2",), "conv2", ("conv2",)), CONCAT[2])
KERNELS = {
    ("conv1", "kernel"): (7, 5, 3, 13),
    ("conv2", "kernel"): (1, 1, 3, 23),
    ("conv3", "kernel"): (3, 3, 36, 29),
    ("conv4", "kernel"): (1, 1, 36, 31),
    ("dw2", "depthwise"): (5, 5, 1, 23),
}
SCALES = {
    "conv1": [0.8] * 7 + [0.2] * 6,
    "conv2": [-0.7] * 11 + [0.1] * 12,
    "conv3": [0.6] * 10 + [-0.3] * 19,
    "conv4": [-0.5] * 17 + [-0.4] * 14,
    "dw2": [0.3] * 5 + [0.9] * 10 + [-0.1] * 8,
}
LARGEST = 0.7 * 5 + 0.9 * 10 + 0.1 * 8  # sum over channels, of the scales of conv2 and dw2


class _Network:
    """As much of a space as `Widths` asks: layers, and the multiply-adds of those in `counted`."""

    def __init__(self, layers, counted):
        self._layers, self._counted = layers, counted

    def layers(self, _):
        return self._layers

    def tensors(self, _):
        return [*dict.fromkeys(layer.output for layer in self._layers)]

    def multiply_adds(self, path, shape, _):
        name, last = path[0], path[-1]
        if name not in self._counted or last == "scale":
            return 0
        return PIXELS.get(name, 17 * 19) * int(np.prod(shape))


def _of(layers, *counted):
    """(operations of what is alive, penalty in operations) of some layers, or of all."""
    names = [layer.scope[0] for layer in layers]
    shapes = {path: shape for path, shape in KERNELS.items() if path[0] in names}
    shapes |= {(name, "norm", "scale"): (len(SCALES[name]),) for name in names}
    found = widths.Widths(_Network(layers, counted or names), "", shapes, image_size=(17, 19))
    params = flax.traverse_util.unflatten_dict(
        {(name, "norm", "scale"): np.asarray(SCALES[name], np.float32) for name in names}
    )
    penalty = jax.jit(functools.partial(found.penalty, threshold=THRESHOLD))(params)
    alive = [int(np.sum(each > THRESHOLD)) for each in found.strengths(params).values()]
    return 2 * found.cost(alive), 2 * float(penalty) * found.cost(found.full)


def test_the_sum_over_layers_is_the_published_one():
    assert _of(CONCAT)[1] == pytest.approx(1410376.375, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "coefficient", "alive", "sums"),
    [  # channels that are alive, and sums of absolute scales: (of the inputs, of the outputs)
        ("conv1", 2 * 17 * 19 * 7 * 5, (3, 7), (0, 6.8)),
        ("conv2", 2 * 17 * 19, (3, 11), (0, 8.9)),
        ("conv3", 2 * 9 * 10 * 3 * 3, (7 + 11, 10), (6.8 + 8.9, 11.7)),
        ("conv4", 2 * 17 * 19, (7 + 11, 17), (6.8 + 8.9, 14.1)),
    ],
)
def test_a_layer_adds_two_terms(name, coefficient, alive, sums):
    """Inputs that are alive times scales of the outputs, and the other way round."""
    cost, penalty = _of(CONCAT, name)
    assert cost == coefficient * alive[0] * alive[1]
    terms = alive[0] * sums[1] + sums[0] * alive[1]
    assert penalty == pytest.approx(coefficient * terms, rel=1e-6)


def test_of_several_scales_of_a_channel_the_largest_counts():
    """conv2 and dw2 scale the same 23 channels: a channel is alive if either scale is."""
    coefficient = 2 * 17 * 19
    cost, penalty = _of(DEPTHWISE, "conv2")
    assert cost == coefficient * 3 * 15
    assert penalty == pytest.approx(coefficient * 3 * LARGEST, rel=1e-6)
    cost, penalty = _of(DEPTHWISE, "conv3")
    assert cost == 2 * 9 * 10 * 3 * 3 * (7 + 15) * 10
    terms = (7 + 15) * 11.7 + (6.8 + LARGEST) * 10
    assert penalty == pytest.approx(2 * 9 * 10 * 3 * 3 * terms, rel=1e-6)


def test_a_depthwise_kernel_is_counted_once():
    """The published code counts the scales of its inputs and of its outputs, which are the same."""
    coefficient = 2 * 17 * 19 * 5 * 5
    cost, penalty = _of(DEPTHWISE, "dw2")
    assert cost == coefficient * 15
    published = 2 * coefficient * LARGEST
    assert penalty == pytest.approx(published / 2, rel=1e-6)
