"""The weights that the supernet's training left, read without building the training."""

from pathlib import Path

import jax

from nas_jax.run import Run
from nas_jax.runtime import rng
from nas_jax.spaces.params import params_shape
from nas_jax.storage.checkpoints import Weights
from nas_jax.storage.trained import Trained
from nas_jax.training import few_shot, population


def restore(
    run: Run, directory: str | Path, last: int = 1, step: int | None = None
) -> list[Weights]:
    """Read the weights of a trained supernet; of a population, those of the best member.

    Of few-shot supernets these are the weights of all parts, each with the part's masks as
    `sampler_state`.

    Args:
      run: the run.
      directory: of the supernet.
      last: how many of the last checkpoints to read. The list begins with the final one.
      step: of the one checkpoint to read instead; None: `last` decides.

    Raises: ValueError if the training is not finished, or has no such checkpoint.
    """
    if split := few_shot.parts(run):
        return [each for part in split for each in _of_part(run, part, directory, last, step)]
    return whole(run, directory, last, step)


def whole(run: Run, directory: str | Path, last: int = 1, step: int | None = None) -> list[Weights]:
    """Do as `restore`; of few-shot supernets read the one before they were split."""
    net, total, selection = run.supernet(), run.supernet_steps, run.variant.selection
    identity = run.supernet_identity(net)
    params, sampler_state = params_shape(net, run.data.image_shape), {}
    if run.config.supernet.sampler == "strategy":
        sampler_state = jax.eval_shape(run.strategy.init, rng.key(0))
    if run.variant.relaxation:
        sampler_state = jax.eval_shape(run.variant.relaxation.init, rng.key(0))
    if selection:
        params, sampler_state = population.shapes_of_members(selection, params)
    trained = Trained(directory, "supernet", total, identity, params, sampler_state)
    weights = trained.last(last) if step is None else [trained.at(step)]
    return list(map(population.best_member, weights)) if selection else weights


def _of_part(run, part, directory, last, step):
    net, name = run.supernet(), "supernet"
    params = params_shape(net, run.data.image_shape)
    given = part.directory(directory), name, few_shot.steps(run), run.supernet_identity(net)
    trained = Trained(*given, params, part.masks)
    return trained.last(last) if step is None else [trained.at(step)]
