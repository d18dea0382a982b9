"""Recipes: choosing SMASH chooses its training, and what is set beside it stays."""

import json

import pytest

from nas_jax import api, cli
from nas_jax import config as config_lib
from nas_jax.config import recipes, variants
from nas_jax.storage import compatibility

SMASH = {
    "sampler": "shared_path",
    "train": {
        "optimizer": "adam",
        "optimizer_options": (("b1", 0.5), ("b2", 0.999), ("eps", 1e-4)),
        "schedule": "cosine",
        "warmup_share": 0.0,
        "clip_norm": 0.0,
        "l2": 5e-5,
        "l2_norm_params": True,
        "l2_unused": True,
    },
}


def _of_command(*fields):
    arguments = ["nas-jax", "--config=digits", *(f"--config.{field}" for field in fields)]
    return cli._parse_arguments(arguments)[1]


def _of_file():
    config = config_lib.load("digits")
    config_lib.choose(config, "smash")
    return config


WAYS = {
    "command": lambda: _of_command("supernet.variant=smash"),
    "file": _of_file,
    "python": lambda: api.as_config("digits", {"supernet.variant": "smash"}),
    "study": lambda: variants.changed(
        config_lib.load("digits"), "SMASH", [("supernet.variant", "smash")]
    ),
    "config": lambda: config_lib.load("smash:digits"),
}


@pytest.mark.parametrize("way", WAYS)
def test_choosing_smash_alone_trains_it_as_published(way):
    """However it is chosen; all else is the config's."""
    config, plain = WAYS[way](), config_lib.load("digits")
    supernet = config.supernet.to_dict()
    assert supernet["sampler"] == SMASH["sampler"]
    for name, value in SMASH["train"].items():
        assert supernet["train"][name] == value, name
    rate = supernet["train"]["base_lr"] * supernet["train"]["batch_size"] / 1024
    assert rate == pytest.approx(1e-3)
    changed = {"supernet.variant", "supernet.variant_options", "supernet.sampler"}
    changed |= {f"supernet.train.{name}" for name in (*SMASH["train"], "base_lr")}
    there = dict(variants.flatten(plain))
    assert {n for n, v in variants.flatten(config) if v != there[n]} <= changed


def test_what_is_set_beside_it_stays():
    config = _of_command(
        "supernet.sampler=single_path",
        "supernet.variant=smash",
        "supernet.train.base_lr=0.5",
        "supernet.train.l2_unused=false",
    )
    train = config.supernet.train
    assert (config.supernet.sampler, train.base_lr, train.l2_unused) == ("single_path", 0.5, False)
    assert (train.optimizer, train.l2) == ("adam", 5e-5)


def test_who_names_an_optimiser_sets_its_numbers():
    """Adam's rate and its options would be wrong for another."""
    before = config_lib.load("digits").supernet.train
    fields = {"supernet.variant": "smash", "supernet.train.optimizer": "sgd"}
    train = api.as_config("digits", fields).supernet.train
    assert (train.optimizer, train.optimizer_options) == ("sgd", ())
    assert train.base_lr == before.base_lr
    assert train.warmup_share == 0


def test_the_rate_is_that_of_the_batch_which_is_set_beside():
    fields = {"supernet.variant": "smash", "supernet.train.batch_size": 50}
    train = api.as_config("digits", fields).supernet.train  # the published batch
    assert train.base_lr == pytest.approx(1e-3 * 1024 / 50)


@pytest.mark.parametrize(
    "fields",
    [
        {"supernet.variant": "pbt"},
        {"supernet.variant": "none"},
        {"supernet.variant": "smash", "supernet.variant_options": (("basis", 4),)},
    ],
)
def test_others_have_no_recipe(fields):
    """Nor has the light form of SMASH."""
    plain = dict(variants.flatten(config_lib.load("digits")))
    for name, value in variants.flatten(api.as_config("digits", fields)):
        assert value == fields.get(name, plain[name])


def test_a_config_names_its_form():
    """So that one which names none is of an earlier version, with the light form alone."""
    config = recipes.with_form(_of_file())
    assert config.supernet.variant_options == (("basis", 0),)
    assert recipes.with_form(config) is config
    light = api.as_config(config, {"supernet.variant_options": (("basis", 3),)})
    assert recipes.with_form(light) is light
    old = json.loads(config_lib.load("digits").to_json())
    old["supernet"] |= {"variant": "smash", "variant_options": [["hidden", 8]]}
    read = compatibility.completed(old)["supernet"]["variant_options"]
    assert read == [["hidden", 8], ["basis", 4]]
    assert compatibility.completed(json.loads(config.to_json()))["supernet"]["variant_options"] == [
        ["basis", 0]
    ]
