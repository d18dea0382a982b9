"""Source text of ops in plain Flax, as terms of a sum."""

from typing import Any, NamedTuple

from nas_jax.exports import plain_layers
from nas_jax.spaces import ops

_POOLS = {"maxpool": plain_layers.max_pool, "avgpool": plain_layers.avg_pool}
_SEPARABLE = {f"sep{size}x{size}": size for size in (3, 5, 7)}
OPS = ("identity", *_POOLS, *_SEPARABLE, "conv7x7", *ops.INVERTED)


class NoPlainForm(ValueError):
    """A network has no plain form, since a part of it is not of this package."""


class Term(NamedTuple):
    """A term of a sum.

    Attributes:
      text: of the code.
      needs: the functions and classes of `plain_layers` that it names.
    """

    text: str
    needs: tuple[Any, ...] = ()


def check(given: Any) -> None:
    """Refuse an op whose plain form is not known. Raises: NoPlainForm that names it."""
    if not isinstance(given, str) or given not in OPS:
        raise NoPlainForm(f"the op {ops.label(given)!r} is not of this package")


def of(op: str, x: str, name: str, norm: str, channels: tuple[Any, Any], strides: int = 1) -> Term:
    """Write an op of `OPS`.

    Args:
      op: its name.
      x: the variable that it is applied to.
      name: of its scope.
      norm: the variable that makes batch norm.
      channels: inside and after it, in code; not read where it has no layers.
      strides: 1 for all but inverted residuals.
    """
    if op == "identity":
        return Term(x)
    if op in _POOLS:
        return Term(f"{_POOLS[op].__name__}({x})", (_POOLS[op],))
    hidden, features = channels
    if op == "conv7x7":
        made = f'FactoredConv7x7({hidden}, {features}, {norm}, name="{name}")({x})'
        return Term(made, (plain_layers.ConvUnit, plain_layers.FactoredConv7x7))
    if op in _SEPARABLE:
        kernel = (_SEPARABLE[op],) * 2
        made = f'SeparableConv({hidden}, {features}, {kernel}, {norm}, name="{name}")({x})'
        return Term(made, (plain_layers.SeparableUnit, plain_layers.SeparableConv))
    kernel, tail = (ops.INVERTED[op].keywords["size"],) * 2, f', name="{name}")({x})'
    stride = f", strides={strides}" if strides > 1 else ""
    return Term(
        f"InvertedResidual({hidden}, {features}, {kernel}, {norm}{stride}{tail}",
        (
            plain_layers.ConvNorm,
            plain_layers.DepthwiseNormRelu,
            plain_layers.InvertedResidual,
        ),
    )
