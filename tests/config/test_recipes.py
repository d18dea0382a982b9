"""Recipes: choosing SMASH chooses its training, and what is set beside it stays."""

import json
import logging

import pytest

from nas_jax import api, build, cli, spaces
from nas_jax import config as config_lib
from nas_jax.config import files, recipes, variants
from nas_jax.storage import compatibility, json_files, workdir
from nas_jax.training import variants as training_variants

SMASH = {
    "sampler": "shared_path",
    "per_use_gradients": False,
    "train": {
        "optimizer": "adam",
        "optimizer_options": (("b1", 0.5), ("b2", 0.999), ("eps", 1e-4)),
        "schedule": "cosine",
        "warmup_share": 0.0,
        "clip_norm": 0.0,
        "l2": 5e-5,
        "l2_norm_params": True,
        "l2_unused": True,
        "label_smoothing": 0.0,
    },
}


def _of_command(*fields, name="digits"):
    arguments = ["nas-jax", f"--config={name}", *(f"--config.{field}" for field in fields)]
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
    for name in ("sampler", "per_use_gradients"):
        assert supernet[name] == SMASH[name]
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


OTHER_BATCH = {
    "command": lambda: _of_command("supernet.train.batch_size=256", name="smash:digits"),
    "python": lambda: api.as_config("smash:digits", {"supernet.train.batch_size": 256}),
    "study": lambda: variants.changed(_of_file(), "", [("supernet.train.batch_size", 256)]),
}


@pytest.mark.parametrize("way", OTHER_BATCH)
def test_the_rate_follows_the_batch_of_a_smash_that_was_chosen_before(way):
    """Adam's rate is the published one: 4 times the batch, a fourth of the rate at 1,024."""
    train = OTHER_BATCH[way]().supernet.train
    assert (train.batch_size, train.base_lr) == (256, pytest.approx(1e-3 * 4))
    assert train.optimizer == "adam"


@pytest.mark.parametrize("where", ["before", "beside", "optimizer"])
def test_a_rate_that_was_set_does_not_follow_the_batch(where):
    config, fields = _of_file(), {"supernet.train.batch_size": 256}
    rate = config.supernet.train.base_lr
    if where == "optimizer":
        fields["supernet.train.optimizer"] = "sgd"  # who names one sets its rate
    elif where == "beside":
        rate = fields["supernet.train.base_lr"] = 0.5
    else:
        rate = config.supernet.train.base_lr = 0.25
    assert api.as_config(config, fields).supernet.train.base_lr == rate


def test_no_rate_of_others_follows_the_batch():
    plain = config_lib.load("digits")
    config = api.as_config(plain, {"supernet.train.batch_size": 256})
    assert config.supernet.train.base_lr == plain.supernet.train.base_lr
    light = {"supernet.variant_options": (("basis", 4),), "supernet.train.batch_size": 256}
    rate = api.as_config(_of_file(), light).supernet.train.base_lr
    assert rate == _of_file().supernet.train.base_lr


def test_a_space_with_gradients_per_use_is_trained_as_published():
    """They would exclude L2 on all parameters."""
    config = api.as_config("nasbench201:small", {"supernet.variant": "smash"})
    build.check_fields(config)
    supernet = config.supernet
    assert (supernet.per_use_gradients, supernet.train.l2_unused) == (False, True)


def test_a_batch_size_of_zero_is_refused_by_its_rule():
    fields = {"supernet.variant": "smash", "supernet.train.batch_size": 0}
    with pytest.raises(ValueError, match=r"config\.supernet\.train\.batch_size=0 must be"):
        build.check_fields(api.as_config("digits", fields))


@pytest.mark.parametrize("options", [(([1], 4),), ((1, 4), 2), ("basis", 4)])
def test_options_that_are_no_pairs_are_refused_by_the_variant(options):
    fields = {"supernet.variant": "smash", "supernet.variant_options": options}
    settings = recipes.with_form(api.as_config("digits", fields)).supernet
    with pytest.raises(ValueError, match=r"config\.supernet\.variant_options: .* is no \(option,"):
        training_variants.of(settings, spaces.make("nasbench_macro", stages=(1, 2), head=2))


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


def _former(options=(), **train):
    """A former config of SMASH on digits, which names no form, and has no recipe."""
    config = config_lib.load("digits")
    config.supernet.variant, config.supernet.sampler = "smash", "single_path"
    config.supernet.variant_options = options
    config.supernet.train.update(train)
    return config


def _began(directory, config, *, strategy=False):
    """Write the workdir of a former run: when SMASH was a variant, or a strategy."""
    old = json.loads(config.to_json())
    if strategy:
        del old["supernet"]["variant"]
        options = old["supernet"].pop("variant_options")
        old["sweep"] |= {"strategy": "smash", "options": options}
    json_files.write_json(directory / "config.json", old)
    (directory / "metrics.jsonl").touch()


def _goes_on(directory, config):
    config = recipes.with_form(files.as_begun(config, directory))
    workdir.open_workdir(directory, config.to_dict(), {"fingerprint": "of the images"})
    return config


@pytest.mark.parametrize("strategy", [False, True])
@pytest.mark.parametrize("options", [(), (("hidden", 8),)])
def test_a_run_that_was_begun_in_the_light_form_goes_on_in_it(tmp_path, caplog, options, strategy):
    """By the command with which it was begun."""
    _began(tmp_path, _former(options), strategy=strategy)
    fields = {"supernet.variant_options": options} if options else {}
    with caplog.at_level(logging.WARNING):
        config = _goes_on(tmp_path, api.as_config("smash:digits", fields))
    assert config.supernet == _former((*options, ("basis", 4))).supernet
    (line,) = caplog.messages
    assert "goes on as it began" in line
    assert "('basis', 4)" in line
    assert "supernet.sampler='single_path'" in line
    assert "schedule" not in line  # it is the same


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"supernet.train.base_lr": 0.7},
            r"config: supernet\.train\.base_lr is 6\.4 there and 0\.7 h",
        ),
        (
            {"supernet.variant_options": (("basis", 0),)},
            r"supernet\.sampler is 'single_path' there",
        ),
        ({"supernet.variant_options": (("hidden", 8),)}, r"variant_options is \(.*\) there and"),
    ],
)
def test_what_differs_on_purpose_is_refused(tmp_path, fields, message):
    _began(tmp_path, _former())
    with pytest.raises(ValueError, match=message):
        _goes_on(tmp_path, api.as_config("smash:digits", fields))


@pytest.mark.parametrize("form", [0, 4])
def test_a_run_that_names_its_form_keeps_to_it(tmp_path, form):
    _began(tmp_path, _former((("basis", form),)))
    config = config_lib.load("smash:digits")
    assert files.as_begun(config, tmp_path) is config


def test_a_config_that_assigns_the_variant_alone_is_warned(caplog):
    """It was the light form of before, and is not trained as published."""
    recipes.warn_of_form(_former())
    (line,) = caplog.messages
    for said in ("supernet.sampler='single_path'", "(('basis', 4),)", "choose(c, 'smash')"):
        assert said in line
    caplog.clear()
    for silent in (_of_file(), _former((("basis", 4),)), _former((("basis", 0),))):
        recipes.warn_of_form(silent)
    recipes.warn_of_form(config_lib.load("digits"))
    assert not caplog.messages
