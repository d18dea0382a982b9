"""What a caller can see inside a network at work: its ReLUs, its batch norms, its blocks.

Proxies that need no training are made of these (`nas_jax.proxies`). A caller names one quantity:
`net.apply(variables, images, arch, mutable=[kind])` returns it beside the logits, and `total` adds
up what all modules wrote. Without that nothing is computed. An option of a Choice that is off adds
nothing, under any execution: the options write what they give and what is seen in them into one
array, of which `masked.MixedOp` makes its weighted sum.

Letters as in `layers`: G groups, n images of a group.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

AGREEMENT = "agreement"  # of each pair of images, the ReLUs that are on, or off, in both: [G, n, n]
DEVIATION = "deviation"  # the sum over batch norms of the log of a standard deviation: [G]
KINDS = (AGREEMENT, DEVIATION)
BLOCKS = "blocks"  # outputs of the blocks, one array each: see `block`
PERTURBATIONS = "perturbations"  # what is added to them, of Flax's `perturb`
FEATURES = "features"  # what the network averages over pixels, [G, n, H, W, C], named "last"


def kind_of(module: nn.Module) -> str | None:
    """Return which of `KINDS` the caller of a network asks for; None: none."""
    if module.is_initializing():
        return None
    return next((kind for kind in KINDS if module.is_mutable_collection(kind)), None)


def write(module: nn.Module, kind: str, value: jax.Array) -> None:
    """Add to what a module has written, float32 [G, ...]."""
    module.sow(kind, "sum", value, init_fn=lambda: 0, reduce_fn=operator.add)


def total(seen: Any) -> jax.Array:
    """Add up what the modules of a network wrote, a tree of float32 [G or 1, ...]; 0 if nothing."""
    return sum(jax.tree.leaves(seen), jnp.float32(0))


def relus(module: nn.Module, outputs: Sequence[jax.Array]) -> None:
    """Write how ReLUs agree, whose outputs are [G or 1, n, ...]; only if the caller asks.

    A unit is a ReLU at one place of one channel (Mellor et al., ICML 2021).
    """
    if kind_of(module) == AGREEMENT:
        write(module, AGREEMENT, sum(map(_agreement, outputs)))


def _agreement(output):
    """Count for each pair of images the units that are on in both, or in none: [G, n, n]."""
    on = (output > 0).reshape(*output.shape[:2], -1).astype(jnp.float32)
    both, count = jnp.einsum("gau,gbu->gab", on, on), jnp.sum(on, -1)
    return on.shape[-1] - count[:, :, None] - count[:, None] + 2 * both


def norm(module: nn.Module, variances: Sequence[jax.Array], epsilon: float) -> None:
    """Write half the log of a batch norm's mean variance, of [G or 1, 1, 1, 1, C_j] each.

    Its epsilon is added, as a node that nothing reaches has no variance.
    """
    if kind_of(module) == DEVIATION:
        variance = jnp.concatenate([v.reshape(v.shape[0], -1) for v in variances], -1)
        write(module, DEVIATION, jnp.log(jnp.mean(variance, -1) + epsilon) / 2)


def relu(module: nn.Module, x: jax.Array) -> jax.Array:
    """Apply a ReLU that callers can see; `module` is the one that has it."""
    x = jnp.maximum(x, 0)
    relus(module, [x])
    return x


def block(module: nn.Module, number: int, x: jax.Array) -> jax.Array:
    """Return the output of block `number`, x [G, n, H, W, C], as the next block gets it.

    If the caller asks for `BLOCKS`, the output is written, and the next block gets what
    `PERTURBATIONS` adds to it; no gradient passes on. So the gradient by a block's perturbation is
    that of the next block alone.
    """
    if not shows_blocks(module):
        return x
    name = f"{number:03}"  # so that the order of names is that of blocks
    module.sow(BLOCKS, name, x, init_fn=lambda: 0, reduce_fn=operator.add)
    return module.perturb(name, lax.stop_gradient(x), PERTURBATIONS)


def features(module: nn.Module, x: jax.Array) -> None:
    """Write the network's last features x [G, n, H, W, C], if the caller asks for `FEATURES`."""
    if not module.is_initializing():
        module.sow(FEATURES, "last", x, init_fn=lambda: 0, reduce_fn=operator.add)


def later(module: nn.Module, x: Any) -> Any:
    """Return the output of a block, a tree, as the block after the next gets it, if one does."""
    return lax.stop_gradient(x) if shows_blocks(module) else x


def shows_blocks(module: nn.Module) -> bool:
    """Say whether the caller of a network asks for `BLOCKS`."""
    return not module.is_initializing() and module.is_mutable_collection(BLOCKS)


# -- options of a Choice --------------------------------------------------------------------------


def joined(kind: str, y: jax.Array, seen: Any) -> jax.Array:
    """Join an option's output [G, n, H, W, C] and what was seen in it: float32 [G, all numbers]."""
    groups, images = y.shape[:2]
    shape = (groups, images, images) if kind == AGREEMENT else (groups,)
    value = jnp.broadcast_to(total(seen), shape)
    return jnp.concatenate([y.reshape(groups, -1), value.reshape(groups, -1)], -1)


def parted(
    module: nn.Module, kind: str, together: jax.Array, option: Callable[[], jax.Array]
) -> jax.Array:
    """Write what `joined` joined, now of all options, and return their output.

    `option` computes an output of that shape; it is traced only.
    """
    out = jax.eval_shape(option)
    size, images = math.prod(out.shape[1:]), out.shape[1]
    shape = (-1, images, images) if kind == AGREEMENT else (-1,)
    write(module, kind, together[:, size:].reshape(shape))
    return together[:, :size].reshape(-1, *out.shape[1:])
