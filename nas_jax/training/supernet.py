"""Training the one-shot model: on which architectures, and, where a strategy draws them, how it
learns meanwhile.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

import jax

from nas_jax import strategies
from nas_jax.costs import params_flops
from nas_jax.data import augment
from nas_jax.oneshot import path_dropout, path_samplers, scoring
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.storage import identity
from nas_jax.training.loop import BaseTraining, Task, Training, count_steps
from nas_jax.training.population import Population

logger = logging.getLogger(__name__)

WITHOUT = ("table", "trained")  # scores that need no supernet


def train(run: Run) -> None:
    """Train the supernet in the workdir; none where the sweep's scores need none.

    Raises: ValueError if it would leave fewer checkpoints than the sweep averages over.
    """
    config = run.config
    if config.sweep.score in WITHOUT:
        logger.info("no supernet: sweep.score=%r needs none", config.sweep.score)
        return
    settings, asked = config.supernet.train, config.sweep.num_checkpoints
    total = count_steps(settings, run.data.num_images("train"))
    saved = math.ceil(total / (settings.checkpoint_every or total))
    if saved < asked:
        raise ValueError(
            f"config.sweep.num_checkpoints={asked}, but a training of {total} steps with "
            f"checkpoint_every={settings.checkpoint_every} saves {saved}; lower one of the two"
        )
    if run.strategy.exploit or config.supernet.sampler == "strategy":
        run.constraints.check()
        if config.supernet.strategy_every > total:
            raise ValueError(
                f"config.supernet.strategy_every={config.supernet.strategy_every}, but of {total} "
                "steps: the strategy would never be told anything"
            )
    training(run).fit(run.workdir, seed=config.seed)


def training(run: Run, devices: Sequence[jax.Device] | None = None) -> BaseTraining:
    """Make the training of the supernet: alone, or as one of a population."""
    config = run.config
    task, settings = make(run, devices), config.supernet.train
    if run.strategy.exploit is None:
        return Training(task, settings, run.data, devices)
    has_r = config.supernet.sampler == "path_dropout"
    return Population(
        task,
        settings,
        run.data,
        devices,
        factors=first_policy(run),
        exploit=run.strategy.exploit,
        examine=_examining(run),
        every=config.supernet.strategy_every,
        r=config.supernet.path_dropout.r if has_r else None,
    )


def make(run: Run, devices: Sequence[jax.Device] | None = None) -> Task:
    """Make the task of training the supernet on the architectures of `supernet.sampler`.

    Args:
      run: the run.
      devices: None for all.
    """
    config, space, strategy = run.config, run.space, run.strategy
    net = run.supernet()
    if strategy.wrap:
        net = strategy.wrap(net)
    task = Task(
        name="supernet",
        net=net,
        split="train",
        init_args=lambda policy: (space.all_on(),),
        usage=space.usage,
        per_use=config.supernet.per_use_gradients,
        penalty=strategy.penalty,
        identify=functools.partial(
            identity.of,
            notes={"supernet.sampler": config.supernet.sampler},
            other_data=config.supernet.other_data,
        ),
    )
    if config.supernet.sampler != "strategy":
        return dataclasses.replace(task, **_sampling(run))
    return dataclasses.replace(
        task,
        sample_masks=functools.partial(_drawn, strategy),
        policy=first_policy(run),
        is_due=lambda step: step % config.supernet.strategy_every == 0,
        update=_updating(run, net, devices),
    )


def depends_on_strategy(run: Run) -> bool:
    """Say whether how the supernet is trained depends on `sweep.strategy`."""
    return run.strategy.trains or run.config.supernet.sampler == "strategy"


def num_members(run: Run) -> int:
    """Count the supernets that are trained at once: 1 unless the strategy trains a population."""
    if run.strategy.exploit is None:
        return 1
    return len(jax.tree.leaves(first_policy(run))[0])


def first_policy(run: Run) -> Any:
    """Make the state of a strategy that was told nothing yet."""
    key = rng.stream(rng.key(run.config.sweep.seed), "init")
    return jax.device_get(run.strategy.init(key))


def _sampling(run):
    """Of a task: masks that depend on key, step and ghost batch alone; what to log of them."""
    config, space = run.config, run.space
    dropout, train = config.supernet.path_dropout, config.supernet.train
    total = count_steps(train, run.data.num_images("train"))
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


def _updating(run, net, devices):
    """`Task.update`: a round of candidates, scored on one validation batch after the other."""
    count = scoring.counter(net, prepare=augment.standardiser(run.data), devices=devices)
    examine, strategy = _examining(run), run.strategy

    def update(step, state, root):
        policy, key = jax.device_get(state.policy), rng.stream(root, "strategy", step)
        archs, images, labels = examine(key, step, policy)
        part = distributed.part(archs, devices)
        right = count({"params": state.params}, {}, images, labels, part)
        accuracies = distributed.whole(right, devices) / len(labels)
        policy = distributed.replicate(strategy.tell(policy, archs, accuracies), devices)
        return state._replace(policy=policy), {"asked_accuracy": accuracies.mean()}

    return update


def _examining(run):
    """(key, step, policy) -> (masks [n, k], images, labels): a round of candidates, and the next
    validation batch to score them on.
    """
    sweep, every = run.config.sweep, run.config.supernet.strategy_every
    images, labels = run.data.fixed("valid", sweep.num_images)

    def examine(key, step, policy):
        size = sweep.candidates_per_batch
        archs = strategies.ask_allowed(key, run.strategy, policy, size, run.constraints.allows)
        first = step // every * sweep.batch_size % sweep.num_images
        batch = slice(first, first + sweep.batch_size)
        return archs, images[batch], labels[batch]

    return examine
