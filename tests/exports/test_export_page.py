"""The code and the commands of docs/howto/export.md run as they stand, on a small run."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_jax.data.records import FOLDER_READ
from nas_jax.exports import inputs
from tests import launching
from tests.exports import finished

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "export.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def _check_reading(names):
    """The page's function makes the pixels that a network of a folder of images gets."""
    assert (names["size"], names["channels"]) == (8, 1)  # as model.json says
    for channels in (1, 3):
        names["channels"] = channels
        for size in ((8, 8), (16, 24), (21, 30)):  # as it is; by blocks; bilinearly
            pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save("own.png")
            wanted = inputs.Preparation((8, 8, channels), FOLDER_READ).read(Path("own.png"))
            np.testing.assert_array_equal(names["read_image"]("own.png"), wanted)


def test_code_and_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "model", raising=False)
    finished.make(Path("runs/digits"), {"final": [finished.CELL]})
    Path("images").mkdir()
    for name in ("a", "b"):
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(f"images/{name}.png")
    export, predict = (shlex.split(block)[2:] for block in blocks("bash")[:2])
    assert launching.main(*export) == (0, "")
    names = {}
    for block in blocks("python"):
        exec(compile(block, "docs/howto/export.md", "exec"), names)
    assert names["folder"] == Path("network")
    finished.assert_same(
        np.asarray(names["logits"]),
        np.asarray(names["module"].apply(names["variables"], names["images"])),
    )
    _check_reading(names)
    capsys.readouterr()
    assert launching.main(*predict) == (0, "")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('"')[3] for line in lines] == ["images/a.png", "images/b.png"]
    sys.modules.pop("model", None)
