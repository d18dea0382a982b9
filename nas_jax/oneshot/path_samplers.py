"""Mask samplers: which architecture each ghost batch of a supernet's training step uses, by name.

path_dropout  options dropped at random, ever more of them (`path_dropout`): the paper's way.
single_path   a uniform legal architecture per ghost batch (Guo et al., ECCV 2020).
fair          every subset of a Choice once in as many ghost batches as it has subsets, in random
              order (Chu et al., ICCV 2021, where a subset is an op).
sandwich      in each step the largest architecture, the smallest, and uniform ones (Yu et al.,
              ICCV 2019).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nas_jax import naming
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import rng
from nas_jax.spaces import choices as choices_lib

NAMES = ("path_dropout", "single_path", "fair", "sandwich")

Sampler = Callable[[jax.Array, jax.Array, jax.Array], Any]


def make(
    name: str,
    choices: Any,
    *,
    num_steps: int,
    num_groups: int,
    extremes: tuple[Any, Any] | None,
    r: float,
    schedule: str,
    rescale: bool,
) -> Sampler:
    """The sampler of that name: (key, step, groups) -> masks float32 [G, num_options].

    `key` is the run's, the same for all steps; `groups` int32 [G] are global numbers of ghost
    batches, on which alone a ghost batch's masks depend, not on how they are spread over devices.

    Args:
      name: one of `NAMES`.
      choices: the space's tree of Choices.
      num_steps: of the whole training.
      num_groups: ghost batches of a step, over all devices.
      extremes: the largest and the smallest architecture, masks [num_options]; for "sandwich" only.
      r, schedule, rescale: of `path_dropout.sample` and `path_dropout.ramp`.

    Raises: ValueError if there is no sampler or schedule of that name.
    """
    naming.check("sampler", name, NAMES)
    naming.check("schedule", schedule, path_dropout.SCHEDULES)
    if name == "path_dropout":
        ramp = functools.partial(path_dropout.ramp, num_steps=num_steps, schedule=schedule)
        return functools.partial(_path_dropout, choices, ramp, r, rescale)
    if name == "fair":
        return functools.partial(_fair, choices, num_groups)
    if name == "sandwich":
        return functools.partial(_sandwich, choices, extremes)
    return functools.partial(_single_path, choices)


def _path_dropout(choices, ramp, r, rescale, key, step, groups):
    key = jax.random.fold_in(key, step)
    return path_dropout.sample(key, choices, groups, r=r, share=ramp(step), rescale=rescale)


def _single_path(choices, key, step, groups):
    keys = rng.each(jax.random.fold_in(key, step), groups)
    return jax.vmap(lambda key: choices_lib.sample(key, choices))(keys)


def _fair(choices, num_groups, key, step, groups):
    """Ghost batches are counted through all steps; every num_subsets of them is a round."""
    numbers = step * num_groups + groups
    decisions = []
    for d, choice in enumerate(jax.tree.leaves(choices)):
        rounds, places = jnp.divmod(numbers, choice.num_subsets)
        keys = rng.each(jax.random.fold_in(key, d), rounds)
        orders = jax.vmap(lambda key, n=choice.num_subsets: jax.random.permutation(key, n))(keys)
        decisions.append(jnp.take_along_axis(orders, places[:, None], 1)[:, 0])
    return choices_lib.from_decisions(choices, jnp.stack(decisions, -1))


def _sandwich(choices, extremes, key, step, groups):
    uniform = _single_path(choices, key, step, groups)

    def with_extremes(largest, smallest, masks):
        first = jnp.where((groups == 0)[:, None], largest, smallest)
        return jnp.where((groups < 2)[:, None], first, masks)

    return jax.tree.map(with_extremes, *extremes, uniform)
