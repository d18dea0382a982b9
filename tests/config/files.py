"""Configs of the repository's files, read and changed."""

import functools
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def load(name):
    path, _, variant = name.partition(":")
    spec = importlib.util.spec_from_file_location("config_of_a_test", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*filter(None, [variant]))


def changed(*fields, name="configs/digits.py"):
    """A config of which some fields, ('a.b', value), are another's; locked or not."""
    config = load(name)
    with config.unlocked(), config.ignore_type():
        for field, value in fields:
            *sections, last = field.split(".")
            functools.reduce(getattr, sections, config)[last] = value
    return config
