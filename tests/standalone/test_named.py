"""Architectures that the config names: trained without trials, or from the supernet's weights."""

import json

import jax
import numpy as np
import pytest

from nas_jax import build, pipeline
from nas_jax.report.results import RunResults
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import restoration
from tests import trainings
from tests.configs import tiny

ARCH = "0>identity"
FIELDS = {
    **trainings.SMALL,
    "supernet.train.num_steps": 10,
    "retrain.short.groups.random": 0,
    "retrain.short.groups.stratified": 0,
    "retrain.final.groups.top": 0,
    "retrain.final.train.num_steps": 4,
}


def config_of(**fields):
    config = tiny.get_config()
    config.update_from_flattened_dict(FIELDS | {"retrain.archs": (ARCH,)} | fields)
    return config


@pytest.mark.system
def test_an_architecture_is_trained_without_a_search_at_any_width(tmp_path):
    fields = {"retrain.final.filters": (4, 6), "retrain.final.num_seeds": 2}
    run = pipeline.run(config_of(**fields), "retrain", tmp_path)
    assert not (tmp_path / "trials.jsonl").exists()
    found = RunResults(tmp_path, run.space)
    assert {key: [n.arch for n in networks] for key, networks in found.named.items()} == {
        (4, "random"): [ARCH],
        (6, "random"): [ARCH],
    }
    assert all(len(networks[0].accuracies) == 2 for networks in found.named.values())
    assert (found.short, found.final, found.samples) == ({}, {}, {})
    pipeline.run(config_of(**fields), "report", tmp_path)
    assert "## Named architectures" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.system
def test_a_warm_start_has_the_supernets_weights_and_says_so(tmp_path):
    """At a learning rate of 0 they stay; the networks of groups begin with random ones."""
    fields = {
        "retrain.init": "supernet",
        "retrain.final.train.base_lr": 0.0,
        "retrain.final.groups.top": 1,
    }
    run = pipeline.run(config_of(**fields), "search", tmp_path)
    (path,) = tmp_path.glob("retrain/final/F4/*/warm0")
    assert json.loads((path / "result.json").read_text())["init"] == "supernet"
    weights = restoration.restore(run, tmp_path)[0].params
    expected = run.space.subnet(weights, ARCH)
    with Checkpoints(path / "checkpoints") as checkpoints:
        found = checkpoints.weights(4, expected, {})
    jax.tree.map(np.testing.assert_array_equal, found.params, expected)
    results = RunResults(tmp_path, run.space)
    assert [*results.named] == [(4, "supernet")]
    (chosen,) = results.final[4, "top"]
    assert len(chosen.accuracies) == 1
    (cold,) = tmp_path.glob("retrain/final/F4/*/seed0/result.json")
    assert "init" not in json.loads(cold.read_text())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"retrain.archs": ("0>sep9x9",)}, "config.retrain.archs: '0>sep9x9': .*sep9x9"),
        ({"retrain.archs": (f"{ARCH}@4,x",)}, "config.retrain.archs: .*whole numbers"),
        ({"retrain.archs": (f"{ARCH}@4",)}, "config.retrain.archs: .* tensors"),
        ({"retrain.final.num_seeds": 0}, "num_seeds=0 must be 1 or more"),
        ({"retrain.archs": (3,)}, r"config.retrain.archs=\(3,\) must hold str alone"),
        ({"retrain.init": "supernett"}, "nearest: 'supernet'"),
        (
            {"retrain.init": "supernet", "retrain.final.filters": (4, 8)},
            r"retrain.final.filters=\(4, 8\) are not those of the supernet, \(4,\)",
        ),
        (
            {"retrain.init": "supernet", "retrain.archs": (f"{ARCH}@4,4",)},
            "has an architecture with widths of its own",
        ),
        ({"retrain.init": "supernet", "sweep.score": "trained"}, "no supernet has weights"),
        ({"retrain.init": "supernet", "supernet.variant": "smash"}, "no supernet has weights"),
    ],
)
def test_what_cannot_be_trained_is_one_line(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        build.build_run(config_of(**fields), "unused")
    assert "\n" not in str(caught.value)


def test_a_warm_start_needs_a_trained_supernet(tmp_path):
    with pytest.raises(ValueError, match="supernet"):
        pipeline.run(config_of(**{"retrain.init": "supernet"}), "retrain", tmp_path)
