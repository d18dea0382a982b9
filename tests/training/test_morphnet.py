"""MorphNet whole: a supernet with the penalty, the sweep after it, tuned widths, the report."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import build
from nas_jax.config import validation
from nas_jax.costs import widths
from nas_jax.report import page
from nas_jax.report.sections import widths as sections_widths
from nas_jax.spaces import choices
from nas_jax.standalone import retrain, selection, width_tuning
from nas_jax.storage import json_files
from nas_jax.training import variants
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system


def _search(**also):
    fields = {
        "supernet.train.num_steps": 20,
        "supernet.train.checkpoint_every": 10,
        "supernet.variant": "morphnet",
        "supernet.variant_options": (("strength", 8.0), ("threshold", 0.6)),
        "retrain.short.groups.random": 0,
        "retrain.short.groups.stratified": 0,
        "retrain.final.groups.tuned": 1,
        "retrain.final.groups.narrowed": 1,
        "retrain.widths.strength": 8.0,
        "retrain.widths.threshold": 0.6,
    }
    return trainings.built_with(tiny.get_config(), fields | also)


@pytest.fixture(scope="module")
def penalised(tmp_path_factory):
    directory = tmp_path_factory.mktemp("morphnet")
    return directory, *trainings.fit(_search(), directory)


def test_the_penalty_falls_while_a_supernet_trains(penalised):
    _, _, rows = penalised
    assert rows[0]["penalty"] > 2 * rows[-1]["penalty"] > 0


def test_a_search_goes_on_with_what_is_left_and_tunes_widths(penalised, tmp_path):
    """Sweep, tuning, both networks and the report; nothing is done twice."""
    directory, state, _ = penalised
    config, space, data = _search()
    trials = trainings.swept(config, space, data, directory)
    left = jax.device_get(variants.of(config.supernet, space).read_out(state.params))
    assert not all(mask.all() for mask in jax.tree.leaves(left))
    asked = space.from_strs([row["arch"] for row in trials])
    for mask, kept in zip(jax.tree.leaves(asked), jax.tree.leaves(left)):
        assert kept.sum() < 1 or not np.any(mask[:, ~kept])
    config.sweep.strategy = "evolution"  # whoever asks
    shutil.copytree(directory / "checkpoints", tmp_path / "checkpoints")
    others = trainings.swept(config, space, data, tmp_path)
    archs = space.from_strs([row["arch"] for row in others])
    assert choices.are_left(space.choices, left, archs).all()
    config.sweep.strategy = "random_search"
    retrain.retrain(trainings.run_of(config, space, data, directory))
    [path] = (directory / "retrain" / "widths").glob("F4/*/widths.json")
    row, best = (
        json.loads(path.read_text()),
        selection.select(trials, space, config.retrain.final, config.retrain.selection, 0),
    )
    assert [row["arch"]] == best["tuned"]
    limit = 0.5 * row["costs"]["full"]
    assert 0.7 * limit < row["costs"]["tuned"] <= limit
    assert 0.7 * limit < row["costs"]["narrowed"] <= limit
    assert row["costs"]["left"] < row["costs"]["full"]
    written = directory.glob("retrain/final/F4/*/seed0/result.json")
    results = {result["arch"]: result for result in map(json_files.read_json, written)}
    for group in width_tuning.GROUPS:
        assert results[row[group]]["flops"] == row["costs"][group]
    written = path.stat().st_mtime_ns
    retrain.retrain(trainings.run_of(config, space, data, directory))
    assert path.stat().st_mtime_ns == written
    text = page.write(directory, space).read_text()
    assert "## Tuned widths\n\n![Widths](widths.png)" in text
    assert (directory / "report" / "widths.png").exists()
    assert "| 4 | tuned | 1 |" in text


def test_a_second_round_shrinks_and_widens_what_the_first_has_left(tmp_path):
    """And is the same where it begins in another process, after the first."""
    built, text = _search(**{"space.num_cells": 1}), "0,1>sep3x3|0,2>identity,sep3x3"
    run = trainings.run_of(*built, tmp_path)
    tune = functools.partial(width_tuning.tune, text=text, filters=4, seed=0)
    first = tune(run, tmp_path / "both")
    assert "rounds" not in first
    (tmp_path / "both" / "widths.json").unlink()  # as if killed after the first training
    run.config.retrain.widths.rounds = 2
    row, whole = tune(run, tmp_path / "both"), tune(run, tmp_path / "whole")
    assert row == whole
    one, two = row["rounds"]
    for name in ("costs", "widths"):
        for network in ("left", "tuned"):
            assert one[name][network] == first[name][network]
            assert two[name][network] == row[name][network]
    assert (one["tuned"], two["tuned"]) == (first["tuned"], row["tuned"])
    limit = 0.5 * row["costs"]["full"]
    assert two["costs"]["left"] < one["costs"]["tuned"]
    assert 0.7 * limit < two["costs"]["tuned"] <= limit
    assert row["narrowed"] == first["narrowed"]
    with_rounds = sections_widths.table(tmp_path, [row])
    assert "identity,sep3x3` | 0 | 2 |" in with_rounds
    assert (tmp_path / "widths_rounds.png").exists()
    assert "widths_rounds.png" not in sections_widths.table(tmp_path, [first])


def test_widths_that_are_narrowed_alone_take_no_training(tmp_path):
    """And are those that a tuning of the same architecture would give."""

    def tune(text):
        raise AssertionError

    run, text = trainings.run_of(*_search(), tmp_path), "0,1>sep3x3|0,2>identity,sep3x3"
    chosen = {"tuned": (), "narrowed": [text], "top": [text]}
    found = width_tuning.resolve(run, chosen, 4, tune)
    assert {**found, "narrowed": [text]} == {**chosen, "tuned": []}
    arch, channels = widths.split(found["narrowed"][0])
    full = width_tuning._widths_of(run, text, 4)
    assert arch == text
    assert 0.35 < full.cost(channels) / full.cost(full.full) <= 0.5


def test_tuning_where_there_are_no_widths_is_said():
    config = tiny.get_config()
    config.retrain.final.groups.tuned = 1
    with config.unlocked():
        fields = build.all_fields("nasbench201").space.to_dict()
        config.space = ConfigDict(fields | {"num_cells": 1})
    with pytest.raises(ValueError, match=r"groups\.tuned=1, .* have no widths .* set both to 0"):
        trainings.build(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"retrain.final.groups.tuned": 1},
            r"^config\.retrain\.final\.groups\.tuned=1, .*set both",
        ),
        (
            {"supernet.variant": "morphnet"},
            r"^config\.supernet\.variant='morphnet': .*another variant",
        ),
    ],
)
def test_widths_of_an_op_of_ones_own_are_refused_by_name(tmp_path, fields, message):
    (tmp_path / "mine.py").write_text("from nas_jax.nn.layers import ConvNorm as Mine\n")
    ops = ("identity", f"{tmp_path}/mine.py:Mine")
    with pytest.raises(ValueError, match=message) as error:
        trainings.built_with(tiny.get_config(), {"space.ops": ops, **fields})
    assert "space.ops has 'Mine': the widths of its layers are not known" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"retrain.widths.share": 0}, r"widths\.share=0 must be above 0 and at most 1"),
        ({"retrain.widths.resource": "time"}, "resource='time' is none of flops, params"),
        ({"retrain.widths.strength": -1}, "strength=-1 must be 0 or more"),
        (
            {"retrain.final.filters": (4, 8), "retrain.final.groups.tuned": 1},
            r"retrain\.final\.filters=\(4, 8\): widths are tuned for one",
        ),
    ],
)
def test_bad_settings_are_said(fields, message):
    config = tiny.get_config()
    known = build.all_fields("cell")
    with config.unlocked():
        for name, value in fields.items():
            *sections, last = name.split(".")
            functools.reduce(getattr, sections, config)._fields[last] = value
    with pytest.raises(ValueError, match=message):
        validation.config(config, known)
