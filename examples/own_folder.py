"""Search on a folder of your own images: python own_folder.py [FOLDER]

FOLDER has a folder of images for each class. Without one, drawings of three shapes are made. The
same by the command: nas-jax --config=digits --config.data.name=folder:FOLDER --workdir=runs/own
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import nas_jax

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "space.num_cells": 1,
    "space.num_blocks": 1,
    "supernet.train.num_steps": 50,
    "sweep.num_candidates": 32,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}


def draw_shapes(folder: Path, count: int = 100) -> None:
    """Draw `count` circles, crosses and squares, 24x24 pixels each, at random places."""
    rng = np.random.default_rng(0)
    for shape in ("circle", "cross", "square"):
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 128, (24, 24, 3), np.uint8))
            draw, (left, top) = ImageDraw.Draw(image), rng.integers(1, 11, 2).tolist()
            box = (left, top, left + 11, top + 11)
            if shape == "circle":
                draw.ellipse(box, outline="orange", width=2)
            elif shape == "square":
                draw.rectangle(box, outline="orange", width=2)
            else:
                draw.line(box, fill="orange", width=2)
                draw.line((left, top + 11, left + 11, top), fill="orange", width=2)
            image.save(folder / shape / f"{number:03d}.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("shapes")
    if not folder.exists():
        draw_shapes(folder)
    fields = QUICK | {"data.name": f"folder:{folder}"}
    found = nas_jax.search("digits", workdir="runs/own_folder", fields=fields)
    print(repr(found.best), found.paths["report"], sep="\n")
