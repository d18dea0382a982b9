"""Candidate operations: what one is, those of this package by name, and a user's own.

What an op must be is written at `Op`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax import naming, plugins
from nas_jax.nn import kernels, layers, masked
from nas_jax.spaces import choices

Op = Callable[..., Callable[[jax.Array], jax.Array]]
"""Builder of a candidate operation: a Flax module's class, or a function that returns a module or a
function. It is called op(features, **keywords) and returns what maps activations
[G or 1, n, H, W, C] -> [G or 1, n, H/stride, W/stride, features], of the dtype that enters. Of
these keywords it is given those that it takes:

name         scope of its parameters; every module has it.
norm         builder of the batch norm: norm(relu=True, name="norm")(x). Batch norm normalises each
             group G for itself; `nn.BatchNorm` does not, and is refused.
kernel_init  from the fan-in of a kernel to its initialiser: kernel_init(9 * channels). A layer with
             its own initialiser, such as a plain `nn.Conv` or `nn.Dense`, keeps it.
hidden       channels between the op's layers; None: the op chooses. Needed to tune widths alone.
stride       by which it reduces height and width. Where an op that does not take it must reduce, or
             change the number of channels of a chain, a strided 1x1 convolution comes before it.

The groups of G are different networks, or different batches of one: nothing may mix them. An op
draws no random numbers (`nn.Dropout` is refused). Modules of equal attributes must be equal: then
each is traced once."""

_KEYWORDS = ("name", "norm", "kernel_init", "hidden", "stride")


def identity(x: jax.Array) -> jax.Array:
    """Return x: the op that does nothing."""
    return x


def nothing(x: jax.Array) -> jax.Array:
    """Return zeros: the op that passes nothing on.

    They are a function of x, unlike `jnp.zeros_like`, so that the products that follow are counted
    as those of an activation.
    """
    never = jnp.zeros(x.shape, bool)
    return jax.lax.select(never, jax.lax.stop_gradient(x), jnp.zeros_like(x))


def _identity(features, *, stride=1, hidden=None, **unit):
    """Make the identity, or a strided 1x1 convolution where the shape changes."""
    if stride == 1:
        return identity
    return layers.ConvNorm(features, (1, 1), stride, **unit)


def _pair(units, features, *, hidden=None, name, **unit):
    """Make two units, with `hidden` channels between them; None: as many as after them."""
    widths = hidden or features, features
    builders = [layers.partial(kind, n, size, **unit) for (kind, size), n in zip(units, widths)]
    return layers.Pair(tuple(builders), name=name)


def _separable(size):
    return functools.partial(_pair, ((layers.SeparableConv, size),) * 2)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1, depthwise, 1x1, and a shortcut where the shape stays the same.

    The first 1x1 convolution gives `hidden` channels; None: `expansion` times as many as enter.
    """

    features: int
    stride: int = 1
    expansion: int = 6
    size: int = 3
    norm: Any = layers.BatchNorm
    kernel_init: Any = layers.he_normal
    hidden: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/stride, W/stride, features]."""
        unit = {"norm": self.norm, "kernel_init": self.kernel_init}
        hidden = self.hidden or self.expansion * x.shape[-1]
        y = layers.ConvNorm(hidden, (1, 1), relu=True, **unit, name="expand")(x)
        y = layers.DepthwiseNorm(self.size, self.stride, relu=True, **unit, name="depthwise")(y)
        y = layers.ConvNorm(self.features, (1, 1), **unit, name="project")(y)
        return x + y if x.shape == y.shape else y


PAPER_OPS: dict[str, Op] = {  # in the paper's order
    "identity": _identity,
    "sep3x3": _separable(3),
    "sep5x5": _separable(5),
    "sep7x7": _separable(7),
    "conv7x7": functools.partial(_pair, ((layers.Conv, (1, 7)), (layers.Conv, (7, 1)))),
    # The paper does not give the pooling window; here: 3x3, stride 1.
    "maxpool": lambda features, **_: kernels.max_pool,
    "avgpool": lambda features, **_: kernels.avg_pool,
}
INVERTED: dict[str, Op] = {
    f"mb{expansion}_k{size}": functools.partial(InvertedResidual, expansion=expansion, size=size)
    for expansion in (3, 6)
    for size in (3, 5, 7)
}
OPS: dict[str, Op] = {**PAPER_OPS, **INVERTED}
# Ops that pass their input on: no parameters, as many channels.
PASSING = ("identity", "maxpool", "avgpool")


def find(op: str | Op) -> Op:
    """Return the op of a name: of `OPS`, "FILE.py:NAME", "MODULE:NAME", or of an installed plug-in.

    Raises: ValueError, in one line, if there is none, or if it cannot be called.
    """
    found = plugins.resolve("space.ops", op, OPS, "ops")
    if not callable(found):
        raise ValueError(f"space.ops={op!r} is a {type(found).__name__}; an op is called")
    return found


def listed(ops: Sequence[str | Op]) -> tuple[str | Op, ...]:
    """Return the ops of a space as a tuple.

    Raises: ValueError, in one line, if there are none or too many, or if one is none.
    """
    if not isinstance(ops, list | tuple):
        raise ValueError(
            f"space.ops={naming.shown(ops)} must be a tuple of names or functions: such as "
            "('identity', 'sep3x3')"
        )
    if not 1 <= len(ops) <= choices.MAX_OPTIONS:
        raise ValueError(f"space.ops has {len(ops)} ops; 1 to {choices.MAX_OPTIONS} are possible")
    for op in ops:
        find(op), label(op)  # each raises
    return tuple(ops)


def label(op: str | Op) -> str:
    """Return the short name of an op, which strings of architectures have.

    Raises: ValueError if it is a function without a name, or of a name that a string cannot have.
    """
    given = op.func if isinstance(op, functools.partial) else op
    name = given.rpartition(":")[2] if isinstance(given, str) else getattr(given, "__name__", "")
    if not name.replace(".", "_").isidentifier():
        raise ValueError(f"space.ops has {op!r}, a function without a name: define it by `def`")
    return name


def check_widths(ops: Iterable[str | Op], tunable: Iterable[str]) -> None:
    """Check that the layers of all ops are known, so that their widths can be tuned.

    Raises: ValueError that names the first other op, and the ops that are `tunable`.
    """
    tunable = tuple(tunable)
    for op in ops:
        if op not in tunable:
            raise ValueError(
                f"space.ops has {label(op)!r}: the widths of its layers are not known, and cannot "
                f"be tuned; those of {', '.join(tunable)} can"
            )


def takes(op: Op, keyword: str) -> bool:
    """Say whether an op takes a keyword. `stride` it must name; others may be in its **kwargs."""
    parameters = inspect.signature(op).parameters
    catches = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return keyword in parameters or (catches and keyword != "stride")


def bound(op: Op, features: int, **keywords: Any) -> Op:
    """Bind an op's arguments, those that it takes. Returns: function of `name`.

    It raises a ValueError that names the op, with file and line, if one of a user raises.
    """
    given = {key: value for key, value in keywords.items() if takes(op, key)}

    def build(name):
        named = {"name": name} if takes(op, "name") else {}
        make = functools.partial(op, features, **given, **named)
        if op in OPS.values():
            return make()
        what = getattr(op, "__qualname__", repr(op))
        made = plugins.call("op", what, make)
        if not callable(made):
            raise ValueError(f"op={what!r} made a {type(made).__name__}, which cannot be called")
        return made

    return build


class Reduced(nn.Module):
    """An op after a strided 1x1 convolution, which gives it its input's shape.

    Attributes:
      builder: of the op, a function of `name`.
      features: channels that enter it.
      stride: of the convolution.
      norm, kernel_init: as of `layers.ConvNorm`.
    """

    builder: Any
    features: int
    stride: int
    norm: Any = layers.BatchNorm
    kernel_init: Any = layers.he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [G, n, H, W, C] -> [G, n, H/stride, W/stride, features]."""
        unit = {"norm": self.norm, "kernel_init": self.kernel_init}
        x = layers.ConvNorm(self.features, (1, 1), self.stride, **unit, name="reduce")(x)
        return masked.called(self.builder(name="op"), x)
