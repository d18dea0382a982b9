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
    for folder in (found.supernet, found.search_folder):
        path = folder(config) / "config.json"
        parts = json_files.read_json(path)
        del parts["supernet"]["variant"]
        parts["sweep"] |= {"strategy": name, "options": []}
        json_files.write_json(path, parts)
        path.parent.rename(path.parent.with_name("a-former-id"))
        assert folder(config).name == "a-former-id"
