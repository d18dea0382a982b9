"""What runs did before a field of the config existed, or had another default.

A run that was begun before goes on as it began, and what it left is found. So whoever adds a field
adds a line to `ABSENT`, and whoever changes a default a line to `FORMER_DEFAULTS`; both stay for
good. Configs are nested plain dicts here, fields are named 'a.b'.
"""

import copy
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any

# Field -> the value with which a run does what runs did before there was that field.
ABSENT = {
    "data.shuffle_seed": -1,
    "supernet.other_data": False,
    "supernet.variant": "none",
    "supernet.variant_options": [],  # as JSON has it
}
# Field -> the default that runs had in whose config.json that other field is absent.
FORMER_DEFAULTS = {
    "retrain.selection.top_pool": (100, "data.shuffle_seed"),
}
# What data.json did not say before: the order in which images were taken, and which form of a
# method that was mended since (`mended`) a run used.
INPUTS = {"order": "stored", "path_dropout": "first", "trained": "first"}
# Arrays of a checkpoint that have no use any more: SGD counted steps to look up the learning rate.
FORMER_LEAVES = ("opt_state.1.1.count",)
# `sweep.strategy` of those that are training variants now.
FORMER_STRATEGIES = ("morphnet", "pbt", "smash")
# Fields that say where something lies. What lies there is compared by its content (data.json).
PLACES = ("data.data_dir", "study.pool", "study.paper_points")
TABLE = "table"  # a file: its name counts, its folder does not
CHECKS = ("supernet.other_data",)  # fields that decide what is refused, not what is made


def completed(config: Mapping) -> dict:
    """Copy a config and add the fields that it lacks, each with its value of `ABSENT`.

    Sections that it lacks are not added, so that a part of a config stays a part. A strategy that
    is a training variant now becomes that.
    """
    found = _with_variant(copy.deepcopy(dict(config)))
    for name, value in ABSENT.items():
        section, field = _section(found, name)
        if section is not None:
            section.setdefault(field, value)
    return found


def _with_variant(config):
    """Write a former `sweep.strategy` as today's `supernet.variant`."""
    sweep, supernet = config.get("sweep", {}), config.get("supernet", {})
    if sweep.get("strategy") in FORMER_STRATEGIES and "variant" not in supernet:
        supernet["variant"], supernet["variant_options"] = sweep["strategy"], sweep["options"]
        sweep["strategy"], sweep["options"] = "random_search", []
    return config


def without_former(config: Mapping, prefix: str = "", also: Collection[str] = ()) -> dict:
    """Copy a config, or its section `prefix`, without fields that have their value of `ABSENT` (a
    run that was begun before has the same), and without those that `also` names."""
    kept = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            kept[key] = without_former(value, f"{name}.", also)
        elif name not in also and (name not in ABSENT or not _same(ABSENT[name], value)):
            kept[key] = value
    return kept


def decisive(config: Mapping) -> dict:
    """Copy of a config what decides what a run makes: not where things lie (paths become '', that
    of a table its name), nor what is checked."""
    found = copy.deepcopy(dict(config))
    for name in PLACES:
        section, field = _section(found, name)
        if section is not None and field in section:
            section[field] = ""
    for name in CHECKS:
        section, field = _section(found, name)
        if section is not None:
            section.pop(field, None)
    if isinstance(found.get(TABLE), str):
        found[TABLE] = PurePath(found[TABLE]).name
    return found


def mended(space: str, sampler: str = "", evaluator: str = "") -> dict[str, str]:
    """Name the form of methods that were mended, where a run uses them: what it began with another
    form cannot go on, nor be compared.

    Path dropout left a chain's layer without a path, and counted NAS-Bench-201's "none" as one.
    Candidates of the cell space that were trained began with too small kernels.

    Args:
      space: `space.name` of the config.
      sampler: `supernet.sampler`, where a supernet is trained.
      evaluator: `sweep.score`, where candidates are evaluated.
    """
    trains = evaluator not in ("table", "trained")
    drops = (trains and sampler == "path_dropout") or evaluator == "kl"
    found = {}
    if space in ("nasbench_macro", "nasbench201") and drops:
        found["path_dropout"] = "second"
    if space == "cell" and evaluator == "trained":
        found["trained"] = "second"
    return found


def former_values(given: Mapping, default: Mapping, there: Mapping) -> Iterator[tuple[str, Any]]:
    """Find what a run that was begun before has in place of today's defaults: (field, value) each.

    A field that was given another value than today's default is left as it is.

    Args:
      given: the config of today's command.
      default: the config with today's defaults.
      there: what config.json of the run holds.
    """
    former = {name: value for name, value in ABSENT.items() if _is_absent(there, name)}
    for name, (value, since) in FORMER_DEFAULTS.items():
        if since in former and _get(there, name) == value:  # else what it holds was meant
            former[name] = value
    for name, value in former.items():
        now = _get(given, name)
        if now is not None and not _same(now, value) and now == _get(default, name):
            yield name, value


def _same(a, b):
    """Whether two values are equal; a tuple is the list that JSON makes of it."""
    a, b = (list(x) if isinstance(x, tuple) else x for x in (a, b))
    return a == b


def _section(config, name):
    """The section (None if it is not there) and the last part of a field's name."""
    *sections, field = name.split(".")
    try:
        found = functools.reduce(lambda section, part: section[part], sections, config)
    except (KeyError, TypeError):
        return None, field
    return (found if isinstance(found, Mapping) else None), field


def _is_absent(config, name):
    section, field = _section(config, name)
    return section is not None and field not in section


def _get(config, name):
    section, field = _section(config, name)
    return None if section is None else section.get(field)
