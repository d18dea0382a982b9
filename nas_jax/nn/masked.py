"""The only place where masks meet activations.

A mask multiplies an op's output. It also multiplies a concat's input after BN and ReLU, directly
before the 1x1 convolution, as BN would turn a zero into its offset. So a masked supernet equals the
stand-alone network of the same architecture, in value and in gradient, for any BN scale and offset.

Letters as in `layers`: activations [G or 1, n, H, W, C], masks [G, k]. Without masks (None) the
network has only the options `on`. Option j of a Choice has its parameters, and nothing else, in the
scope `<name of the Choice>/<j>`. L2 on active paths, parameter counts and the weights of a
stand-alone network all follow from that scope (see `spaces.base`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from nas_jax import plugins
from nas_jax.nn import execution, kernels, layers, observed
from nas_jax.nn.init import init

__all__ = ["MaskedConcat", "MixedOp", "called", "init", "to_groups"]


def to_groups(images: jax.Array, arch: Any) -> tuple[jax.Array, Any, tuple[int, ...]]:
    """Bring images and masks to groups. A group is one architecture with its own batch statistics.

    Args:
      images: [B, H, W, C], or in groups already, [G or 1, n, H, W, C].
      arch: tree of masks [k] or [G, k]; None for a stand-alone network.

    Returns:
      images [G or 1, n, H, W, C]; masks [G or 1, k]; the leading axes of the logits, [B] or [G, n].

    Raises:
      ValueError: G does not divide B, or images and masks disagree on G.
    """
    masks = jax.tree.map(lambda m: jnp.atleast_2d(jnp.asarray(m)), arch)
    groups = jax.tree.leaves(masks)[0].shape[0] if masks is not None else 1
    if images.ndim == 4:
        if images.shape[0] % groups:
            raise ValueError(f"{images.shape[0]} images do not divide into {groups} groups")
        return images.reshape(groups, -1, *images.shape[1:]), masks, images.shape[:1]
    if 1 not in (groups, images.shape[0]) and groups != images.shape[0]:
        raise ValueError(f"{images.shape[0]} groups of images, but {groups} groups of masks")
    return images, masks, (max(groups, images.shape[0]), images.shape[1])


def called(option: Callable, *x: jax.Array) -> jax.Array:
    """Call an option of a Choice: a module or a function.

    Raises: ValueError that names option, file and line, if one of a user raises.
    """
    made_by = option if hasattr(option, "__qualname__") else type(option)
    if made_by.__module__.partition(".")[0] in ("nas_jax", "flax"):
        return option(*x)
    return plugins.call("op", made_by.__qualname__, option, *x)


class MixedOp(nn.Module):
    """The sum of the ops that are on.

    Attributes:
      builders: one for each option; builder(name=...) returns the op's module or function.
      on: numbers of the options that are built; all of them in a supernet.
      execution: how the sum is computed under masks; see `nas_jax.nn.execution`.

    Its name is that of the Choice.
    """

    builders: Sequence[Callable[..., Callable]]
    on: Sequence[int]
    execution: str = "masked"

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Map x [G or 1, n, H, W, C] under mask [G, num_options] -> [G, n, H, W, C]."""
        options = [self.builders[j](name=str(j)) for j in self.on]
        with execution.of_choice(self.name):
            if mask is None:
                outputs = (_named(*each, x) for each in zip(self.on, options))
                return sum(execution.of_one_shape(outputs))
            return _weighted_sum(self, options, [(x,)] * len(options), mask)


class MaskedConcat(nn.Module):
    """Concat of the inputs that are on, BN, ReLU, 1x1 convolution: `layers.Projection` with masks.

    Attributes:
      features: channels D of the output.
      on: numbers of the inputs that are built; all of them in a supernet. The masks that initialise
        a network also set the initial variance of the 1x1 convolution: its fan-in counts the inputs
        that are on in any group. So a supernet can begin like one of its stand-alone networks.
      norm: builder of the batch norm.
      kernel_init: from the fan-in to an initialiser.
      execution: as in `MixedOp`. "switch" and "dispatch" sum a product for each input; the others
        are one `kernels.pointwise_of_concat`.
    """

    features: int
    on: Sequence[int]
    norm: Callable[..., nn.Module] = layers.BatchNorm
    kernel_init: Callable[[int], Any] = layers.he_normal
    execution: str = "masked"

    @nn.compact
    def __call__(
        self, inputs: Sequence[tuple[jax.Array, layers.Moments]], mask: jax.Array | None = None
    ) -> jax.Array:
        """Map k arrays [G or 1, n, H, W, C] with moments, under mask [G, k] -> [G, n, H, W, D]."""
        init = self._initialiser([inputs[j][0].shape[-1] for j in self.on], mask)
        options = [_ConcatSlice(self.features, self.norm, init, name=str(j)) for j in self.on]
        inputs = [inputs[j] for j in self.on]
        fuses = kernels.fuses() and self.norm(relu=True, parent=None).is_fusible
        fuses = fuses and self.execution != execution.RELAXED  # the kernel takes masks as constants
        apart = self.execution in ("switch", "dispatch") and not fuses
        apart = apart or observed.kind_of(self)
        if mask is not None and apart and not self.is_initializing():
            return _weighted_sum(self, options, inputs, mask)
        parts, kernels_ = zip(*(option.parts(*x, fuses) for option, x in zip(options, inputs)))
        if fuses:
            from nas_jax.nn.kernels import fused  # imports Pallas

            factors, shifts = zip(*parts)
            return fused.project([x for x, _ in inputs], factors, shifts, mask, kernels_)[0]
        if mask is not None:
            mask = execution.differentiated(self.execution, mask)
            parts = [execution.scaled(part, mask[:, j]) for j, part in enumerate(parts)]
        return kernels.pointwise_of_concat(parts, jnp.concatenate(kernels_))

    def _initialiser(self, widths, mask):
        whole = self.kernel_init(sum(widths))
        if mask is None or not self.is_initializing():
            return whole
        on = jnp.any(mask != 0, 0)
        if self.kernel_init is layers.he_scale and len(set(widths)) == 1:
            # A constant for each fan-in: to the bit that of the stand-alone network.
            each = [self.kernel_init(n * widths[0]) for n in range(1, len(widths) + 1)]
            index = jnp.maximum(jnp.sum(on), 1) - 1
            return lambda *args: jnp.stack([init(*args) for init in each])[index]
        scale = jnp.sqrt(sum(widths) / jnp.maximum(jnp.dot(on, jnp.asarray(widths)), 1))
        return lambda *args: scale * whole(*args)


class _ConcatSlice(nn.Module):
    """The share of one input in a concat: its BN, and its rows of the 1x1 convolution."""

    features: int
    norm: Callable[..., nn.Module]
    init: Callable

    @nn.compact
    def parts(self, x, moments, fuses=False):
        """Return x [G, n, H, W, C] normalised, and the kernel [C, D].

        If `fuses`, return the factor and shift that would normalise x instead.
        """
        shape = (1, 1, x.shape[-1], self.features)
        kernel = self.param("kernel", self.init, shape, jnp.float32)
        norm = self.norm(relu=True, name="norm")
        x = norm.factors([x], [moments])[0] if fuses else norm(x, moments)
        return x, kernel[0, 0]

    def __call__(self, x, moments):
        return kernels.pointwise(*self.parts(x, moments))


def _weighted_sum(module, options, inputs, mask):
    """Sum the options by `module.execution`.

    Flax modules may not be called in branches, so they become functions of their parameters. Equal
    modules become equal functions, which are traced once for all cells and blocks.
    """
    if kind := observed.kind_of(module):
        return _observed_sum(module, kind, options, inputs, mask)
    name = "masked" if module.is_initializing() else module.execution
    if name == "masked" and (module.is_initializing() or "batch_stats" in module.variables):
        functions = [
            lambda _, x, f=f: called(f, *x) for f in options
        ]  # these write their variables
        params = [{}] * len(options)
    else:
        functions, params = zip(*map(_pure, options))
        functions = map(execution.rematerialised, functions)
    return execution.weighted_sum(name, functions, params, inputs, mask)


def _observed_sum(module, kind, options, inputs, mask):
    """Sum the options, and what is seen in those that are on, as the caller asks."""
    functions, params = zip(*map(_pure, options))
    observing = [layers.partial(_observe, kind, *function.args) for function in functions]
    together = execution.weighted_sum(module.execution, observing, params, inputs, mask)
    first = functools.partial(functions[0], params[0], inputs[0])
    return observed.parted(module, kind, together, first)


def _named(number, option, x):
    """Call an option in the scope of its number, which a module's parameters have by themselves."""
    if isinstance(option, nn.Module):
        return called(option, x)
    with jax.named_scope(str(number)):
        return called(option, x)


def _pure(option):
    if not isinstance(option, nn.Module):
        return layers.partial(_call, option), {}
    return layers.partial(_apply, option.clone(parent=None, name=None)), option.variables


def _call(option, variables, x):
    return option(*x)


@functools.partial(jax.jit, static_argnums=0)
def _apply(module, variables, x):
    return module.apply(variables, *x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _observe(kind, option, variables, x):
    if not isinstance(option, nn.Module):
        return observed.joined(kind, option(*x), ())
    return observed.joined(kind, *option.apply(variables, *x, mutable=[kind]))
