"""What were strategies once are training variants now: folders and pools of before are read."""

import json

import pytest

from nas_jax.storage import compatibility, json_files, workdir
from nas_jax.studies import store
from tests import trainings
from tests.configs import tiny
from tests.storage.test_compatibility import Images, as_then


@pytest.mark.parametrize(
    ("name", "options"),
    [("smash", [["hidden", 8]]), ("morphnet", []), ("pbt", [["population", 2]])],
)
def test_a_folder_of_a_former_strategy_is_that_of_its_variant(tmp_path, name, options):
    """Its config.json, as it was written when it was begun, stays to the byte."""
    config = tiny.get_config()
    config.supernet.variant = name
    with config.unlocked():
        config.supernet.variant_options = tuple(map(tuple, options))
    old = json.loads(config.to_json())
    del old["supernet"]["variant"], old["supernet"]["variant_options"]
    old["sweep"] |= {"strategy": name, "options": options}
    json_files.write_json(tmp_path / "config.json", old)
    before = (tmp_path / "config.json").read_bytes()
    inputs = {"fingerprint": "of the images"}
    workdir.open_workdir(tmp_path, config.to_dict(), inputs)
    assert (tmp_path / "config.json").read_bytes() == before
    config.sweep.strategy = "evolution"
    with pytest.raises(
        ValueError, match=r"sweep\.strategy is 'random_search' there and 'evolution'"
    ):
        workdir.open_workdir(tmp_path, config.to_dict(), inputs)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ([["population", 8]], {"population": 8, "share": 0.25, "perturb": [1.25, 0.8]}),
        ([["share", 0.5], ["perturb", 2.0]], {"share": 0.5, "perturb": [2.0, 0.5]}),
    ],
)
def test_populations_of_before_keep_the_options_that_they_had(tmp_path, options, meant):
    """config.json is read with them; a command without them is refused, one with them goes on."""
    config, inputs = tiny.get_config(), {"fingerprint": "of the images"}
    config.supernet.variant = "pbt"
    with config.unlocked():
        config.supernet.variant_options = tuple(map(tuple, options))
    old = json.loads(config.to_json())
    del old["retrain"]["final"]["pbt"], old["retrain"]["final"]["pbt_every"]
    assert dict(compatibility.completed(old)["supernet"]["variant_options"]) == meant
    json_files.write_json(tmp_path / "config.json", old)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match=r"supernet\.variant_options is \[.*\] there and"):
        workdir.open_workdir(tmp_path, config.to_dict(), inputs)
    with config.unlocked():
        config.supernet.variant_options = tuple(meant.items())
    workdir.open_workdir(tmp_path, config.to_dict(), inputs)


def test_a_pool_does_not_take_populations_of_before_for_todays(tmp_path):
    config, found = tiny.get_config(), store.Store(tmp_path, Images())
    config.supernet.variant = "pbt"
    for folder in (found.supernet, found.search_folder):
        path = folder(config) / "config.json"
        parts = json_files.read_json(path)
        assert parts.pop("pbt") == "second"
        json_files.write_json(path, parts)
        path.parent.rename(path.parent.with_name("of-before"))
        assert folder(config).name != "of-before"


@pytest.mark.parametrize("name", compatibility.FORMER_STRATEGIES)
def test_a_former_strategy_is_refused_with_what_to_write(name):
    config = tiny.get_config()
    config.sweep.strategy = name
    message = f"'{name}' is a training variant now: write --config.supernet.variant={name} .*"
    with pytest.raises(ValueError, match=f"{message} --config.sweep.strategy=random_search"):
        trainings.build(config)


@pytest.mark.parametrize("name", compatibility.FORMER_STRATEGIES)
def test_a_pool_finds_what_former_strategies_left(tmp_path, name):
    """Supernets and searches whose config.json was written when they were strategies."""
    config, found = as_then(tiny.get_config()), store.Store(tmp_path, Images())
    config.supernet.variant = name
    if name == "smash":  # it had one form
        config.supernet.variant_options = (("basis", 4),)
    for folder in (found.supernet, found.search_folder):
        path = folder(config) / "config.json"
        parts = json_files.read_json(path)
        del parts["supernet"]["variant"]
        parts["sweep"] |= {"strategy": name, "options": []}
        json_files.write_json(path, parts)
        path.parent.rename(path.parent.with_name("a-former-id"))
        assert folder(config).name == "a-former-id"
