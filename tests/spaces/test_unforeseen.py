"""A space, an op and images that nobody configured: search, widths, costs, and resuming."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import config as config_lib
from nas_jax import pipeline, spaces
from nas_jax.candidates import sweep
from nas_jax.costs import params_flops, scaling
from nas_jax.data import dataset
from nas_jax.report import page
from nas_jax.standalone import retrain, width_tuning
from nas_jax.storage import json_files
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


def configured(fields, height=28, width=24):
    """Config, space and grey images of seven classes."""
    config = tiny.get_config()
    config.space = ConfigDict({"name": "chain", **fields})
    for train in (config.supernet.train, config.retrain.short.train):
        train.num_steps = 10
    config.supernet.train.checkpoint_every = 10
    config.sweep.num_candidates, config.sweep.candidates_per_batch = 8, 8
    config.sweep.num_images = config.sweep.batch_size = 16
    sizes, pixels = (64, 16, 16), images.noise(96, height, width, 1)
    labels = np.arange(96, dtype=np.int32) % 7
    data = dataset.in_memory("odd", NAMES, sizes, -1, pixels, labels)
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


def test_from_a_search_to_tuned_widths_and_scaling(tmp_path):
    """Of a depth that no config has, by the one call that a user makes."""
    fields = {"stages": ((1, 1, 2), (1, 3, 2)), "ops": ("identity", "mb3_k3")}
    config, space, data = configured(fields, 24, 24)
    config_lib.retrain_nothing(config)
    config.supernet.execution, config.retrain.final.train.num_steps = "masked", 5
    config.retrain.final.groups.update({"top": 1, "tuned": 1, "narrowed": 1})
    run = pipeline.run(config, "search", tmp_path, data=data)
    assert run.space == space
    (written,) = tmp_path.glob("retrain/widths/F4/*/widths.json")
    row = json_files.read_json(written)
    results = {r["arch"]: r for r in map(json_files.read_json, tmp_path.rglob("result.json"))}
    assert results.keys() == {row["arch"], row["tuned"], row["narrowed"]}
    for group, text in (("full", row["arch"]), ("tuned", row["tuned"])):
        assert results[text]["flops"] == row["costs"][group]
    budget = 4 * row["costs"]["full"]
    size = params_flops.image_options(data)
    (found,) = scaling.fit(space, row["arch"], max_flops=budget, **size)
    arch = space.from_str(row["arch"])
    assert (
        found.flops == params_flops.of(space, arch, filters=found.filters, **size).flops <= budget
    )
    assert found.filters > 4


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
