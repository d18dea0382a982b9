"""docs/howto/recipes.md: its file is a search, from supernet to report."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from nas_jax import pipeline, spaces
from nas_jax.costs import latency_table
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny

PAGE = (Path(__file__).parents[1] / "docs" / "howto" / "recipes.md").read_text(encoding="utf-8")
SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "MINE.py").write_text("\n\n".join(blocks))
    return tmp_path


RECIPE = {
    "optimizer": "MINE.py:lamb",
    "base_lr": 0.3,
    "loss": "MINE.py:poly",
    "augment.fn": "MINE.py:brightness",
    "augment.mixup": 0.2,
    "ema": 0.9,
}


@pytest.mark.system
@pytest.mark.parametrize("evaluator", ["cheap", "small_logits", "accuracy"])
def test_the_parts_of_the_page_search(folder, evaluator):
    config = tiny.get_config()
    own = evaluator != "accuracy"
    fields = trainings.SMALL | {
        "sweep.score": f"MINE.py:{evaluator}" if own else evaluator,
        "sweep.strategy": "MINE.py:Climb",
        "sweep.options": (("share", 0.7),),
        "sweep.num_candidates": 16,
        "sweep.latency.table": "MINE.py:phone",
        "supernet.sampler": "MINE.py:half",
        "retrain.final.groups.top": 0 if own else 1,
        **{f"supernet.train.{name}": value for name, value in RECIPE.items()},
        **{f"retrain.short.train.{name}": value for name, value in RECIPE.items()},
    }
    config.update_from_flattened_dict(fields)
    pipeline.run(config, "search", folder / "run")
    rows = json_files.read_trials(folder / "run" / "trials.jsonl")
    for row in rows:
        on = sum(float(np.sum(mask)) for mask in jax.tree.leaves(SPACE.from_str(row["arch"])))
        assert row["latency_ms"] == pytest.approx(1.2 + 0.1 * on)
        assert evaluator != "cheap" or row["value"] == -row["params"]
    assert (folder / "run" / "checkpoints").exists() == (evaluator != "cheap")
    assert "`MINE.py:phone`" in (folder / "run" / "report" / "report.md").read_text()


def test_the_table_of_the_page_names_what_a_space_has(folder):
    names = [choice.name for choice in jax.tree.leaves(SPACE.choices)]
    assert re.search(r"^(\S+),sep3x3,0.31$", PAGE, re.M)[1] in names
    assert latency_table.read(SPACE, "MINE.py:phone")[None] == 1.2
