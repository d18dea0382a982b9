"""Width tuning of a stand-alone network after the search, which the paper proposes (section 5).

The network is trained with MorphNet's penalty; the channels that are left are widened uniformly.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nas_jax.costs.widths import Widths, join
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import params as params_lib
from nas_jax.storage import json_files, schemas
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

GROUPS = ("tuned", "narrowed")  # networks of equal cost


def resolve(
    selection: Mapping[str, Sequence[str]], tune: Callable[[str], Mapping]
) -> dict[str, Sequence[str]]:
    """Replace the architectures of the groups "tuned" and "narrowed" by networks of such widths.

    Args:
      selection: architectures of each group.
      tune: (architecture) -> the row that `tune` of this module returns.
    """
    resolved = {group: [tune(text)[group] for text in selection[group]] for group in GROUPS}
    return {**selection, **resolved}


def tune(
    run: Run,
    directory: Path,
    text: str,
    *,
    filters: int,
    seed: int,
) -> dict:
    """Train the network of an architecture with the penalty, by `retrain.short.train`.

    Args:
      run: the run.
      directory: gets the training and widths.json; it is not trained again if the file is there.
      text: the architecture.
      filters: channels of the first stage of the full network.
      seed: of the training.

    Returns:
      The row of widths.json. "tuned" and "narrowed" are strings of networks (`widths.join`) that
      cost at most `retrain.widths.share` of the full network: the network that is left, and the
      full one, both scaled uniformly. "widths" has the channels of each tensor, and "costs" the
      cost, of "full", "left", "tuned" and "narrowed".

    Raises:
      ValueError: the space has no widths, or the share is too small.
      Diverged: the loss is not finite.
    """
    path, settings = directory / "widths.json", run.config.retrain.widths
    if distributed.of_lead(np.int32(path.exists())):  # all processes train, or none
        return json_files.read_json(path, schemas.WIDTHS)
    logger.info("widths  F = %d, seed %d  %s", filters, seed, text)
    full = _widths_of(run, text, filters)

    def penalty(params, usage):
        return settings.strength * full.penalty(params, threshold=settings.threshold)

    net = run.standalone(text, filters=filters, bn="batch")
    task = Task("widths", net, "train", penalty=penalty)
    state = Training(task, run.config.retrain.short.train, run.data).fit(directory, seed=seed)
    left_text, left_widths = full.read_out(state.variables["params"], settings.threshold)
    left = _widths_of(run, left_text, filters)
    row = {"arch": text, "filters": filters, "seed": seed, "resource": settings.resource}
    row |= _of_equal_cost(full, left, left_widths, settings.share)
    if distributed.is_lead():
        json_files.write_json(path, row)
    return row


def _of_equal_cost(full, left, left_widths, share):
    """Scale both networks to the same cost: their strings, costs and widths.

    `full` and `left` are `Widths`.
    """
    limit = share * full.cost(full.full)
    networks = {
        "full": (full, full.full),
        "left": (left, left_widths),
        "tuned": (left, left.scaled(left_widths, limit)),
        "narrowed": (full, full.scaled(full.full, limit)),
    }
    return {
        "costs": {name: of.cost(channels) for name, (of, channels) in networks.items()},
        "widths": {
            name: dict(zip(of.names, map(int, channels)))
            for name, (of, channels) in networks.items()
        },
        **{name: join(networks[name][0].text, networks[name][1]) for name in GROUPS},
    }


def _widths_of(run, text, filters):
    net = run.standalone(text, filters=filters, bn="batch")
    params = params_lib.params_shape(net, run.data.image_shape)
    return Widths(
        run.space,
        text,
        params_lib.shapes_by_path(params),
        image_size=run.data.image_shape[:2],
        resource=run.config.retrain.widths.resource,
    )
