"""What a checkpoint is of: what has no shape of its own, and yet decides what its arrays mean.

Names and shapes of arrays say nothing of ops without parameters, of their order, of how batch norm
is computed, or of which class an output stands for. So a checkpoint says it in words.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_jax.storage import compatibility

logger = logging.getLogger(__name__)

MOST_ITEMS = 20  # of a list that a message shows whole
NETWORK = ("bn_epsilon", "relu_before_bn")  # of the network; not `execution`, not `dtype`


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a training's checkpoints are of.

    Attributes:
      network: {field of the config: value} of the search space and the network, the architecture of
        a stand-alone network, and the classes.
      images: fingerprint of the data set.
      notes: {field of the config: value} of what may differ, and is then said.
      other_data: whether other images are fine.
    """

    network: Mapping[str, Any]
    images: str
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    other_data: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give what a checkpoint carries: plain data, as JSON gives it back."""
        kept = {"network": dict(self.network), "images": self.images, "notes": dict(self.notes)}
        return json.loads(json.dumps(kept))

    def check(self, path: str | Path, there: Mapping[str, Any] | None) -> None:
        """Compare with what the checkpoint at `path` carries; None: it was saved without.

        Raises: ValueError that names the field, if it is of another network, of other classes, or
          of other images.
        """
        if there is None:
            logger.warning(
                "checkpoint %s was saved by an earlier version and does not say what it is of: "
                "only names and shapes of its arrays are compared",
                path,
            )
            return
        here = self.to_json()
        for name, was, now in _differing(there.get("network", {}), here["network"]):
            raise ValueError(
                f"checkpoint {path} is of another network: {_difference(name, was, now)}; use it "
                "with a config that has it as it is there, or train anew, in another --workdir"
            )
        if there.get("images") != self.images and not self.other_data:
            raise ValueError(
                f"checkpoint {path} was trained on other images; to use it on these, set "
                "--config.supernet.other_data=True"
            )
        for name, was, now in _differing(there.get("notes", {}), here["notes"]):
            logger.warning("checkpoint %s was trained with %s=%r, not %r", path, name, was, now)


def of(net: Any, data: Any, **kept: Any) -> Identity:
    """Identify a network on a data set.

    Args:
      net: a `network.Network`.
      data: a `data.Data`.
      **kept: `notes` and `other_data` of `Identity`.
    """
    space = {field.name: getattr(net.space, field.name) for field in dataclasses.fields(net.space)}
    network = {
        "space": type(net.space).__name__,
        **{f"space.{name}": value for name, value in space.items()},
        **{f"network.{name}": getattr(net, name) for name in NETWORK},
        "architecture": net.arch,
        "number of classes": data.num_classes,
        "names of classes": data.class_names,
    }
    return Identity(network, data.fingerprint, **kept)


def _difference(name, was, now):
    """In words; of lists that are long, the first item that differs."""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now) > MOST_ITEMS:
        number = next(i for i, pair in enumerate(zip(was, now)) if pair[0] != pair[1])
        name, was, now = f"number {number} of {name}", was[number], now[number]
    return f"{name} is {was!r} there and {now!r} here"


def _differing(there, here):
    """A field that did not exist then had the value of `compatibility.ABSENT`."""
    for name in [*here, *(name for name in there if name not in here)]:
        was = there.get(name, compatibility.ABSENT.get(name, "absent"))
        now = here.get(name, "absent")
        if was != now:
            yield name, was, now
