"""What a run will take: the trainings that tune widths count, those that do not happen do not."""

import pytest

from nas_jax import plan, preview
from tests import trainings
from tests.configs import tiny


def _parts(directory, **groups):
    """Parts of a retraining of one "top"; `short_tuned=1` sets retrain.short.groups.tuned."""
    fields = {"retrain.short.groups.random": 0, "retrain.short.groups.stratified": 0}
    for name, count in groups.items():
        protocol, _, group = name.partition("_")
        section = "widths" if protocol == "widths" else f"{protocol}.groups"
        fields[f"retrain.{section}.{group}"] = count
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), fields), directory)
    return run, {part.name: part for part in plan.of(run, "retrain")}


@pytest.mark.parametrize(
    ("groups", "networks", "tunings"),
    [
        ({}, 1, 0),
        ({"final_tuned": 2}, 3, 2),
        ({"final_tuned": 2, "widths_rounds": 3}, 3, 6),
        ({"final_narrowed": 2, "widths_rounds": 3}, 3, 0),
        ({"final_tuned": 2, "final_narrowed": 2, "widths_rounds": 3}, 5, 6),
        ({"final_tuned": 3, "short_tuned": 2, "widths_rounds": 3}, 4, 3),
        ({"final_tuned": 1, "short_tuned": 2}, 2, 0),
    ],
)
def test_the_final_networks_and_the_tunings_of_their_widths(tmp_path, groups, networks, tunings):
    """All are trainings of 20 steps of 32 images, of which one network of "top" has as many."""
    _, of_top = _parts(tmp_path)
    run, parts = _parts(tmp_path, **groups)
    one, final = of_top["retrain.final"].work, parts["retrain.final"]
    assert final.work == pytest.approx(one * (networks + tunings))
    assert ("trainings of 20 steps to tune widths" in final.what) == (tunings > 1)
    assert plan.networks(run.config, "final") == networks
    assert tunings == 0 or preview._programs(run, final) == 2 * networks + tunings


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        (
            {"num_steps": 99},
            ["each network for 99 steps", "final.train.num_steps=100"],
        ),
        ({"num_steps": 100}, []),
        # 640 images in batches of 32: 20 steps an epoch
        ({"num_steps": 0, "num_epochs": 4.9}, ["98 steps", "final.train.num_epochs=5"]),
        ({"num_steps": 0, "num_epochs": 5.0}, []),
    ],
)
def test_too_few_steps_are_warned_of_with_the_way_out(tmp_path, fields, warned):
    given = {f"retrain.final.train.{name}": value for name, value in fields.items()}
    given |= {f"retrain.short.groups.{name}": 0 for name in ("random", "stratified")}
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), given), tmp_path)
    lines = [line for line in plan.lines(run, "search", ()) if "Warning" in line]
    assert len(lines) == bool(warned)
    assert all(words in line for line in lines for words in warned)


def test_tunings_are_of_the_short_training(tmp_path):
    """On the training split: 512 images in 16 steps of 32, twice, and one network of 20 steps."""
    fields = {"retrain.final.groups.top": 0, "retrain.final.groups.tuned": 1}
    fields |= {"retrain.short.train.num_steps": 0, "retrain.short.train.num_epochs": 2.0}
    run = trainings.run_of(*trainings.built_with(tiny.get_config(), fields), tmp_path)
    final = plan.of(run, "retrain")[-1]
    assert final.what.startswith("a training of 32 steps to tune widths; 1 network (each)")
    one = plan._flops(run, 4, False)
    assert final.work == pytest.approx(3 * (20 + 32) * 32 * one)
