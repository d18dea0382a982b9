"""A workdir grows: what is there stays; what is added is as if it had been asked for at once."""

import contextlib
import json
import shutil

import pytest

import nas_jax
from nas_jax import pipeline
from tests import trainings
from tests.configs import tiny

FIELDS = {
    **trainings.SMALL,
    "space.ops": ("identity", "sep3x3", "maxpool"),
    "supernet.train.num_steps": 20,
    "sweep.num_candidates": 12,  # one and a half rounds
    "retrain.short.groups.random": 0,
    "retrain.short.groups.stratified": 0,
    "retrain.short.train.num_steps": 5,
    "retrain.final.groups.top": 0,
    "retrain.final.train.num_steps": 5,
}


def config_of(**fields):
    config = tiny.get_config()
    config.update_from_flattened_dict(FIELDS | fields)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that has its supernet."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    pipeline.run(config_of(), "supernet", directory)
    return directory


def grown(trained, directory, mode, *configs):
    """A copy of the folder after a mode was run by one config after the other."""
    shutil.copytree(trained, directory)
    for config in configs:
        pipeline.run(config, mode, directory)
    return directory


STRATEGIES = {
    "random_search": (),
    "evolution": (("population", 4), ("tournament", 2)),
    "enas": (),
}


@pytest.mark.system
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_more_candidates_are_those_of_a_longer_sweep_to_the_byte(trained, tmp_path, strategy):
    chosen = {"sweep.strategy": strategy, "sweep.options": STRATEGIES[strategy]}
    few, many = (config_of(**chosen, **{"sweep.num_candidates": n}) for n in (12, 30))
    in_two = grown(trained, tmp_path / "two", "sweep", few, many)
    at_once = grown(trained, tmp_path / "one", "sweep", many)
    assert (in_two / "trials.jsonl").read_bytes() == (at_once / "trials.jsonl").read_bytes()
    assert json.loads((in_two / "config.json").read_text())["sweep"]["num_candidates"] == 30
    with pytest.raises(ValueError, match=r"sweep\.num_candidates is 30 there and 12 here"):
        pipeline.run(few, "sweep", in_two)


@pytest.mark.system
def test_more_groups_widths_and_seeds_add_networks(trained, tmp_path):
    few = config_of(**{"retrain.short.groups.random": 1})
    directory = grown(trained, tmp_path / "run", "search", few)
    (first,) = directory.glob("retrain/short/F4/*/seed0/result.json")
    before, selected = first.read_bytes(), first.parent.parent.name
    more = {
        "retrain.short.groups.random": 2,
        "retrain.short.filters": (4, 6),
        "retrain.short.num_seeds": 2,
        "retrain.final.groups.top": 1,
    }
    result = nas_jax.retrain(config_of(**more), workdir=directory)
    assert len(result.networks) == 2 * 2 * 2 + 1
    assert first.read_bytes() == before
    # With more trials, other architectures are drawn; the networks of the first stay.
    chosen = directory / "retrain" / "short" / "selection.json"
    names = json.loads(chosen.read_text())["random"]
    nas_jax.search(config_of(**more, **{"sweep.num_candidates": 30}), workdir=directory)
    assert json.loads(chosen.read_text())["random"] != names
    assert first.read_bytes() == before
    assert selected in {path.name for path in directory.glob("retrain/short/F4/*")}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"supernet.train.base_lr": 1.0}, "supernet.train.base_lr is 3.2 there and 1.0 here"),
        ({"data.digits.noise": 0.2}, "data.digits.noise is 0.1 there and 0.2 here"),
        ({"space.num_blocks": 2}, "space.num_blocks is 1 there and 2 here"),
    ],
)
def test_what_the_supernet_was_trained_with_stays(trained, fields, message):
    before = (trained / "config.json").read_bytes()
    with pytest.raises(ValueError, match=f"{message}.*another folder: --workdir=.*-2$"):
        pipeline.run(config_of(**fields), "supernet", trained)
    assert (trained / "config.json").read_bytes() == before


def test_what_no_stage_has_used_may_change(trained, tmp_path):
    """A report does not say so in config.json, since another process may use the folder."""
    shutil.copytree(trained, tmp_path / "run")
    fields = {"sweep.seed": 3, "sweep.num_images": 64, "retrain.final.train.base_lr": 0.5}
    pipeline.run(config_of(**fields), "report", tmp_path / "run")
    there = json.loads((tmp_path / "run" / "config.json").read_text())
    assert there["sweep"]["seed"] == 0
    pipeline.run(config_of(**fields), "supernet", tmp_path / "run")  # there is nothing to do
    now = json.loads((tmp_path / "run" / "config.json").read_text())
    there["sweep"] |= {"seed": 3, "num_images": 64}
    there["retrain"]["final"]["train"]["base_lr"] = 0.5
    assert now == there


def test_a_folder_in_which_nothing_was_made_takes_any_config(tmp_path):
    pipeline.run(config_of(), "report", tmp_path / "run")
    other = config_of(**{"seed": 1, "data.digits.noise": 0.2})
    pipeline.run(other, "supernet", tmp_path / "run")
    there = json.loads((tmp_path / "run" / "data.json").read_text())
    assert there["fingerprint"] == nas_jax.build.build_run(other, "unused").data.fingerprint


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [
        ("supernet.sampler", "strategy", True),
        ("supernet.variant", "pbt", True),
        ("supernet.variant", "morphnet", False),
        ("supernet.sampler", "fair", False),
    ],
)
def test_a_sweep_may_change_unless_the_supernet_was_trained_by_it(tmp_path, field, value, refused):
    """By turns between its steps; pipeline and storage agree on who has them."""
    options = {"supernet.variant_options": (("population", 2),)} if value == "pbt" else {}
    fields = {field: value, "supernet.strategy_every": 10, **options}
    first, other = config_of(**fields), config_of(**fields, **{"sweep.seed": 1})
    pipeline.run(first, "report", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with (
        pytest.raises(ValueError, match=r"another config: sweep\.seed")
        if refused
        else contextlib.nullcontext()
    ):
        pipeline.run(other, "report", tmp_path)
