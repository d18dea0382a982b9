"""The modes export and predict of the command."""

import json
import os
import sys
from collections.abc import Sequence

import numpy as np

from nas_jax.exports import model as model_lib

MOST_CLASSES = 5  # that a line names


def predict(model: str | None, images: Sequence[str]) -> None:
    """Print a line of JSON for each image: its file, class, probability, and the likeliest classes.

    Args:
      model: the folder of an exported network.
      images: files and folders.

    Raises: ValueError if one is missing or cannot be read.
    """
    if not model:
        raise ValueError("--model is missing: the folder of an exported network")
    if not images:
        raise ValueError("no image is named: give files or folders after the flags")
    loaded = model_lib.load(model)
    try:
        _print(loaded, images)
    except BrokenPipeError:  # what reads the lines has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(loaded, images):
    for path, probabilities in loaded.predict_files(images):
        order = np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]
        names = [loaded.class_names[i] for i in order]
        top = {name: round(float(probabilities[i]), 6) for name, i in zip(names, order)}
        line = {"image": str(path), "class": names[0], "probability": top[names[0]], "top": top}
        print(json.dumps(line, ensure_ascii=False))
        sys.stdout.flush()
