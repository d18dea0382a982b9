"""The identity of a checkpoint: facts that give its arrays their meaning, but have no shape.

Names and shapes of arrays do not show ops without parameters, the order of the ops, how batch norm
is computed, or which class an output stands for. So a checkpoint stores these in words.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_jax import plugins
from nas_jax.storage import compatibility

logger = logging.getLogger(__name__)

MOST_ITEMS = 20  # a message shows lists of up to so many whole
# Fields of a network that change its function; `execution` and `dtype` change only rounding.
NETWORK = ("bn_epsilon", "relu_before_bn")


@dataclasses.dataclass(frozen=True)
class Identity:
    """The network and the images that a training's checkpoints belong to.

    Attributes:
      network: {field of the config: value} of the search space and the network, the architecture of
        a stand-alone network, and the classes.
      images: fingerprint of the data set.
      notes: {field of the config: value} of fields that may differ, with a warning.
      other_data: whether the images may differ.
    """

    network: Mapping[str, Any]
    images: str
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    other_data: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the identity as a checkpoint stores it: plain data, as read back from JSON."""
        kept = {"network": dict(self.network), "images": self.images, "notes": dict(self.notes)}
        return json.loads(json.dumps(kept))

    def check(self, path: str | Path, there: Mapping[str, Any] | None) -> None:
        """Compare with `there`, the identity that the checkpoint at `path` stores.

        `there` is None for a checkpoint of an earlier version, which stores none; then only warn.

        Raises: ValueError that names the field, if the network, the classes or the images differ.
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
        same = compatibility.same_images(there.get("images"), self.images)
        if not same and not self.other_data:
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
        **{f"space.{name}": plugins.plain(value) for name, value in space.items()},
        **{f"network.{name}": getattr(net, name) for name in NETWORK},
        "architecture": net.arch,
        "number of classes": data.num_classes,
        "names of classes": data.class_names,
    }
    return Identity(network, data.fingerprint, **kept)


def _difference(name, was, now):
    """Say in words how a field differs; for long lists, name the first item that differs."""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now) > MOST_ITEMS:
        number = next(i for i, pair in enumerate(zip(was, now)) if pair[0] != pair[1])
        name, was, now = f"number {number} of {name}", was[number], now[number]
    return f"{name} is {was!r} there and {now!r} here"


def _differing(there, here):
    """Yield (field, value there, value here) of fields that differ.

    A field that a checkpoint lacks has the value of `compatibility.ABSENT`.
    """
    for name in [*here, *(name for name in there if name not in here)]:
        was = there.get(name, compatibility.ABSENT.get(name, "absent"))
        now = here.get(name, "absent")
        if was != now:
            yield name, was, now
