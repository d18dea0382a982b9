"""Training the one-shot model: on which architectures, and, where a strategy draws them, how it
learns meanwhile.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax import strategies
from nas_jax.costs import params_flops
from nas_jax.costs.constraints import Constraints
from nas_jax.data import augment, dataset
from nas_jax.nn.network import network_options
from nas_jax.oneshot import path_dropout, path_samplers, scoring
from nas_jax.runtime import distributed, rng
from nas_jax.spaces import Space
from nas_jax.storage import file_paths, identity
from nas_jax.training.loop import BaseTraining, Task, Training, count_steps
from nas_jax.training.population import Population

logger = logging.getLogger(__name__)

WITHOUT = ("table", "trained")  # scores that need no supernet


def run(config: ConfigDict, space: Space, data: dataset.Data, directory: str | Path) -> None:
    """Train the supernet in `directory`; none where the sweep's scores need none.

    Raises: ValueError if it would leave fewer checkpoints than the sweep averages over.
    """
    directory = file_paths.local(directory, "directory")
    if config.sweep.score in WITHOUT:
        logger.info("no supernet: sweep.score=%r needs none", config.sweep.score)
        return
    train, asked = config.supernet.train, config.sweep.num_checkpoints
    total = count_steps(train, data.num_images("train"))
    saved = math.ceil(total / (train.checkpoint_every or total))
    if saved < asked:
        raise ValueError(
            f"config.sweep.num_checkpoints={asked}, but a training of {total} steps with "
            f"checkpoint_every={train.checkpoint_every} saves {saved}; lower one of the two"
        )
    strategy, constraints = training_strategy(config, space), None
    if strategy and (strategy.exploit or config.supernet.sampler == "strategy"):
        constraints = Constraints(config, space, data, directory)
        if config.supernet.strategy_every > total:
            raise ValueError(
                f"config.supernet.strategy_every={config.supernet.strategy_every}, but of {total} "
                "steps: the strategy would never be told anything"
            )
    training(config, space, data, constraints).fit(directory, seed=config.seed)


def training(
    config: ConfigDict,
    space: Space,
    data: dataset.Data,
    constraints: Constraints | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> BaseTraining:
    """How the one-shot model of `make` is trained: alone, or as one of a population."""
    task, train = make(config, space, data, constraints, devices), config.supernet.train
    strategy = training_strategy(config, space, constraints)
    if strategy is None or strategy.exploit is None:
        return Training(task, train, data, devices)
    has_r = config.supernet.sampler == "path_dropout"
    return Population(
        task,
        train,
        data,
        devices,
        factors=first_policy(config, strategy),
        exploit=strategy.exploit,
        examine=_examining(config, strategy, data, constraints),
        every=config.supernet.strategy_every,
        r=config.supernet.path_dropout.r if has_r else None,
    )


def make(
    config: ConfigDict,
    space: Space,
    data: dataset.Data,
    constraints: Constraints | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Task:
    """The one-shot model, trained on the architectures of `supernet.sampler`.

    Args:
      config, space, data: of the run.
      constraints: what the sampler "strategy" is told of; to restore they are not needed.
      devices: None for all.
    """
    strategy = training_strategy(config, space, constraints)
    net = space.supernet(
        num_classes=data.num_classes,
        filters=config.supernet.filters,
        **network_options(config, "batch"),
    )
    if strategy and strategy.wrap:
        net = strategy.wrap(net)
    task = Task(
        name="supernet",
        net=net,
        split="train",
        init_args=lambda policy: (space.all_on(),),
        usage=space.usage,
        per_use=config.supernet.per_use_gradients,
        penalty=strategy and strategy.penalty,
        identify=functools.partial(
            identity.of,
            notes={"supernet.sampler": config.supernet.sampler},
            other_data=config.supernet.other_data,
        ),
    )
    if config.supernet.sampler != "strategy":
        return dataclasses.replace(task, **_sampling(config, space, data))
    return dataclasses.replace(
        task,
        sample_masks=functools.partial(_drawn, strategy),
        policy=first_policy(config, strategy),
        is_due=lambda step: step % config.supernet.strategy_every == 0,
        update=_updating(config, strategy, net, data, constraints, devices),
    )


def make_strategy(
    config: ConfigDict, space: Space, constraints: Constraints | None, **told: Any
) -> strategies.Strategy:
    """The strategy of `sweep.strategy`, compiled; `told` is of `strategies.TOLD`."""
    sweep = config.sweep
    if constraints is not None:
        told["costs"] = constraints.costs
    return strategies.compiled(strategies.make(sweep.strategy, space, sweep.options, **told))


def training_strategy(
    config: ConfigDict, space: Space, constraints: Constraints | None = None
) -> strategies.Strategy | None:
    """The strategy of `sweep.strategy` if how the supernet is trained depends on it, else None."""
    if config.sweep.strategy == "exhaustive":  # it has to be told of what to ask for
        return None
    strategy = make_strategy(config, space, constraints)
    return strategy if strategy.trains or config.supernet.sampler == "strategy" else None


def num_members(config: ConfigDict, space: Space) -> int:
    """Supernets that are trained at once: 1 unless the strategy trains a population."""
    strategy = training_strategy(config, space)
    if strategy is None or strategy.exploit is None:
        return 1
    return len(jax.tree.leaves(first_policy(config, strategy))[0])


def first_policy(config: ConfigDict, strategy: strategies.Strategy) -> Any:
    """The state of a strategy that was told nothing yet."""
    return jax.device_get(strategy.init(rng.stream(rng.key(config.sweep.seed), "init")))


def _sampling(config, space, data):
    """Of a task: masks that depend on key, step and ghost batch alone; what to log of them."""
    dropout, train = config.supernet.path_dropout, config.supernet.train
    total = count_steps(train, data.num_images("train"))
    make_sampler = functools.partial(
        path_samplers.make,
        config.supernet.sampler,
        space.choices,
        num_steps=total,
        num_groups=train.batch_size // train.ghost_batch_size,
        extremes=_extremes(config, space),
        schedule=dropout.schedule,
        rescale=dropout.rescale,
    )

    def sample(key, step, groups, policy):
        r = path_dropout.tuned(dropout.r, policy["r"]) if "r" in policy else dropout.r
        return make_sampler(r=r)(key, step, groups)

    def known(step):
        if config.supernet.sampler != "path_dropout":
            return {}
        return {"drop_share": float(path_dropout.ramp(step - 1, total, dropout.schedule))}

    return {"sample_masks": sample, "known": known}


def _extremes(config, space):
    """The largest and the smallest architecture, where they are sampled."""
    if config.supernet.sampler != "sandwich":
        return None
    return params_flops.extremes(space, config.supernet.filters)


def _drawn(strategy, key, step, groups, policy):
    """Masks [G, k] that the strategy asks for, one for each ghost batch, within limits or not."""

    def one(key):
        return jax.tree.map(lambda mask: mask[0], strategy.ask(key, policy, 1))

    return jax.vmap(one)(rng.each(jax.random.fold_in(key, step), groups))


def _updating(config, strategy, net, data, constraints, devices):
    """`Task.update`: a round of candidates, scored on one validation batch after the other."""
    count = scoring.counter(net, prepare=augment.standardiser(data), devices=devices)
    examine = _examining(config, strategy, data, constraints)

    def update(step, state, root):
        policy, key = jax.device_get(state.policy), rng.stream(root, "strategy", step)
        archs, images, labels = examine(key, step, policy)
        part = distributed.part(archs, devices)
        right = count({"params": state.params}, {}, images, labels, part)
        accuracies = distributed.whole(right, devices) / len(labels)
        policy = distributed.replicate(strategy.tell(policy, archs, accuracies), devices)
        return state._replace(policy=policy), {"asked_accuracy": accuracies.mean()}

    return update


def _examining(config, strategy, data, constraints):
    """(key, step, policy) -> (masks [n, k], images, labels): a round of candidates, and the next
    validation batch to score them on.
    """
    sweep = config.sweep
    images, labels = data.fixed("valid", sweep.num_images)

    def examine(key, step, policy):
        size = sweep.candidates_per_batch
        archs = strategies.ask_allowed(key, strategy, policy, size, constraints.allows)
        first = step // config.supernet.strategy_every * sweep.batch_size % sweep.num_images
        batch = slice(first, first + sweep.batch_size)
        return archs, images[batch], labels[batch]

    return examine
