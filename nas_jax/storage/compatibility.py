"""Compatibility with earlier versions: fields of the config that did not exist, other defaults.

An older run goes on as it began, and studies find what it left. A new field therefore needs a line
in `ABSENT`, and a new default a line in `FORMER_DEFAULTS`. Both stay for good. Configs are nested
plain dicts here, and fields are named 'a.b'.
"""

import copy
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any

# Field -> the value that reproduces what runs did before the field existed.
ABSENT = {
    "metric": "accuracy",
    "listeners": ["tensorboard"],
    "sweep.latency.table": "",
    "study.half": "all",
    "study.surrogate_archs": 0,
    "sweep.supernets": [],
    "sweep.ensemble.members": [],
    "sweep.ensemble.combine": "mean",
    "sweep.ensemble.num_references": 512,
    "sweep.proxy.num_images": 64,
    "sweep.proxy.image_size": 0,
    "sweep.proxy.space": [],
    "sweep.proxy.filters": 0,
    "sweep.proxy.num_draws": 1,
    "retrain.compile": "each",
    "retrain.archs": [],
    "retrain.init": "random",
    "retrain.widths.rounds": 1,
    "retrain.final.pbt": [],
    "retrain.final.pbt_every": 100,
    "data.shuffle_seed": -1,
    "data.image_key": "image",
    "data.label_key": "label",
    "data.fractions": [0.6, 0.2, 0.2],
    "data.split_seed": 0,
    "data.memory_gb": 4.0,
    "supernet.other_data": False,
    "supernet.strategy_rounds": 1,
    "supernet.strategy_images": 0,
    "supernet.archs_per_step": 0,
    "supernet.landmarks.count": 0,
    "supernet.landmarks.weight": 1.0,
    "supernet.landmarks.every": 4,
    "supernet.split.choices": [],
    "supernet.split.share": 0.25,
    "supernet.split.lr": 0.5,
    "supernet.distillation": False,
    "supernet.variant": "none",
    "supernet.remat": "none",
    "supernet.variant_options": [],  # as JSON has it
}
_TRAININGS = ("supernet.train", "retrain.short.train", "retrain.final.train")
_RECIPE = {  # of a training
    "optimizer": "sgd",
    "optimizer_options": [],
    "loss": "cross_entropy",
    "loss_options": [],
    "class_weights": [],
    "ema": 0.0,
    "augment.fn": "none",
    "augment.mixup": 0.0,
}
ABSENT |= {f"{train}.{name}": value for train in _TRAININGS for name, value in _RECIPE.items()}
# Sections that did not exist; all their fields are in `ABSENT`.
NEW_SECTIONS = ("sweep.proxy", "sweep.ensemble", "supernet.split", "supernet.landmarks")
# Field -> (its former default, the field that config.json lacks in runs with that default).
FORMER_DEFAULTS = {
    "retrain.selection.top_pool": (100, "data.shuffle_seed"),
}
# Values that older data.json files lack: the order of the images, and the former version of each
# method that was corrected since (`mended`).
INPUTS = {"order": "stored", "path_dropout": "first", "trained": "first"}
# Arrays of older checkpoints without a use: SGD counted steps to look up the learning rate.
FORMER_LEAVES = ("opt_state.1.1.count",)
# Former values of `sweep.strategy` that are training variants now.
FORMER_STRATEGIES = ("morphnet", "pbt", "smash")
FORMER_SMASH = ["basis", 4]  # option of a SMASH that names no form
# Fields that name a place. Its content is compared instead (data.json).
PLACES = ("data.data_dir", "study.pool", "study.paper_points")
# Prefixes of `data.name` after which a place follows.
PLACED = ("folder:", "npz:")
TABLE = "table"  # a file: its name counts, its folder does not
# Fields that decide no result: what is refused, and who is told.
CHECKS = ("supernet.other_data", "listeners")


def completed(config: Mapping) -> dict:
    """Copy a config and add the fields that it lacks, each with its value of `ABSENT`.

    Missing sections are not added, so that a part of a config stays a part; but `NEW_SECTIONS` are,
    where the section around them is there. A former strategy that is a training variant now becomes
    `supernet.variant`, and SMASH without a form the light form.
    """
    whole = with_former_options(with_variant(copy.deepcopy(dict(config))))
    for name, value in (*((name, {}) for name in NEW_SECTIONS), *ABSENT.items()):
        section, field = _section(whole, name)
        if section is not None:
            section.setdefault(field, value)
    return whole


def with_variant(config: dict) -> dict:
    """Write a former `sweep.strategy` of a config, or of a part of it, as a `supernet.variant`.

    SMASH had one form, with a basis; a config that does not name one gets it. The config is
    changed, and returned.
    """
    sweep, supernet = config.get("sweep", {}), config.get("supernet", {})
    if sweep.get("strategy") in FORMER_STRATEGIES and "variant" not in supernet:
        supernet["variant"], supernet["variant_options"] = sweep["strategy"], sweep["options"]
        sweep["strategy"], sweep["options"] = "random_search", []
    options = _options(supernet)
    if supernet.get("variant") == "smash" and options is not None and "basis" not in options:
        supernet["variant_options"] = [*supernet.get("variant_options", ()), FORMER_SMASH]
    return config


def with_former_options(config: dict) -> dict:
    """Write the options that PBT had where config.json is older than `retrain.final.pbt`.

    A quarter was replaced then, and a factor multiplied or divided by `perturb`. What is written so
    already stays, and so do options that are damaged. The config is changed, and returned.
    """
    supernet, (final, field) = config.get("supernet", {}), _section(config, "retrain.final.pbt")
    options = _options(supernet)
    if supernet.get("variant") != "pbt" or final is None or field in final or options is None:
        return config
    perturb = options.get("perturb", 1.25)
    if isinstance(perturb, int | float) and perturb > 0:
        perturb = [perturb, 1 / perturb]
    options |= {"share": options.get("share", 0.25), "perturb": perturb}
    supernet["variant_options"] = list(map(list, options.items()))
    return config


def _options(supernet):
    """Return the options of a variant, {name: value}; None if they are no pairs of these."""
    pairs = supernet.get("variant_options", ())
    is_whole = isinstance(pairs, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    )
    return dict(pairs) if is_whole else None


def without_former(config: Mapping, prefix: str = "", also: Collection[str] = ()) -> dict:
    """Copy a config, or a section of it, without fields that have their value of `ABSENT`.

    Such a copy is the same for a run that was begun before these fields existed.

    Args:
      config: the config, or the section.
      prefix: name of the section with a point, such as "sweep."; "" for a whole config.
      also: further fields to leave out.
    """
    kept = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in also or (name in ABSENT and _same(ABSENT[name], value)):
            continue
        kept[key] = value
        if isinstance(value, Mapping):
            kept[key] = without_former(value, f"{name}.", also)
        if name in NEW_SECTIONS and not kept[key]:
            del kept[key]
    return kept


def decisive(config: Mapping) -> dict:
    """Copy a config and keep what decides the results of a run.

    Paths become '', 'folder:PATH' becomes 'folder:', the path of a table its file name, and fields
    that only decide what is refused, or who is told, are left out.
    """
    kept = copy.deepcopy(dict(config))
    for name in PLACES:
        section, field = _section(kept, name)
        if section is not None and field in section:
            section[field] = ""
    for name in CHECKS:
        section, field = _section(kept, name)
        if section is not None:
            section.pop(field, None)
    section, field = _section(kept, "data.name")
    if section is not None and str(section.get(field)).startswith(PLACED):
        section[field] = section[field].partition(":")[0] + ":"
    if isinstance(kept.get(TABLE), str):
        kept[TABLE] = PurePath(kept[TABLE]).name
    return kept


def mended(space: str, sampler: str = "", evaluator: str = "") -> dict[str, str]:
    """Name the version of each corrected method that a run uses.

    A run that began with another version cannot go on, and its results cannot be compared. Path
    dropout left a chain's layer without a path, and counted NAS-Bench-201's "none" as a path.
    Trained candidates of the cell space began with too small kernels.

    Args:
      space: `space.name` of the config.
      sampler: `supernet.sampler`, where a supernet is trained.
      evaluator: `sweep.score`, where candidates are evaluated.
    """
    trains = evaluator not in ("table", "trained")
    drops = (trains and sampler == "path_dropout") or evaluator == "kl"
    versions = {}
    if space in ("nasbench_macro", "nasbench201") and drops:
        versions["path_dropout"] = "second"
    if space == "cell" and evaluator == "trained":
        versions["trained"] = "second"
    return versions


def of_strategy(name: str) -> dict[str, str]:
    """Name the version of a strategy, `sweep.strategy`: what the former one asked for differs."""
    return {"surrogate": "second"} if name == "surrogate" else {}


def of_variant(config: Mapping) -> dict[str, str]:
    """Name the version of a training variant, for the ids of a study's store.

    Populations had other defaults once: supernets of then are not those of today's config.

    Args:
      config: with the section `supernet`.
    """
    return {"pbt": "second"} if config["supernet"]["variant"] == "pbt" else {}


def same_images(there: str | None, here: str) -> bool:
    """Say whether two fingerprints are of the same images.

    Args:
      there: as it was stored; that of an earlier version does not say the images' shape.
      here: `dataset.Data.fingerprint`.
    """
    return there in (here, here.partition("-")[0])


def former_values(given: Mapping, default: Mapping, there: Mapping) -> Iterator[tuple[str, Any]]:
    """Yield (field, value) where an older run has another value than today's default.

    A field that the command sets to another value than today's default is left out.

    Args:
      given: the config of today's command.
      default: the config with today's defaults.
      there: the content of the run's config.json.
    """
    former = {name: value for name, value in ABSENT.items() if _is_absent(there, name)}
    for name, (value, since) in FORMER_DEFAULTS.items():
        if since in former and _get(there, name) == value:  # another value was set on purpose
            former[name] = value
    for name, value in former.items():
        now = _get(given, name)
        if now is not None and not _same(now, value) and now == _get(default, name):
            yield name, value


def _same(a, b):
    """Say whether two values are equal; JSON turns a tuple into a list."""
    a, b = (list(x) if isinstance(x, tuple) else x for x in (a, b))
    return a == b


def _section(config, name):
    """Return the section of a field, None if it is missing, and the last part of its name."""
    *sections, field = name.split(".")
    try:
        section = functools.reduce(lambda section, part: section[part], sections, config)
    except (KeyError, TypeError):
        return None, field
    return (section if isinstance(section, Mapping) else None), field


def _is_absent(config, name):
    section, field = _section(config, name)
    return section is not None and field not in section


def _get(config, name):
    section, field = _section(config, name)
    return None if section is None else section.get(field)
