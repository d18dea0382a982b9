"""Tuning the widths of an architecture that was found, which the paper proposes (section 5): its
stand-alone network is trained with MorphNet's penalty, and what is left is widened uniformly.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from nas_jax.costs.widths import Widths, join
from nas_jax.run import Run
from nas_jax.runtime import distributed, rng
from nas_jax.spaces import base
from nas_jax.storage import schemas, workdir
from nas_jax.training.loop import Task, Training

logger = logging.getLogger(__name__)

GROUPS = ("tuned", "narrowed")  # of networks that cost the same


def resolve(
    selection: Mapping[str, Sequence[str]], tune: Callable[[str], Mapping]
) -> dict[str, Sequence[str]]:
    """The selection, with networks of tuned and narrowed widths for the architectures of these
    groups; `tune` is as below, from a string."""
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
    """Train the network of architecture `text` with the penalty, as `retrain.short.train` says.

    Returns:
      What widths.json in `directory` says: "tuned" and "narrowed" are networks' strings
      (`widths.join`) that cost `retrain.widths.share` of the full network or less: what is left
      and the full network, both scaled uniformly. "widths" has these and "left" and "full" by
      tensor, "costs" what they cost.

    Raises:
      ValueError: the space has no widths, or the share is too small.
      Diverged: the loss is not finite.
    """
    path, settings = directory / "widths.json", run.config.retrain.widths
    if distributed.of_lead(np.int32(path.exists())):  # else one process would train alone
        return workdir.read_json(path, schemas.WIDTHS)
    logger.info("widths  F = %d, seed %d  %s", filters, seed, text)
    full = _widths_of(run, text, filters)

    def penalty(params, usage):
        return settings.strength * full.penalty(params, threshold=settings.threshold)

    net = run.standalone(text, filters=filters, bn="batch")
    task = Task("widths", net, "train", penalty=penalty)
    state = Training(task, run.config.retrain.short.train, run.data).fit(directory, seed=seed)
    left_text, left_widths = full.read_out(state.params, settings.threshold)
    left = _widths_of(run, left_text, filters)
    row = {"arch": text, "filters": filters, "seed": seed, "resource": settings.resource}
    row |= _of_equal_cost(full, left, left_widths, settings.share)
    if distributed.is_lead():
        workdir.write_json(path, row)
    return row


def _of_equal_cost(full, left, left_widths, share):
    """Both networks, what they cost and their widths; `full` and `left` are `Widths`."""
    limit = share * full.cost(full.full)
    found = {
        "full": (full, full.full),
        "left": (left, left_widths),
        "tuned": (left, left.scaled(left_widths, limit)),
        "narrowed": (full, full.scaled(full.full, limit)),
    }
    return {
        "costs": {name: of.cost(own) for name, (of, own) in found.items()},
        "widths": {name: dict(zip(of.names, map(int, own))) for name, (of, own) in found.items()},
        **{name: join(found[name][0].text, found[name][1]) for name in GROUPS},
    }


def _widths_of(run, text, filters):
    net = run.standalone(text, filters=filters, bn="batch")
    images = jax.ShapeDtypeStruct((1, *run.data.image_shape), "float32")
    params = jax.eval_shape(net.init, rng.key(0), images)["params"]
    return Widths(
        run.space,
        text,
        base.shapes_by_path(params),
        image_size=run.data.image_shape[:2],
        resource=run.config.retrain.widths.resource,
    )
