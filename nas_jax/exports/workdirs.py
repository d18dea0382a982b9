"""Workdirs whose networks are exported: their config, images and finished networks, as files say.

No config is needed, nor the images: data.json has their mean, standard deviation and classes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax import build, given, spaces
from nas_jax.config import files
from nas_jax.costs import widths
from nas_jax.data.dataset import Data
from nas_jax.data.records import SPLITS as DATA_SPLITS
from nas_jax.data.records import Reading
from nas_jax.exports import inputs
from nas_jax.nn.network import Network
from nas_jax.report import results
from nas_jax.run import count_steps
from nas_jax.runtime import rng
from nas_jax.spaces import Space, arch_id
from nas_jax.standalone.retrain import SPLITS, split_of
from nas_jax.storage import compatibility, file_paths, identity, json_files, schemas
from nas_jax.storage.checkpoints import Checkpoints


class Facts(NamedTuple):
    """What a workdir says of a data set, whose images are not read.

    Attributes:
      class_names: one for each label.
      image_shape: (H, W, C), pixels.
      mean, std: per channel, of pixels scaled to [0, 1].
      sizes: numbers of images of train, valid and test.
      fingerprint, read_as: as of `Data`.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: tuple[int, int, int]
    fingerprint: str
    read_as: Reading

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A stand-alone network of a workdir that is trained and evaluated.

    Attributes:
      path: its folder.
      protocol: "short" or "final".
      result: its result.json.
    """

    path: Path
    protocol: str
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The short name, which names the folder of its export."""
        row = self.result
        return f"{arch_id(row['arch'])}-{self.protocol}-F{row['filters']}-{self.path.name}"

    @property
    def is_of_group(self) -> bool:
        """Whether a selection group may have it; those of `retrain.archs` are in none."""
        return self.path.name.startswith("seed")

    @property
    def is_warm(self) -> bool:
        """Whether it began with the weights of a supernet."""
        return self.result.get("init") is not None

    @property
    def split(self) -> str:
        """The split that it is judged by: "valid" or "test"."""
        return SPLITS[self.protocol][1]

    @property
    def accuracy(self) -> float:
        """The accuracy that result.json names, in [0, 1]."""
        return self.result[f"{self.split}_accuracy"]


class Workdir:
    """A workdir, read.

    Args:
      directory: of the run.
      space, data: of a run that had them as objects; None: what config.json names.

    Attributes:
      directory: as given, without `~`.
      config: config.json, completed.
      space: the search space.

    Raises: ValueError if there is no run, its space cannot be made, or an argument is of another
      kind.
    """

    def __init__(self, directory: str | Path, space: Space | None = None, data: Data | None = None):
        given.check(space, data)
        self.directory = file_paths.local(directory, "workdir")
        self.config = files.of_workdir(self.directory)
        self.space = space or spaces.make(**self.config.space.to_dict())
        self._given = data

    @functools.cached_property
    def finished(self) -> list[Finished]:
        """The finished networks, by their paths."""
        paths = sorted((self.directory / "retrain").glob("*/F*/*/*/result.json"))
        return [
            Finished(path.parent, path.parents[3].name, results.read_result(path))
            for path in paths
            if path.parents[3].name in SPLITS
        ]

    @functools.cached_property
    def read_data(self) -> tuple[Data | None, str]:
        """The images of the run, or None, and why they are not there."""
        try:
            data = self._given or build.load_data(self.config.data)
        except (OSError, ValueError) as error:
            return None, f"the data set cannot be read ({' '.join(str(error).split())})"
        there = self._data_json.get("fingerprint", data.fingerprint)
        if not compatibility.same_images(there, data.fingerprint):
            return None, "the data set has changed since the run"
        return data, ""

    @functools.cached_property
    def _data_json(self):
        path = self.directory / "data.json"
        return json_files.read_json(path, schemas.DATA) if path.exists() else {}

    @functools.cached_property
    def facts(self) -> Facts:
        """What the workdir says of the images.

        Raises: ValueError if an early version wrote data.json, and the images cannot be read.
        """
        there = self._data_json
        if not {"class_names", "image_shape", "mean", "std", "sizes"} <= set(there):
            data, why = self.read_data
            if data is None:
                raise ValueError(
                    f"{self.directory}/data.json is of an earlier version, without classes, mean "
                    f"and std, and {why}"
                )
            there = {**data.facts(), "fingerprint": data.fingerprint}
        sizes = tuple(there["sizes"][split] for split in DATA_SPLITS)
        lists = (tuple(there[n]) for n in ("class_names", "image_shape", "mean", "std"))
        return Facts(*lists, sizes, there["fingerprint"], self._read_as(there, sum(sizes)))

    def _read_as(self, there, num_images):
        if "read_as" in there:
            return Reading(**there["read_as"])
        data, _ = self.read_data
        if data is not None:
            return data.read_as
        return inputs.of_former(self.config.data, there["image_shape"], num_images)

    def network(self, finished: Finished) -> Network:
        """Make the module of a network, which normalises with running statistics."""
        text, channels = widths.split(finished.result["arch"])
        return self.space.standalone(
            text,
            num_classes=self.facts.num_classes,
            filters=finished.result["filters"],
            widths=channels,
            bn="running",
            **build.network_options(self.config)._asdict(),
        )

    def variables(self, finished: Finished, net: Network) -> dict[str, Any]:
        """Read the params and batch_stats with which a network was evaluated, as NumPy arrays.

        Raises: ValueError if its last checkpoint is missing, damaged or of another network.
        """
        folder = finished.path / "checkpoints"
        if not folder.is_dir():
            raise ValueError(f"{folder} is missing: the network cannot be read")
        shapes = jax.eval_shape(
            net.init, rng.key(0), np.zeros((1, *self.facts.image_shape), np.float32)
        )
        with Checkpoints(folder, identity=identity.of(net, self.facts)) as checkpoints:
            total = self._total(finished)
            if checkpoints.latest != total:
                raise ValueError(
                    f"{folder} has no checkpoint of step {total}, the last of the training (its "
                    f"last: {checkpoints.latest})"
                )
            return checkpoints.variables(total, shapes)

    def _total(self, finished):
        sizes = dict(zip(DATA_SPLITS, self.facts.sizes))
        num_images = sum(
            sizes[split] for split in split_of(self.config, finished.protocol).split("+")
        )
        return count_steps(self.config.retrain[finished.protocol].train, num_images)
