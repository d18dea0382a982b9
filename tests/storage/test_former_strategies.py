"""What were strategies once are training variants now: folders and pools of before are read."""

import json
import re

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


OPTIONS_OF_BEFORE = pytest.mark.parametrize(
    ("options", "meant"),
    [
        ([["population", 8]], {"population": 8, "share": 0.25, "perturb": [1.25, 0.8]}),
        ([["share", 0.5], ["perturb", 2.0]], {"share": 0.5, "perturb": [2.0, 0.5]}),
    ],
)


def _populations_of_before(folder, options):
    """Write the config.json of such a run; return today's config with the same options."""
    config = tiny.get_config()
    config.supernet.variant = "pbt"
    with config.unlocked():
        config.supernet.variant_options = tuple(map(tuple, options))
    old = json.loads(config.to_json())
    del old["retrain"]["final"]["pbt"], old["retrain"]["final"]["pbt_every"]
    json_files.write_json(folder / "config.json", old)
    (folder / "metrics.jsonl").touch()
    return config, old


@OPTIONS_OF_BEFORE
def test_populations_of_before_keep_the_options_that_they_had(tmp_path, options, meant):
    """config.json is read with them; a command without them is refused, one with them goes on."""
    (config, old), inputs = _populations_of_before(tmp_path, options), {"fingerprint": "of these"}
    assert dict(compatibility.completed(old)["supernet"]["variant_options"]) == meant
    to_write = tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in meant.items())
    message = f"supernet.variant_options is {to_write!r} there and"
    with pytest.raises(ValueError, match=re.escape(message)):
        workdir.open_workdir(tmp_path, config.to_dict(), inputs)
    with config.unlocked():
        config.supernet.variant_options = tuple(meant.items())
    workdir.open_workdir(tmp_path, config.to_dict(), inputs)


@OPTIONS_OF_BEFORE
@pytest.mark.parametrize(
    "grown", [{"pbt": (("population", 3),)}, {"num_seeds": 7}, {"num_seeds": 7, "pbt_every": 9}]
)
def test_a_folder_of_such_populations_grows_and_keeps_them(tmp_path, options, meant, grown):
    """Even by the field whose absence says that the folder is of before; opened again each time."""
    config, _ = _populations_of_before(tmp_path, options)
    today = config.copy_and_resolve_references()
    config.retrain.final.update(grown)
    with config.unlocked():
        config.supernet.variant_options = tuple(meant.items())
    for _ in range(2):
        workdir.open_workdir(tmp_path, config.to_dict(), {"fingerprint": "of these"}, grows=True)
        there = json_files.read_json(tmp_path / "config.json")
        assert dict(there["supernet"]["variant_options"]) == meant
        assert dict(compatibility.completed(there)["supernet"]["variant_options"]) == meant
    today.retrain.final.update(grown)
    with pytest.raises(ValueError, match=r"supernet\.variant_options is \(.*\) there and"):
        workdir.open_workdir(tmp_path, today.to_dict(), {"fingerprint": "of these"}, grows=True)


@pytest.mark.parametrize("name", ["pbt", "smash"])
@pytest.mark.parametrize("options", [5, "x", [1], [["perturb"]], [[["a"], 1]], {"a": 1}])
def test_damaged_options_are_refused(tmp_path, name, options):
    config, old = _populations_of_before(tmp_path, [])
    old["supernet"] |= {"variant": name, "variant_options": options}
    json_files.write_json(tmp_path / "config.json", old)
    config.supernet.variant = name
    for grows in (False, True):
        with pytest.raises(ValueError, match=r"supernet\.variant_options is .* there and"):
            workdir.open_workdir(tmp_path, config.to_dict(), {"fingerprint": ""}, grows=grows)


@pytest.mark.parametrize("perturb", [0, -1.25, "x", None])
def test_a_perturb_that_is_no_factor_stays_as_it_is(perturb):
    """So that it is refused where options are checked."""
    old = json.loads(tiny.get_config().to_json())
    del old["retrain"]["final"]["pbt"]
    old["supernet"] |= {"variant": "pbt", "variant_options": [["perturb", perturb]]}
    options = dict(compatibility.completed(old)["supernet"]["variant_options"])
    assert options == {"perturb": perturb, "share": 0.25}


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
