"""A space, an op and images that nobody configured: search, widths, costs, and resuming."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import spaces
from nas_jax.candidates import sweep
from nas_jax.costs import params_flops
from nas_jax.data import dataset
from nas_jax.report import page
from nas_jax.standalone import retrain, width_tuning
from nas_jax.training import supernet
from tests import images, trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

OP = """
import flax.linen as nn
import jax.numpy as jnp

class Gated(nn.Module):
    features: int
    norm: object

    @nn.compact
    def __call__(self, x):
        y = self.norm(relu=True, name="norm")(nn.Conv(self.features, (3, 3), dtype=x.dtype)(x))
        gate = nn.Dense(self.features, dtype=x.dtype)(jnp.mean(y, (2, 3), keepdims=True))
        return y * nn.sigmoid(gate)
"""
NAMES = tuple("abcdefg")  # of seven classes


def configured(fields):
    """Config, space and 28x24 grey images of seven classes."""
    config = tiny.get_config()
    config.space = ConfigDict({"name": "chain", **fields})
    for train in (config.supernet.train, config.retrain.short.train):
        train.num_steps = 10
    config.supernet.train.checkpoint_every = 10
    config.sweep.num_candidates, config.sweep.candidates_per_batch = 8, 8
    config.sweep.num_images = config.sweep.batch_size = 16
    sizes, pixels = (64, 16, 16), images.noise(96, 28, 24, 1)
    labels = np.arange(96, dtype=np.int32) % 7
    data = dataset.InMemory("odd", NAMES, (28, 24, 1), (0.5,), (0.2,), sizes, -1, pixels, labels)
    return config, spaces.make(**config.space.to_dict()), data


def test_a_search_takes_what_nobody_configured(tmp_path):
    """And goes on where it was: a checkpoint knows the space, with its nested fields."""
    (tmp_path / "op.py").write_text(OP)
    ops = ("identity", "mb3_k3", f"{tmp_path}/op.py:Gated")
    fields = {"stages": ((1, 1, 2), (2, 2, 2)), "ops": ops, "stem_stride": 2, "head": 2}
    run = trainings.run_of(*configured(fields), tmp_path)
    supernet.train(run)
    sweep.search(run)
    first = (tmp_path / "trials.jsonl").read_text()
    rows = [json.loads(line) for line in first.splitlines()]
    assert len(rows) == 8
    chosen = {name for row in rows for name in row["arch"].split("|")}
    assert chosen == {"identity", "mb3_k3", "Gated"}
    (tmp_path / "trials.jsonl").write_text("\n".join(first.splitlines()[:3]) + "\n")
    again = trainings.run_of(*configured(fields), tmp_path)
    sweep.search(again)
    assert (tmp_path / "trials.jsonl").read_text() == first
    text = rows[0]["arch"]
    retrain.train_one(again, "short", tmp_path / "alone", text, 4, 0)
    result = json.loads((tmp_path / "alone" / "result.json").read_text())
    exact = params_flops.on_images(run.space, run.space.from_str(text), 4, run.data)
    assert (result["params"], result["flops"]) == exact
    page.report(again)
    assert "Gated" in (tmp_path / "report" / "report.md").read_text()


def test_widths_are_tuned(tmp_path):
    fields = {"stages": (1, 1), "ops": ("identity", "mb3_k3"), "stem_stride": 2}
    run = trainings.run_of(*configured(fields), tmp_path)
    row = width_tuning.tune(run, tmp_path / "widths", "mb3_k3|mb3_k3", filters=4, seed=0)
    assert row["costs"]["tuned"] <= run.config.retrain.widths.share * row["costs"]["full"]
    full = {"tensor0": 4, "layer0/1": 12, "layer1/1": 12, "tensor1": 8}  # 4: the stem and layer 0
    assert row["widths"]["full"] == full
    retrain.train_one(run, "short", tmp_path / "alone", row["tuned"], 4, 0)
    result = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert result["flops"] == row["costs"]["tuned"]
