"""Few-shot supernets: the trained supernet is split, and each part goes on with its weights.

Few-shot NAS (Zhao et al., ICML 2021), section 3: architectures that share less rank better, so one
supernet becomes several, one for each subset of a Choice (of several Choices: for each combination
of their subsets). A part begins with the weights of the whole, is trained on architectures that
have its subset, and evaluates these.

Differs from the paper in: a part is as long as `supernet.split.share` says, at a learning rate that
begins anew at `supernet.split.lr` of the whole's; it sees images in the order of the whole.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from nas_jax import naming
from nas_jax.oneshot.path_samplers import Sampler
from nas_jax.run import Run
from nas_jax.spaces import Space
from nas_jax.spaces import choices as choices_lib
from nas_jax.storage.checkpoints import Weights
from nas_jax.training.loop import Task

FIELD = "config.supernet.split"
FOLDER = "split"
MOST_PARTS = 64


class Part(NamedTuple):
    """A part of a split space.

    Attributes:
      name: of its folder, such as "edge0_1".
      label: for people, such as "edge0=conv3x3".
      masks: float32 [num_options] of each Choice that is split, in the order of `places`.
    """

    name: str
    label: str
    masks: tuple[np.ndarray, ...]

    def directory(self, supernet: str | Path) -> Path:
        """Return its folder in that of the supernet."""
        return Path(supernet) / FOLDER / self.name


def places(space: Space, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the Choices of these names among the leaves of `space.choices`."""
    numbers = {choice.name: d for d, choice in enumerate(jax.tree.leaves(space.choices))}
    return tuple(numbers[name] for name in names)


def parts(run: Run) -> list[Part]:
    """List the parts of `supernet.split`; none if nothing is split."""
    names, leaves = run.config.supernet.split.choices, jax.tree.leaves(run.space.choices)
    split = [leaves[d] for d in places(run.space, names)]
    numbers = itertools.product(*(range(choice.num_subsets) for choice in split))
    return [_part(run.space, split, each) for each in numbers] if names else []


def _part(space, split, numbers):
    masks = tuple(choices_lib.subsets(choice)[n] for choice, n in zip(split, numbers))
    names = (np.asarray(space.option_names(choice))[m > 0] for choice, m in zip(split, masks))
    labels = [f"{c.name}={'+'.join(on) or 'none'}" for c, on in zip(split, names)]
    folder = [f"{c.name.replace('/', '-')}_{n}" for c, n in zip(split, numbers)]
    return Part("_".join(folder), ", ".join(labels), masks)


def steps(run: Run) -> int:
    """Count the steps of a part."""
    return max(math.ceil(run.supernet_steps * run.config.supernet.split.share), 1)


def settings(run: Run) -> ConfigDict:
    """Return the section `train` of a part."""
    train = run.config.supernet.train.copy_and_resolve_references()
    train.num_steps = steps(run)
    train.base_lr *= run.config.supernet.split.lr
    return train


def task_of(run: Run, part: Part, task: Task) -> Task:
    """Make the task of training a part from that of the whole.

    The drop rates of path dropout, which rise while the whole is trained, stay what they became.
    """
    within = Within(task.sampler, places(run.space, run.config.supernet.split.choices))
    dropout = task.dropout and task.dropout.copy_and_resolve_references()
    if dropout and dropout.schedule == "linear":
        dropout.schedule = "constant"
    given = {"sampler": within, "sampler_state": part.masks, "dropout": dropout}
    return dataclasses.replace(task, name=f"supernet, {part.label}", **given)


@dataclasses.dataclass(frozen=True)
class Within:
    """The mask sampler that keeps to a part: its masks, the sampler's state, replace drawn ones.

    So all parts share one compiled step.

    Attributes:
      sampler: draws the masks.
      places: numbers of the Choices that are split.
    """

    sampler: Sampler
    places: tuple[int, ...]

    def __call__(self, key, step, groups, state, hyper):
        """Draw the masks; arguments as of the samplers in `path_samplers`."""
        leaves, treedef = jax.tree.flatten(self.sampler(key, step, groups, (), hyper))
        for d, mask in zip(self.places, state, strict=True):
            leaves[d] = jnp.broadcast_to(mask, leaves[d].shape)
        return treedef.unflatten(leaves)


def has(masks: tuple[np.ndarray, ...], places: tuple[int, ...], archs: Any) -> np.ndarray:
    """Say which architectures, masks [N, k], are of the part with these masks: bool [N]."""
    leaves = jax.tree.leaves(jax.device_get(archs))
    equal = [((leaves[d] != 0) == (m != 0)).all(-1) for d, m in zip(places, masks, strict=True)]
    return np.all(equal, 0)


def pick(run: Run, weights: Sequence[Weights], arch: str) -> Weights:
    """Return the weights that an architecture, a string, is evaluated with: those of its part.

    `weights` are those of `restoration.restore`.
    """
    split = places(run.space, run.config.supernet.split.choices)
    archs = run.space.from_strs([arch])
    return next(each for each in weights if not split or has(each.sampler_state, split, archs)[0])


def check(run: Run) -> None:
    """Check that `supernet.split` names Choices, and goes with the other fields.

    Raises: ValueError that names the field and the way out.
    """
    names = run.config.supernet.split.choices
    if not names:
        return
    leaves = jax.tree.leaves(run.space.choices)
    for name in names:
        naming.check(f"{FIELD}.choices", name, [choice.name for choice in leaves])
    if len(set(names)) < len(names):
        raise ValueError(f"{FIELD}.choices={tuple(names)} names a Choice twice")
    count = math.prod(leaves[d].num_subsets for d in places(run.space, names))
    if count > MOST_PARTS:
        raise ValueError(
            f"{FIELD}.choices={tuple(names)} makes {count:,} supernets, more than {MOST_PARTS}; "
            "name fewer Choices"
        )
    _check_others(run)


def _check_others(run):
    config = run.config
    wrong = {
        f"supernet.variant={config.supernet.variant!r}": config.supernet.variant != "none",
        "supernet.sampler='strategy'": config.supernet.sampler == "strategy",
        "sweep.score='kl'": config.sweep.score == "kl",
        "sweep.bn='running'": config.sweep.bn == "running",
    }
    for field in (field for field, is_wrong in wrong.items() if is_wrong):
        raise ValueError(
            f"config.{field} does not go with supernet.split.choices, which trains and evaluates "
            "parts of the space; change one of the two"
        )
    train, asked = config.supernet.train, config.sweep.num_checkpoints
    saved = math.ceil(steps(run) / (train.checkpoint_every or steps(run)))
    if saved < asked:
        raise ValueError(
            f"config.sweep.num_checkpoints={asked}, but a part of {steps(run)} steps with "
            f"supernet.train.checkpoint_every={train.checkpoint_every} saves {saved}; lower one of "
            "the two, or raise supernet.split.share"
        )
