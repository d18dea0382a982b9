"""The config: the paper's numbers are its defaults, and what is wrong is said in one line."""

import functools
from pathlib import Path

import pytest

from nas_jax import build, spaces
from nas_jax import config as config_lib
from nas_jax.config import validation, variants
from tests.config.files import ROOT, changed, load

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "configs").rglob("*.py")
    if not path.name.startswith("_")  # what studies share
)
STUDIES = [file for file in FILES if file.startswith("configs/studies/")]
SMALL = ["cifar", "nasbench201", "nasbench_macro"]
BENCHMARKS = ("nasbench201", "nasbench_macro")
OWN = {"regret": BENCHMARKS, "signals": BENCHMARKS, "strategies": ("digits", "small")}  # variants
OWN["widths"] = OWN["hypernetwork"] = OWN["strategies"]
VARIANTS = [*FILES, "configs/digits.py:tiny", *(f"configs/{name}.py:small" for name in SMALL)]
VARIANTS += [f"{file}:{v}" for file in STUDIES for v in OWN.get(Path(file).stem, ("small",))]


# -- the files ------------------------------------------------------------------------------------


def leaves(config, prefix=""):
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("name", VARIANTS)
def test_config_file_is_valid(name):
    config = load(name)
    known = build.all_fields(config.space.name)
    validation.config(config, known)
    assert set(leaves(config)) == set(leaves(known))
    spaces.make(**config.space.to_dict()).check_image_size(config.data.image_size)


@pytest.mark.parametrize("name", VARIANTS)
def test_config_file_says_how_to_run_it(name):
    path = name.partition(":")[0]
    assert f"python launch.py --config={path}" in (ROOT / path).read_text(encoding="utf-8")


def test_no_config_shares_its_sections_with_another():
    first, second = config_lib.default(), config_lib.default()
    first.retrain.short.train.base_lr = 5.0
    assert second.retrain.short.train.base_lr == first.retrain.final.train.base_lr == 0.1


def test_the_variant_is_known():
    with pytest.raises(ValueError, match=r"cifar\.py:smal: the variant is 'small'"):
        load("configs/cifar.py:smal")


def test_the_defaults_are_the_papers():
    """Bender et al. 2018, section 3: CIFAR-10."""
    c = config_lib.default()
    assert (c.space.name, c.space.num_cells, c.space.num_blocks) == ("cell", 6, 4)
    assert (c.data.name, c.data.train, c.data.valid) == (
        "cifar10",
        "train[:45000]",  # of 50,000
        "train[45000:]",
    )
    train, dropout = c.supernet.train, c.supernet.path_dropout
    assert c.supernet.filters == 16
    assert (train.batch_size, train.ghost_batch_size) == (1024, 32)  # 32 ghost batches
    assert (train.num_steps, train.base_lr, train.momentum) == (10_000, 0.1, 0.9)
    assert (dropout.r, dropout.schedule) == (0.1, "linear")
    assert (c.sweep.num_candidates, c.sweep.num_images) == (20_000, 5_000)
    assert (c.retrain.short.filters, c.retrain.final.filters) == ((16,), (16, 32, 64))
    assert (c.retrain.short.train.batch_size, c.retrain.short.num_seeds) == (64, 5)
    assert (c.retrain.short.train.num_epochs, c.retrain.final.train.num_epochs) == (28, 300)


@pytest.mark.parametrize("name", [file for file in STUDIES if Path(file).stem not in OWN])
def test_full_sized_studies_have_the_papers_settings(name):
    """Of its search model, its sweep and its stand-alone networks nothing differs."""
    studied, paper = load(name), config_lib.default()
    for section in ("data", "space", "network", "sweep", "retrain"):
        assert studied[section] == paper[section]
    studied.supernet.train.keep_checkpoints = paper.supernet.train.keep_checkpoints
    assert studied.supernet == paper.supernet


def test_the_dropout_study_has_the_papers_rates_and_steps():
    """Figure 4: constant r = 1e-6, 0.01 and 0.3, 5,000 steps."""
    found = variants.resolve(load("configs/studies/dropout_rate.py"))
    dropout = [config.supernet.path_dropout for config in found.values()]
    assert [(d.schedule, d.r) for d in dropout] == [
        *[("linear", 0.1), ("constant", 1e-6), ("constant", 0.01), ("constant", 0.3)]
    ]
    steps = [config.supernet.train.num_steps for config in found.values()]
    assert steps == [10_000, 5_000, 5_000, 5_000]


def test_studies_of_one_size_share_their_pool():
    """The same reference, candidates and short networks: the first variant sets nothing."""
    small = [load(f"{name}:small") for name in STUDIES if Path(name).stem not in OWN]
    for config in small:
        reference = next(iter(variants.resolve(config).values()))
        for section in ("seed", "data", "space", "network", "supernet", "sweep", "retrain"):
            assert reference[section] == small[0][section]
        assert config.study.pool == small[0].study.pool


def test_imagenet_holds_out_the_papers_images_and_steps():
    c = load("configs/imagenet.py")
    assert (c.data.train, c.data.valid) == ("train[:-50046]", "train[-50046:]")
    assert (c.data.image_size, c.space.num_cells) == (224, 8)


# -- what a config alone shows --------------------------------------------------------------------

BAD_FIELDS = [
    # no such field: the nearest one
    ("supernet.filter", 8, "supernet.filter is no field; nearest: config.supernet.filters"),
    ("sed", 1, "config.sed is no field; nearest: config.seed"),
    ("data.digits.cluter", 1, "data.digits.cluter is no field; .*config.data.digits.clutter"),
    ("supernet.base_lr", 1, "supernet.base_lr is no field; nearest: config.*train.base_lr"),
    ("supernet.train.lr", 1, "train.lr is no field; nearest: config.supernet.train.base_lr"),
    ("supernet.train.epochs", 1, "epochs is no field; nearest: config.supernet.train.num_epochs"),
    ("filters", 1, "config.filters is no field; nearest: config.supernet.filters"),
    ("foo", 1, "config.foo is no field; nearest: config."),
    (
        "data",
        1,
        "config.data is a section, which has data_dir, digits, fractions, .*data.data_dir",
    ),
    # too small
    ("supernet.filters", 0, "supernet.filters=0 must be 1 or more"),
    ("supernet.train.base_lr", -0.1, "supernet.train.base_lr=-0.1 must be 0 or more"),
    ("supernet.train.l2", -1e-4, "supernet.train.l2=-0.0001 must be 0 or more"),
    ("supernet.train.batch_size", -64, "supernet.train.batch_size=-64 must be 1 or more"),
    ("supernet.train.ghost_batch_size", 1, "ghost_batch_size=1 must be 2 or more"),
    ("supernet.train.log_every", 0, "log_every=0 must be 1 or more"),
    ("supernet.train.augment.cutout", -1, "augment.cutout=-1 must be 0 or more"),
    ("retrain.short.filters", (16, 0), r"retrain.short.filters=\(16, 0\) must be 1 or more"),
    ("retrain.short.filters", (), "config.retrain.short.filters is empty: name one or more"),
    ("retrain.final.filters", (), "config.retrain.final.filters is empty: name one or more"),
    ("retrain.final.groups.top", -1, "retrain.final.groups.top=-1 must be 0 or more"),
    ("sweep.num_candidates", 0, "sweep.num_candidates=0 must be 1 or more"),
    ("data.digits.clutter", -1, "data.digits.clutter=-1 must be 0 or more"),
    ("data.image_size", -1, "data.image_size=-1 must be 0 or more"),
    ("seed", -1, "config.seed=-1 must be 0 or more"),
    ("sweep.seed", -1, "config.sweep.seed=-1 must be 0 or more"),
    # shares and ranges
    ("supernet.path_dropout.r", 1.0, "path_dropout.r=1.0 must be at least 0 and below 1"),
    ("supernet.path_dropout.r", -0.1, "path_dropout.r=-0.1 must be at least 0"),
    ("supernet.train.momentum", 1.5, "supernet.train.momentum=1.5 must be .* below 1"),
    ("supernet.train.warmup_share", 1.0, "warmup_share=1.0 must be .* below 1"),
    ("retrain.final.train.label_smoothing", 1.0, "final.train.label_smoothing=1.0 .* below 1"),
    ("retrain.selection.small_quantile", 1.0, "small_quantile=1.0 must be .* below 1"),
    ("retrain.selection.bucket_width", 0.0, "bucket_width=0.0 must be above 0"),
    ("network.bn_epsilon", 0.0, "network.bn_epsilon=0.0 must be above 0"),
    ("network.bn_momentum", 1.0, "network.bn_momentum=1.0 must be .* below 1"),
    # names
    ("supernet.path_dropout.schedule", "liner", "schedule='liner' is none of .*: 'linear'"),
    ("supernet.train.schedule", "cosin", "train.schedule='cosin' is none of .*: 'cosine'"),
    ("retrain.short.train.schedule", "steps", "short.train.schedule='steps' .* nearest: 'step'"),
    ("network.dtype", "bf16", "network.dtype='bf16' is none of .*nearest: 'bfloat16'"),
    # fields that must fit each other
    ("supernet.train.batch_size", 72, "batch_size=72 is not a multiple of ghost_batch_size=16"),
    ("supernet.train.checkpoint_every", 75, "checkpoint_every=75 is not .* log_every=50"),
    ("supernet.train.num_steps", 0, "supernet.train: give num_steps or num_epochs; both are 0"),
    ("retrain.final.train.num_epochs", 0.0, "final.train: give num_steps or num_epochs"),
    ("supernet.sampler", "fare", "supernet.sampler='fare' is none of .*nearest: 'fair'"),
    ("sweep.bn", "recalibrated", "sweep.bn='recalibrated' is none of .*nearest: 'recalibrate'"),
    ("sweep.num_checkpoints", 3, "num_checkpoints=3 is more than supernet.train.keep_checkpoint"),
    ("sweep.score", "table", "config.sweep.score='table' needs config.table"),
    ("sweep.score", "kld", "sweep.score='kld' is none of accuracy, loss, .*; nearest: 'kl'"),
    ("sweep.kl.num_references", 0, "sweep.kl.num_references=0 must be 1 or more"),
    ("sweep.kl.r", 1.0, "sweep.kl.r=1.0 must be at least 0 and below 1"),
    ("study.course", 0, "study.course=0 must be 1 or more"),
]
BAD_PAIRS = [
    (
        (("sweep.bn", "running"), ("sweep.calibration_images", 100)),
        "calibration_images=100 is not a multiple of sweep.batch_size=128",
    ),
    (
        (("supernet.train.l2_unused", True), ("supernet.per_use_gradients", True)),
        "l2_unused and supernet.per_use_gradients exclude each other",
    ),
    (
        (("sweep.score", "kl"), ("sweep.bn", "running")),
        "but sweep.score='kl' takes the statistics of the evaluated images: set sweep.bn='batch'",
    ),
    (
        (("supernet.sampler", "sandwich"), ("supernet.train.ghost_batch_size", 32)),
        "sampler='sandwich' needs 3 ghost batches a step, not 2; lower supernet.train.ghost",
    ),
    (
        (("supernet.sampler", "shared_path"), ("supernet.archs_per_step", 4)),
        "archs_per_step=4, but sampler='shared_path' draws one architecture for a step",
    ),
    (
        (("supernet.sampler", "sandwich"), ("supernet.archs_per_step", 2)),
        "archs_per_step=2, but sampler='sandwich' needs 3 or more",
    ),
    (
        (("supernet.sampler", "sandwich"), ("supernet.distillation", True)),
        "supernet.distillation needs .* archs_per_step=4, not 'sandwich' and 0",
    ),
    (
        (("supernet.archs_per_step", 4), ("supernet.distillation", True)),
        "supernet.distillation needs .* archs_per_step=4, not 'path_dropout' and 4",
    ),
    (
        (("supernet.archs_per_step", 4), ("supernet.per_use_gradients", True)),
        "archs_per_step=4 adds up gradients, per_use_gradients takes means",
    ),
]


@pytest.mark.parametrize(("fields", "message"), BAD_PAIRS)
def test_a_bad_pair_of_fields_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        validation.config(changed(*fields), config_lib.default())


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_a_bad_field_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        validation.config(changed((field, value)), config_lib.default())


@pytest.mark.parametrize("field", ["seed", "sweep.strategy", "supernet.path_dropout.r"])
def test_a_missing_field_is_named(field):
    config = load("configs/digits.py")
    *sections, last = field.split(".")
    with config.unlocked():
        del functools.reduce(getattr, sections, config)[last]
    with pytest.raises(ValueError, match=f"config.{field} is missing; .*default"):
        validation.config(config, config_lib.default())


def test_checkpoints_only_at_the_end_are_allowed():
    config = changed(("supernet.train.checkpoint_every", 0))
    validation.config(config, config_lib.default())
