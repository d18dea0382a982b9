"""Shapes and multiply-adds of the parameters of a space's networks, as tracing finds them."""

import contextlib
import functools
import math
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from nas_jax.nn import init, layers, network
from nas_jax.runtime import rng
from nas_jax.spaces import multiply_adds
from nas_jax.spaces.image_size import ImageSize, height_and_width

Path = tuple[str, ...]  # the scopes of a parameter, then its name
REFERENCE = {"filters": 16, "num_classes": 10, "channels": 3}
EXAMPLE_SIZE = 32  # pixels: the side of images for a trace whose result does not depend on it


class Traced(NamedTuple):
    """The network of `all_on`, or another.

    Attributes:
      shapes: {path: shape} of its parameters.
      flops: {path: multiply-adds on one image}; only kernels are named.
      others: {scope: multiply-adds of products without a kernel}.
    """

    shapes: dict[Path, tuple[int, ...]]
    flops: dict[Path, int]
    others: dict[Path, int]


def traced(
    space: Any, image_size: ImageSize, *, filters: int, num_classes: int, channels: int
) -> Traced:
    """Trace the network of all options, which has the parameters of the supernet.

    Raises: ValueError if the network does not take images of that size, or if its multiply-adds
      cannot be counted.
    """
    space.check_image_size(image_size)
    image_shape = (*height_and_width(image_size), channels)
    return _traced(space, image_shape, filters, num_classes)


@functools.lru_cache(256)
def _traced(space, image_shape, filters, num_classes):
    net = space.standalone(space.all_on(), num_classes=num_classes, filters=filters)
    return of_net(net, image_shape)


@functools.lru_cache(256)
def check_traceable(space: Any, image_size: tuple[int, int]) -> None:
    """Check that the network of all options takes images [height, width].

    Raises: ValueError if tracing it fails.
    """
    options = {"num_classes": REFERENCE["num_classes"], "filters": REFERENCE["filters"]}
    net = space.standalone(space.all_on(), **options)
    params_shape(net, (*image_size, REFERENCE["channels"]))


def of_net(net: network.Network, image_shape: tuple[int, ...]) -> Traced:
    """Trace a stand-alone network, for one image [H, W, C].

    Raises: ValueError as of `traced`.
    """
    net = net.clone(kernel_init=layers.he_scale)  # to trace, it is the simplest

    def initialised(images):
        logits, variables = net.init_with_output(rng.key(0), images)
        return variables["params"], logits

    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    with _refusing(net, image_shape):
        jaxpr, (params, _) = jax.make_jaxpr(initialised, return_shape=True)(images)
    shapes = shapes_by_path(params)
    paths = [
        tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    # The program's first outputs are the parameters, the variables that its products use.
    named = {var: n for n, var in zip(range(len(paths)), jaxpr.jaxpr.outvars) if _is_variable(var)}
    sizes = [math.prod(shapes[path]) if len(shapes[path]) > 1 else 0 for path in paths]
    tally = multiply_adds.count(jaxpr.jaxpr, named, sizes)
    flops = {paths[number]: round(flops) for number, flops in tally.of_params.items()}
    return Traced(shapes, flops, dict(tally.of_scopes))


def _is_variable(var):
    return not isinstance(var, multiply_adds.Literal)


def per_option(
    space: Any, image_size: ImageSize, *, filters: int, num_classes: int, channels: int
) -> dict[str | None, np.ndarray]:
    """Tabulate (params, flops): int64 [num_options, 2] by Choice's name; [2] by None for all.

    Raises: ValueError as of `traced`.
    """
    found = traced(space, image_size, filters=filters, num_classes=num_classes, channels=channels)
    table = {c.name: np.zeros((c.num_options, 2), np.int64) for c in jax.tree.leaves(space.choices)}
    table[None] = np.zeros(2, np.int64)
    costs = [(p, math.prod(shape), found.flops.get(p, 0)) for p, shape in found.shapes.items()]
    costs += [(scope, 0, flops) for scope, flops in found.others.items()]
    for path, *cost in costs:
        name, option = space.owner(path) or (None, slice(None))
        table[name][option] += np.asarray(cost)
    return table


def without_kernel(space: Any, text: str, image_size: ImageSize, filters: int) -> int:
    """Count the multiply-adds of an architecture's products without a kernel, on one image."""
    if not traced(space, image_size, **REFERENCE).others:
        return 0
    found = traced(space, image_size, **{**REFERENCE, "filters": filters})
    indices = jax.tree.structure(space.choices).flatten_up_to(space.indices(text))
    on = {(c.name, j) for c, own in zip(jax.tree.leaves(space.choices), indices) for j in own}
    return sum(n for scope, n in found.others.items() if space.owner(scope) in on | {None})


def param_shapes(
    space: Any, filters: int, num_classes: int, channels: int = 3
) -> dict[Path, tuple[int, ...]]:
    """Return {path: shape} of the supernet's parameters, which the network of `all_on` has, too."""
    size = {"filters": filters, "num_classes": num_classes, "channels": channels}
    return traced(space, space.example_size, **size).shapes


def params_shape(net: network.Network, image_shape: tuple[int, ...]) -> Any:
    """Trace shapes and dtypes of a network's parameters, for images [H, W, C].

    Raises: ValueError if tracing fails.
    """
    masks = [net.space.all_on()] if net.arch is None else []
    images = np.zeros((1, *image_shape), np.float32)
    with _refusing(net, image_shape):
        return jax.eval_shape(net.init, rng.key(0), images, *masks)["params"]


@contextlib.contextmanager
def _refusing(net, image_shape):
    """Refuse, in the block, layers that do not fit, and whatever else a network raises."""
    try:
        with init.refusing_layers():
            yield
    except MemoryError:
        raise
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        height, width, _ = image_shape
        raise ValueError(
            f"images of {height}x{width} pixels (height x width): the network of "
            f"{type(net.space).__name__} does not take them: {what:.400}"
        ) from error


def shapes_by_path(params: Any) -> dict[Path, tuple[int, ...]]:
    """Return {path: shape} of a network's parameters."""
    return {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(params).items()}
