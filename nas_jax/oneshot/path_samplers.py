"""Mask samplers, by name: they draw the architecture of each ghost batch of a training step.

path_dropout  drops options at random, more and more of them (`path_dropout`), as in the paper.
single_path   draws a uniform legal architecture for each ghost batch (Guo et al., ECCV 2020,
              section 3.2).
shared_path   draws one for all ghost batches of a step (Brock et al., 2017).
fair          uses every subset of a Choice once in as many ghost batches as it has subsets, in
              random order (Chu et al., FairNAS, ICCV 2021; `Fair`).
sandwich      uses in each step the largest architecture, the smallest, and uniform ones (Yu &
              Huang, US-Nets, ICCV 2019; `Sandwich`).

With `supernet.archs_per_step` all images of a step go through each of so many architectures, and a
group is one of these instead of a ghost batch: see `nas_jax.training.same_images`.

A sampler is called with (key, step, groups, state, hyper) and returns masks float32
[G, num_options]. `key` is the same for all steps of a run. `groups` int32 [G] are global numbers
of ghost batches: a ghost batch's masks depend on its number alone, not on how ghost batches are
spread over devices. `state` is the sampler state, which these samplers lack. `hyper` has the step's
hyper-parameters `r` and `drop_share`, see `path_dropout.sample`. Equal samplers share the compiled
step, so they compare by value or identity, and are hashable.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nas_jax import plugins
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import rng
from nas_jax.spaces import Space
from nas_jax.spaces import choices as choices_lib

Sampler = Callable[[jax.Array, jax.Array, jax.Array, Any, Any], Any]


def fixed(key, step, groups, arch, hyper):
    """Repeat the masks [k] of one architecture, which is the sampler's state: masks [G, k]."""
    return jax.tree.map(lambda mask: jnp.tile(mask, (len(groups), 1)), arch)


@dataclasses.dataclass(frozen=True)
class PathDropout:
    """Drops paths of a space; `rescale` as in `path_dropout.sample`."""

    space: Space
    rescale: bool = False

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        key = jax.random.fold_in(key, step)
        drop = {"r": hyper.r, "share": hyper.drop_share, "rescale": self.rescale}
        return path_dropout.sample(key, self.space.choices, groups, **drop)


@dataclasses.dataclass(frozen=True)
class SinglePath:
    """Draws uniform legal architectures of a space."""

    space: Space

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        keys = rng.each(jax.random.fold_in(key, step), groups)
        return jax.vmap(self.space.sample)(keys)


@dataclasses.dataclass(frozen=True)
class SharedPath:
    """Draws a uniform legal architecture of a space, one for all ghost batches of a step."""

    space: Space

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        arch = self.space.sample(jax.random.fold_in(key, step))
        return fixed(key, step, groups, arch, hyper)


def shares_masks(sampler: Sampler | None) -> bool:
    """Say whether a sampler gives all ghost batches of a step the same masks."""
    drawn_by = getattr(sampler, "sampler", sampler)  # of a part (`training.few_shot`)
    return isinstance(drawn_by, SharedPath)


@dataclasses.dataclass(frozen=True)
class Fair:
    """Uses every subset of a Choice equally often: FairNAS (Chu et al., 2021), algorithm 1.

    Groups are counted through all steps, `num_groups` in each. As many as a Choice has subsets are
    a round, which has each subset once: they are drawn without replacement.

    A round is one update on one batch, as in the paper, with `supernet.archs_per_step` the number
    of subsets: the gradients of the round's models, all on the same images, are added up. Without
    it each model of a round has images of its own, and a round may end in another step.

    Differs from the paper in:
    - where a Choice has several options on, its subsets take the place of the paper's ops;
    - L2 is that of the paths that a model uses, a mean over models (`l2_unused`: the paper's decay
      of all weights, once for an update);
    - batch statistics are those of ghost batches.
    """

    space: Space
    num_groups: int

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        numbers, decisions = step * self.num_groups + groups, []
        for d, choice in enumerate(jax.tree.leaves(self.space.choices)):
            orders, places = _orders(jax.random.fold_in(key, d), numbers, choice.num_subsets)
            decisions.append(jnp.take_along_axis(orders, places[:, None], 1)[:, 0])
        return choices_lib.from_decisions(self.space.choices, jnp.stack(decisions, -1))


def _orders(key, numbers, size):
    """Return, for each ghost batch, its round's random order, int32 [G, size], and place [G]."""
    rounds, places = jnp.divmod(numbers, size)
    keys = rng.each(key, rounds)
    return jax.vmap(lambda key: jax.random.permutation(key, size))(keys), places


@dataclasses.dataclass(frozen=True, eq=False)  # arrays are not hashable
class Sandwich:
    """Uses `extremes`, the largest and the smallest architecture, then uniform ones.

    This is the sandwich rule (Yu & Huang, 2019, section 3.2), there with 4 widths: the largest, the
    smallest and two at random, all on the same images, whose gradients are added up before one
    update. So it is with `supernet.archs_per_step` = 4. In-place distillation (section 3.3) is
    `supernet.distillation`: the largest learns from labels, the others from its predictions, to
    which no gradient flows. Without `archs_per_step` each architecture has images of its own.

    Differs from the paper in:
    - architectures differ in paths, not in widths; largest and smallest are by parameters, among
      the legal ones (a supernet of all paths is not legal in most spaces);
    - L2 is that of the paths that an architecture uses, a mean over architectures (`l2_unused`: the
      paper's decay of all weights, once for an update);
    - candidates are evaluated by `sweep.bn`, where the paper calibrates statistics (`recalibrate`).
    """

    space: Space
    extremes: tuple[Any, Any]

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        uniform = SinglePath(self.space)(key, step, groups, state, hyper)

        def with_extremes(largest, smallest, masks):
            first = jnp.where((groups == 0)[:, None], largest, smallest)
            return jnp.where((groups < 2)[:, None], first, masks)

        return jax.tree.map(with_extremes, *self.extremes, uniform)


def _path_dropout(space, *, rescale):
    return PathDropout(space, rescale)


def _fair(space, *, num_groups):
    return Fair(space, num_groups)


def _sandwich(space, *, extremes):
    return Sandwich(space, extremes())


FIELD = "config.supernet.sampler"
SAMPLERS = {
    "path_dropout": _path_dropout,
    "single_path": SinglePath,
    "shared_path": SharedPath,
    "fair": _fair,
    "sandwich": _sandwich,
}


def make(
    name: str,
    space: Space,
    *,
    num_groups: int,
    extremes: Callable[[], tuple[Any, Any]] | None = None,
    rescale: bool = False,
) -> Sampler:
    """Make the sampler of that name.

    Args:
      name: one of `SAMPLERS`, or a function (space) -> sampler that `plugins.resolve` finds. It is
        given those of the other arguments that are its keywords.
      space: the search space.
      num_groups: ghost batches of a step, over all devices; or `supernet.archs_per_step`.
      extremes: () -> the largest and the smallest architecture, masks [num_options].
      rescale: of `PathDropout`.

    Raises: ValueError if there is no sampler of that name; later, in one line, if one of a user or
      a plug-in raises or returns masks of another shape.
    """
    context = {"num_groups": num_groups, "extremes": extremes, "rescale": rescale}
    made = plugins.make(FIELD, name, SAMPLERS, "samplers", space, context=context)
    if plugins.is_named(name, SAMPLERS):
        return made
    try:
        hash(made)
    except TypeError as error:
        raise ValueError(
            f"{FIELD}={name!r} made a {type(made).__name__} without a hash; write "
            "@dataclasses.dataclass(frozen=True)"
        ) from error
    return Plugged(made, space, name)


_BY_GHOST_BATCHES = "with which rounds go over ghost batches of several steps"


def check_rounds(name: str, space: Space, archs_per_step: int, most: int) -> None:
    """Check that the architectures of a step are whole rounds, if the sampler is to be fair.

    Args:
      name, space: as of `make`.
      archs_per_step: of `supernet`; 0: rounds are of ghost batches, and go over several steps.
      most: that `archs_per_step` can be.

    Raises: ValueError that says how many architectures make a round.
    """
    whole = math.lcm(*(choice.num_subsets for choice in jax.tree.leaves(space.choices)))
    if name == "fair" and archs_per_step % whole:
        multiple = f"or a multiple; or take 0, {_BY_GHOST_BATCHES}"
        none = f"more than the {most:,} that a step can have; take 0, {_BY_GHOST_BATCHES}"
        raise ValueError(
            f"config.supernet.archs_per_step={archs_per_step}, but sampler='fair' uses each subset "
            f"of a Choice equally often in a step, which takes {whole:,} architectures here"
            f"{', ' + none if whole > most else ' ' + multiple}"
        )


@dataclasses.dataclass(frozen=True)
class Plugged:
    """Checks what a sampler of a user or a plug-in draws; `name` is for errors."""

    sampler: Sampler
    space: Space
    name: Any

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; see the module."""
        masks = plugins.call(FIELD, self.name, self.sampler, key, step, groups, state, hyper)
        return choices_lib.shaped(
            self.space.choices, masks, len(groups), f"{FIELD}={self.name!r} drew"
        )
