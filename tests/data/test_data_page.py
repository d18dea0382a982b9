"""The code of the page on data runs as it stands; its commands run too, with a shorter training."""

import re
import shlex
from pathlib import Path

import pytest

from nas_jax.storage import json_files
from tests import launching

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "data.md").read_text(encoding="utf-8")
SHORT = (
    *("--mode=supernet", "--config.supernet.train.num_steps=2"),
    "--config.supernet.train.ghost_batch_size=8",  # the tests have eight devices
    *("--config.space.num_cells=1", "--config.space.num_blocks=1"),
    "--config.space.ops=('identity','sep3x3')",
)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_code_and_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("python"):
        exec(compile(block, "docs/howto/data.md", "exec"), names)
    own = names["own"]
    assert (own.sizes, own.image_shape, own.num_classes) == ((200, 50, 50), (24, 24, 1), 7)
    assert len(list(Path("shapes").rglob("*.png"))) == 600
    commands = [shlex.split(block.replace("\\\n", " ")) for block in blocks("bash")]
    own_sets = [words[2:] for words in commands if words[:2] == ["python", "launch.py"]]
    assert len(own_sets) == 3
    sizes = []
    for number, words in enumerate(own_sets):
        words = [word.replace("=configs/", f"={ROOT}/configs/") for word in words]
        ended = launching.main(*words, *SHORT, f"--workdir=run{number}")
        assert ended == (0, "")
        sizes.append(json_files.read_json(Path(f"run{number}/data.json"))["sizes"])
    assert [tuple(found.values()) for found in sizes] == [
        (360, 120, 120),
        (300, 150, 150),
        (180, 60, 60),
    ]
