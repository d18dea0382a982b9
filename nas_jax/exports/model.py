"""An exported network that is loaded, and predicts.

model = nas_jax.load("runs/digits/export/0123456789ab-final-F8-seed0")
predictions = model.predict(["a.png", "b.png"])
predictions.classes, predictions.probabilities
"""

import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nas_jax.data.records import Reading
from nas_jax.exports import about, forms
from nas_jax.exports.inputs import Preparation, files
from nas_jax.runtime import environment
from nas_jax.storage import file_paths

BATCH = 64  # images that are computed at once

logger = logging.getLogger(__name__)


class Predictions(NamedTuple):
    """What a network says of N images.

    Attributes:
      classes: the likeliest class of each, its name.
      probabilities: of all K classes, float32 [N, K].
    """

    classes: list[str]
    probabilities: np.ndarray


class Model:
    """An exported network; `load` makes it.

    Attributes:
      folder: as given, without `~`.
      about: model.json.
      class_names: one for each column of the probabilities.
    """

    def __init__(self, folder: Path):
        self.folder, self.about = folder, about.read(folder)
        self.class_names = tuple(self.about["class_names"])
        prepared = self.about["preprocessing"]
        read_as = Reading(*(prepared[name] for name in Reading._fields))
        self._preparation = Preparation(tuple(self.about["image_shape"]), read_as)

    @functools.cached_property
    def _probabilities(self):
        if forms.STABLEHLO not in self.about["files"] or not forms.has_stablehlo():
            raise ValueError(
                f"{self.folder}: {forms.STABLEHLO} needs flatbuffers, here and at its export: "
                "pip install 'nas_jax[export]'"
            )
        logits = forms.read_stablehlo(self.folder / forms.STABLEHLO)
        return jax.jit(lambda images: jax.nn.softmax(logits(images)))

    def predict(self, images: Any) -> Predictions:
        """Return the likeliest class of each image, and the probabilities of all classes.

        Args:
          images: the path of an image file; a Pillow image; an array, uint8 or floats in [0, 1],
            [N, H, W, C], [N, H, W], [H, W, C] or [H, W]; or a list of these. Images of another size
            than the network's are brought to it as the training read images.

        Raises: ValueError that names the image, if it cannot be read.
        """
        inputs = self._inputs(images)
        batches = [self._of_batch(inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
        probabilities = np.concatenate(batches)
        return Predictions([self.class_names[i] for i in probabilities.argmax(-1)], probabilities)

    def predict_files(self, images: Iterable[str | Path]) -> "Iterable[tuple[Path, np.ndarray]]":
        """Yield (file, probabilities float32 [K]) of image files and those in folders, in order.

        Raises: ValueError that names the image, file or folder that cannot be read.
        """
        paths = list(files(images))
        for first in range(0, len(paths), BATCH):
            part = paths[first : first + BATCH]
            yield from zip(part, self.predict(part).probabilities)

    def _inputs(self, images):
        """Return the inputs uint8 [N, H, W, C] of all that `predict` takes."""
        each = images if isinstance(images, list | tuple) else [images]
        if not each:
            raise ValueError("images is empty: give at least one")
        return np.concatenate([self._input(image) for image in each])

    def _input(self, image):
        from PIL import Image

        if isinstance(image, str | Path):
            path = file_paths.local(image, "images")
            if path.is_dir():
                raise ValueError(
                    f"{path} is a folder: predict_files([{str(path)!r}]) yields each file in it, "
                    "with its probabilities"
                )
            return self._preparation.read(path)[None]
        if isinstance(image, Image.Image):
            return self._preparation.of_pillow(image)[None]
        return self._preparation.of_arrays(image)

    def _of_batch(self, inputs):
        """Compute up to `BATCH` images; one program serves all numbers of them."""
        padded = np.pad(inputs, [(0, BATCH - len(inputs)), *[(0, 0)] * 3])
        return np.asarray(self._probabilities(padded))[: len(inputs)]


def load(folder: str | Path) -> Model:
    """Load an exported network, whose files must be those that were exported.

    A warning says if its export was not verified, and why.

    Raises: ValueError if the folder is none of an export, or a file is missing or was changed.
    """
    environment.start()
    model = Model(file_paths.local(folder, "model"))
    checked = model.about["verification"]
    if not checked["verified"]:
        logger.warning("model=%s is unverified: %s", model.folder, checked["why_not"])
    return model
