"""The order in which the candidates of a round are evaluated, found on the host from their masks.

Two executions gain by it. "switch": in a chain (`spaces.nasbench_macro`) neighbours share their
beginnings, which are computed once. "dispatch": a program that has room for a few candidates of
each option has no branches, and its room is least where each device has even numbers of each.

Letters: N candidates, D devices, g candidates of a device, K options of all Choices together.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from nas_jax.nn import execution, masked, network
from nas_jax.runtime import rng
from nas_jax.spaces import choices, params


def plan(net: nn.Module, archs: Any, num_devices: int) -> tuple[np.ndarray, nn.Module]:
    """Return the order of masks [N, k], and the network that evaluates them in that order.

    Device d of D gets the candidates order[d * g : (d + 1) * g]. The network is `net`; under the
    execution "dispatch" one with as much room as they need, of a few.
    """
    if not isinstance(net, network.Network) or net.execution != "dispatch":
        return choices.sorted_order(archs), net
    uses = _uses(net, archs)
    order = balanced(uses, num_devices)
    per_device = uses[order].reshape(num_devices, -1, uses.shape[1])
    room = execution.with_room(int(per_device.sum(1).max()), per_device.shape[1])
    return order, net.clone(execution=room)


def _uses(net, archs) -> np.ndarray:
    """Return which options each candidate uses, bool [N, K], of Choices that are sums of ops."""
    every, names = jax.tree.leaves(net.space.choices), _mixed(net)
    masks = zip(every, jax.tree.leaves(archs))
    return np.concatenate([np.asarray(m) > 0 for choice, m in masks if choice.name in names], -1)


@functools.lru_cache(8)
def _mixed(net):
    """Return the names of the Choices whose options the network sums by a `masked.MixedOp`."""
    names = set()

    def note(call, args, keywords, context):
        if isinstance(context.module, masked.MixedOp) and context.method_name == "__call__":
            names.add(context.module.name)
        return call(*args, **keywords)

    side = net.space.reduction or params.EXAMPLE_SIZE
    images = np.zeros((1, side, side, params.REFERENCE["channels"]), np.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(net.init, rng.key(0), images, net.space.all_on())
    return frozenset(names)


def balanced(uses: np.ndarray, num_lots: int) -> np.ndarray:
    """Order candidates so that each lot uses every option about equally often.

    Candidates with the most used options come first, each into the lot where they are rarest yet.

    Args:
      uses: which options each uses, bool [N, K].
      num_lots: equal lots, into which the order falls; divides N.

    Returns: a permutation of N.
    """
    num, size = len(uses), len(uses) // num_lots
    counts, lots = np.zeros((num_lots, uses.shape[1]), np.int64), [[] for _ in range(num_lots)]
    for candidate in np.argsort(-(uses * uses.sum(0)).sum(1), kind="stable"):
        after = counts + uses[candidate]
        crowding = after.max(1) * num**2 + (after * uses[candidate]).sum(1)
        full = [len(lot) == size for lot in lots]
        lot = int(np.argmin(np.where(full, np.iinfo(np.int64).max, crowding)))
        lots[lot].append(candidate)
        counts[lot] = after[lot]
    return np.asarray([candidate for lot in lots for candidate in lot])


def evaluate_sorted(evaluate: Callable[[Any], np.ndarray], archs: Any) -> np.ndarray:
    """Evaluate masks [N, k] in sorted order, and return the values [N] in the order given."""
    return in_order(choices.sorted_order(jax.device_get(archs)), evaluate, archs)


def in_order(order: np.ndarray, evaluate: Callable[[Any], np.ndarray], archs: Any) -> np.ndarray:
    """Evaluate masks [N, k] in an order, a permutation; return the values in the order given."""
    archs = jax.device_get(archs)
    values = evaluate(jax.tree.map(lambda mask: mask[order], archs))
    return values[np.argsort(order)]
