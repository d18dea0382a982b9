"""Architectures that the config names, `retrain.archs`: trained by `retrain.final`, without trials.

Each has a program of its own. They are in no group, so no comparison and no correlation has them;
they lie in folders "named<seed>". With `retrain.init="supernet"` they begin with the weights that
they have in the supernet; their folders are "warm<seed>", and their result.json says so.
"""

from typing import Any

import jax
from ml_collections import ConfigDict

from nas_jax.costs import widths
from nas_jax.run import Run
from nas_jax.spaces import Space
from nas_jax.training import evaluator_names, few_shot, restoration

PROTOCOL = "final"
FOLDERS = {"random": "named", "supernet": "warm"}  # by first weights; the seed follows
FIELD = "config.retrain.archs"


def checked(config: ConfigDict, space: Space) -> tuple[str, ...]:
    """Return the architectures of a config, each once, as the space writes them.

    Raises: ValueError, in one line, if a string is none of the space, or an architecture cannot
      begin with the supernet's weights.
    """
    if config.retrain.archs and not config.retrain[PROTOCOL].num_seeds:
        raise ValueError(f"config.retrain.final.num_seeds=0 must be 1 or more to train {FIELD}")
    if config.retrain.archs and config.retrain.init == "supernet":
        _check_warm(config)
    return tuple(dict.fromkeys(_canonical(space, text) for text in config.retrain.archs))


def _check_warm(config):
    place, filters = "config.retrain.init='supernet'", tuple(config.retrain[PROTOCOL].filters)
    if {*filters} != {config.supernet.filters}:
        raise ValueError(
            f"{place}, but retrain.final.filters={filters} are not those of the supernet, "
            f"({config.supernet.filters},), whose weights they would start with; set them to it"
        )
    if any(widths.split(text)[1] for text in config.retrain.archs):
        raise ValueError(
            f"{place}, but {FIELD} has an architecture with widths of its own, for "
            "which the supernet has no weights; use retrain.init='random'"
        )
    if config.supernet.variant == "smash" or not evaluator_names.needs_supernet(config.sweep):
        raise ValueError(
            f"{place}, but with sweep.score={config.sweep.score!r} and supernet.variant="
            f"{config.supernet.variant!r} no supernet has weights of its own; use 'random'"
        )


def _canonical(space, text):
    try:
        arch, channels = widths.split(text)
        whole = space.to_str(space.from_str(arch))
        space.standalone(whole, num_classes=2, filters=1, widths=channels)  # checks widths
    except ValueError as error:
        raise ValueError(f"{FIELD}: {text!r}: {error}") from error
    return whole if channels is None else widths.join(whole, channels)


def weights(run: Run) -> dict[str, Any]:
    """Return {architecture: parameters to begin with}; {} where they are random.

    Raises: ValueError if they are those of the supernet, whose training is not finished.
    """
    if run.config.retrain.init == "random":
        return {}
    trained = jax.device_get(restoration.restore(run, run.workdir))
    return {
        text: run.space.subnet(few_shot.pick(run, trained, text).params, text)
        for text in run.config.retrain.archs
    }
