"""The plain form of a stand-alone network: the file model.py, which needs Flax and safetensors."""

import importlib.abc
import importlib.util
import inspect
import pprint
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nas_jax.exports import plain_layers, plain_networks, renaming
from nas_jax.nn.network import Network

_ORDER = [  # of the source; a function stands before what names it
    value
    for value in vars(plain_layers).values()
    if getattr(value, "__module__", "") == plain_layers.__name__
]


class Inputs(NamedTuple):
    """What a network's images are, and what its classes are called.

    Attributes:
      image_shape: (H, W, C), pixels.
      mean, std: per channel, of pixels scaled to [0, 1].
      class_names: one for each label.
    """

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]


class Plain(NamedTuple):
    """A network in plain Flax.

    Attributes:
      source: of model.py.
      arrays: its variables by their paths, joined by '/'.
    """

    source: str
    arrays: dict[str, np.ndarray]


def of(net: Network, variables: Mapping[str, Any], inputs: Inputs, about: str) -> Plain:
    """Write a stand-alone network in plain Flax.

    Args:
      net: the network.
      variables: its params and batch_stats.
      inputs: its images and classes.
      about: lines on the network, for the docstring.

    Raises: NoPlainForm that says why it has none, if its space or an op is not of this
      package.
    """
    write = plain_networks.writer(net)
    arrays = renaming.plain(net.space, variables)
    shapes = {name: array.shape for name, array in arrays.items()}
    text, needs = write(net, inputs.image_shape, shapes)
    parts = [_HEAD.format(about=about, constants=_constants(inputs), **_words(inputs))]
    parts += [_source(value, net.relu_before_bn) for value in _ORDER if value in needs]
    return Plain("\n\n\n".join([*parts, text, _TAIL.format(**_words(inputs))]), arrays)


def _source(value, relu_before):
    if value is plain_layers.norm_relu and relu_before:
        return inspect.getsource(plain_layers.relu_norm).replace("relu_norm", "norm_relu").strip()
    return inspect.getsource(value).strip()


class _Loader(importlib.abc.InspectLoader):
    """Loads a module of its source; nothing is cached beside a file."""

    def __init__(self, source):
        self._source = source

    def get_source(self, fullname):
        return self._source


def module_of(source: str) -> types.ModuleType:
    """Run the source of a model.py that this process wrote; no other can import the module."""
    spec = importlib.util.spec_from_loader("model", _Loader(source))
    module = importlib.util.module_from_spec(spec)
    module.__file__ = "model.py"
    spec.loader.exec_module(module)
    return module


def _words(inputs):
    height, width, channels = inputs.image_shape
    return {"shape": f"{height}, {width}, {channels}", "classes": len(inputs.class_names)}


def _constants(inputs):
    named = {
        "IMAGE_SHAPE": tuple(inputs.image_shape),
        "CLASS_NAMES": tuple(inputs.class_names),
        "MEAN": tuple(inputs.mean),
        "STD": tuple(inputs.std),
    }
    return "\n".join(
        f"{name} = {pprint.pformat(value, width=84, compact=True)}" for name, value in named.items()
    )


_HEAD = '''"""{about}

It needs jax, flax and safetensors alone, and params.safetensors beside it.

    from model import load, predict

    classes, probabilities = predict(images)    # images uint8 [B, {shape}]
    module, variables = load()
    logits = module.apply(variables, images)    # float32 [B, {classes}]

To train it further: module.apply(variables, images, train=True, mutable=["batch_stats"]).
"""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
from safetensors.numpy import load_file

{constants}  # of pixels scaled to [0, 1]
PARAMS = Path(__file__).with_name("params.safetensors")


def standardise(images: jax.Array) -> jax.Array:
    """Scale pixels uint8 [B, {shape}] to mean 0 and standard deviation 1, float32."""
    if images.dtype != jnp.uint8 or images.shape[1:] != IMAGE_SHAPE:
        given = f"{{images.dtype}} {{list(images.shape)}}"
        raise ValueError(f"images is {{given}}; it must be pixels 0 to 255, uint8 [B, {shape}]")
    return (images.astype(jnp.float32) / 255 - jnp.asarray(MEAN)) / jnp.asarray(STD)'''

_TAIL = '''@functools.cache
def load(path: Path | str = PARAMS) -> tuple[Network, dict]:
    """Return (module, variables) of a params.safetensors."""
    return Network(), flax.traverse_util.unflatten_dict(load_file(path), sep="/")


@jax.jit
def _probabilities(variables, images):
    return jax.nn.softmax(Network().apply(variables, images))


def predict(images: jax.Array, path: Path | str = PARAMS) -> tuple[list[str], jax.Array]:
    """Return the likeliest class of each image, and the probabilities of all.

    `images` is uint8 [B, {shape}], the probabilities float32 [B, {classes}]. Raises: ValueError if
    they are floats, or of another size.
    """
    probabilities = _probabilities(load(path)[1], jnp.asarray(images))
    return [CLASS_NAMES[i] for i in probabilities.argmax(-1)], probabilities
'''
