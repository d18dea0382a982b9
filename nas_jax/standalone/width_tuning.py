"""Width tuning of a stand-alone network after the search, which the paper proposes (section 5).

It is MorphNet (Gordon et al., CVPR 2018, algorithm 1): the network is trained with a penalty, and
the channels that are left are widened uniformly to a share of the cost. In another round the
widened network is shrunk and widened again.

Differs from MorphNet's paper in:

- An option of which no channel is left vanishes; the paper keeps the topology.
- The penalty is a share of the cost of the network that the round begins with.
- Every round trains from new weights, by `retrain.short.train`, which may lower the learning rate.
  The published code advises a constant one.
- The final projection has no batch norm behind it. Its width is scaled, never shrunk.
- `nas_jax.costs.widths` lists what differs in the penalty.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from nas_jax.costs.widths import Widths, join
from nas_jax.run import Run
from nas_jax.runtime import distributed
from nas_jax.spaces import Space
from nas_jax.spaces import params as params_lib
from nas_jax.standalone import together
from nas_jax.storage import json_files, schemas
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

GROUPS = ("tuned", "narrowed")  # networks of equal cost


def check(config: ConfigDict, space: Space) -> None:
    """Check that networks have widths if widths are to be tuned.

    Raises: ValueError if they have none, or are to be trained together.
    """
    for protocol in ("short", "final"):
        groups = config.retrain[protocol].groups
        if together.tunes_widths(config, protocol):
            if config.retrain.compile == "together":
                raise ValueError(
                    f"config.retrain.compile='together', but retrain.{protocol}.groups.tuned="
                    f"{groups.tuned} and .narrowed={groups.narrowed}: networks with widths of "
                    "their own have programs of their own; use 'each' or 'auto'"
                )
            try:
                space.layers(space.to_str(space.all_on()))
            except ValueError as error:
                raise ValueError(
                    f"config.retrain.{protocol}.groups.tuned={groups.tuned}, .narrowed="
                    f"{groups.narrowed}: {error}; set both to 0"
                ) from error


def resolve(
    run: Run,
    selection: Mapping[str, Sequence[str]],
    filters: int,
    tune: Callable[[str], Mapping],
) -> dict[str, Sequence[str]]:
    """Replace the architectures of the groups "tuned" and "narrowed" by networks of such widths.

    Only "tuned" takes trainings.

    Args:
      run: the run.
      selection: architectures of each group.
      filters: channels of the first stage of the full networks.
      tune: (architecture) -> the row that `tune` of this module returns.
    """
    resolved = {
        "tuned": [tune(text)["tuned"] for text in selection["tuned"]],
        "narrowed": [_string(_narrowed(run, text, filters)) for text in selection["narrowed"]],
    }
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
      directory: gets the trainings and widths.json; nothing is trained again if that is there.
      text: the architecture.
      filters: channels of the first stage of the full network.
      seed: of the training.

    Returns:
      The row of widths.json. "tuned" and "narrowed" are strings of networks (`widths.join`) that
      cost at most `retrain.widths.share` of the full network: the network that is left, and the
      full one, both scaled uniformly. "widths" has the channels of each tensor, and "costs" the
      cost, of "full", "left", "tuned" and "narrowed". If there are several rounds, "left" and
      "tuned" are those of the last, and "rounds" has those of each.

    Raises:
      ValueError: the space has no widths, the share is too small, or there are no latencies.
      Diverged: the loss is not finite.
    """
    path, settings = directory / "widths.json", run.config.retrain.widths
    if distributed.of_lead(np.int32(path.exists())):  # all processes train, or none
        return json_files.read_json(path, schemas.WIDTHS)
    full, narrow = _narrowed(run, text, filters)
    limit = settings.share * full.cost(full.full)
    rounds = list(_rounds(run, directory, full, limit, filters, seed))
    networks = {"full": (full, full.full), **rounds[-1], "narrowed": (full, narrow)}
    row = {"arch": text, "filters": filters, "seed": seed, "resource": settings.resource}
    row |= _described(networks) | {group: _string(networks[group]) for group in GROUPS}
    if len(rounds) > 1:
        row["rounds"] = [_described(each) | {"tuned": _string(each["tuned"])} for each in rounds]
    if distributed.is_lead():
        json_files.write_json(path, row)
    return row


def _narrowed(run, text, filters):
    """Return the `Widths` of a full network, and its widths scaled uniformly to the share."""
    full = _widths_of(run, text, filters)
    share = run.config.retrain.widths.share
    return full, full.scaled(full.full, share * full.cost(full.full))


def _rounds(run, directory, full, limit, filters, seed):
    """Yield for each round {"left", "tuned": (`Widths`, widths [T])}; `full` are the first's."""
    now, channels = full, None
    for number in range(1, run.config.retrain.widths.rounds + 1):
        logger.info("widths  F = %d, seed %d, round %d  %s", filters, seed, number, now.text)
        net = run.standalone(now.text, filters=filters, widths=channels, bn="batch")
        folder = directory if number == 1 else directory / f"round{number}"
        left_text, left_widths = _shrunk(run, folder, net, now, seed)
        left = _widths_of(run, left_text, filters)
        channels = left.scaled(left_widths, limit)
        yield {"left": (left, left_widths), "tuned": (left, channels)}
        now = left.with_widths(channels)


def _shrunk(run, directory, net, of, seed):
    """Train a network with the penalty; return what is left of it: architecture and widths.

    `of` are its `Widths`.
    """
    settings = run.config.retrain.widths

    def penalty(params, usage):
        return settings.strength * of.penalty(params, threshold=settings.threshold)

    task = Task("widths", net, "train", penalty=penalty)
    state = Training(task, run.config.retrain.short.train, run.data).fit(directory, seed=seed)
    return of.read_out(state.variables["params"], settings.threshold)


def _described(networks):
    """Return the costs and, by tensor, the widths of networks {name: (`Widths`, widths [T])}."""
    return {
        "costs": {name: of.cost(channels) for name, (of, channels) in networks.items()},
        "widths": {
            name: dict(zip(of.names, map(int, channels)))
            for name, (of, channels) in networks.items()
        },
    }


def _string(network):
    of, channels = network
    return join(of.text, channels)


def _widths_of(run, text, filters):
    net = run.standalone(text, filters=filters, bn="batch")
    params = params_lib.params_shape(net, run.data.image_shape)
    resource = run.config.retrain.widths.resource
    is_timed = resource == "latency_ms"
    return Widths(
        run.space,
        text,
        params_lib.shapes_by_path(params),
        image_size=run.data.image_shape[:2],
        resource=resource,
        latencies=run.constraints.latency_per_option() if is_timed else None,
    )
