"""Spaces of a user: of a file, of a module, of an installed plug-in, or an object."""

import dataclasses
import importlib.metadata
import sys

import pytest
from ml_collections import ConfigDict

from nas_jax import build, spaces
from nas_jax.spaces import ops
from nas_jax.spaces.cell import CellSpace
from tests import trainings
from tests.configs import tiny

MINE = """
import dataclasses
from nas_jax.spaces.cell import CellSpace

@dataclasses.dataclass(frozen=True)
class Small(CellSpace):
    num_cells: int = 1
    num_blocks: int = 2
    ops: tuple = ("identity", "sep3x3")
    sizes: tuple = ((1, 2), (3, 4))
    extra: int = dataclasses.field(default_factory=lambda: 7)
    limit: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.extra == 13:
            raise RuntimeError("no\\nluck")

@dataclasses.dataclass(frozen=True)
class NoDefault(CellSpace):
    here: int = dataclasses.field(kw_only=True)

class Plain: pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_space.py").write_text(MINE)
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Named(CellSpace):
    """A space of a module."""

    num_cells: int = 3


def test_a_class_of_a_file(folder):
    space = spaces.make("my_space.py:Small", num_blocks=1, sizes=[[5], [6]])
    assert (space.num_cells, space.num_blocks, space.extra) == (1, 1, 7)
    assert space.sizes == ((5,), (6,))  # lists, as of JSON, become tuples: a space is hashed
    assert space == spaces.make(f"{folder}/my_space.py:Small", num_blocks=1, sizes=((5,), (6,)))
    assert space.count() == 3 * 3
    assert spaces.defaults("my_space.py:Small")["extra"] == 7


def test_a_class_of_a_module_and_an_installed_one(monkeypatch):
    name = f"{__name__}:Named"
    assert spaces.make(name) == Named()
    point = importlib.metadata.EntryPoint("named", name, "nas_jax.spaces")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    assert spaces.make("named", num_cells=2) == Named(num_cells=2)


def test_an_object_is_its_own_space():
    space = Named(num_cells=2)
    assert spaces.make(space) is space
    assert spaces.make(space, num_blocks=1) == Named(num_cells=2, num_blocks=1)
    with pytest.raises(ValueError, match=r"space.nothing is no field of 'Named', which has num_c"):
        spaces.make(space, nothing=1)


def test_an_object_as_a_section_of_a_config(folder):
    for space in (
        Named(num_cells=2),
        spaces.make("nasbench_macro", stages=(1, 2)),
        spaces.make("my_space.py:Small", sizes=((9,),)),
    ):
        assert spaces.make(**spaces.as_fields(space)) == space
    assert spaces.as_fields(Named())["name"] == f"{__name__}:Named"
    inside = dataclasses.make_dataclass("Inside", [], bases=(CellSpace,), frozen=True)
    inside.__module__ = __name__
    with pytest.raises(ValueError, match=r"Inside.*(no 'Inside'|not found)"):
        spaces.as_fields(inside())


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("my_space.py:Smal", {}, "my_space.py has no 'Smal'; nearest: 'Small'"),
        ("nowhere.py:Small", {}, "there is no file .*nowhere.py"),
        ("my_space.py:Plain", {}, "must be a class: a frozen dataclass, below nas_jax.spaces.Spa"),
        ("my_space.py:dataclasses", {}, "must be a class: a frozen dataclass"),
        ("my_space.py:NoDefault", {}, "its field 'here' needs a default"),
        ("my_space.py:Small", {"num_cell": 1}, "space.num_cell is no field of 'my_space.py:Small'"),
        ("my_space.py:Small", {"num_cells": 0}, "space.num_cells=0 must be a whole"),
        ("my_space.py:Small", {"extra": 13}, "RuntimeError in .*my_space.py, line 17: no luck"),
        ("broken.py:Small", {}, "broken.py:Small.*ZeroDivisionError in .*broken.py, line 2"),
    ],
)
def test_what_is_refused_in_one_line(folder, name, fields, message):
    (folder / "broken.py").write_text("\n1 / 0\n")
    with pytest.raises(ValueError, match=message) as refused:
        spaces.make(name, **fields)
    assert "\n" not in str(refused.value)


def test_a_config_takes_the_fields_of_the_space(folder):
    """Those of the default space, which a config file sets, go with its name."""
    config = tiny.get_config()
    config.space.name = "my_space.py:Small"
    config.space.num_blocks = 1
    run = build.build_run(config, folder / "run")
    assert run.space == spaces.make("my_space.py:Small", num_cells=2, num_blocks=1, **OPS)
    assert (run.config.space.extra, run.config.space.limit) == (7, None)
    config = tiny.get_config()
    config.space = ConfigDict({"name": "my_space.py:Small", "limit": 0.5})
    assert trainings.build(config)[1] == spaces.make("my_space.py:Small", limit=0.5)


OPS = {"ops": ("identity", "sep3x3", "maxpool"), "cells_per_stage": 1}


def test_a_config_with_the_name_of_another_space(folder):
    config = tiny.get_config()
    config.space.name = "nasbench_macro"
    space = build.with_space_fields(config).space
    assert space.to_dict() == {"name": "nasbench_macro", "stages": (2, 3, 3), "head": 40}
    config.space = ConfigDict({"name": "nasbench_macro", "num_cells": 3})
    with pytest.raises(ValueError, match=r"config.space.num_cells is no field"):
        build.check_fields(config)


def test_a_file_is_run_once(folder):
    before = set(sys.modules)
    spaces.make("my_space.py:Small")
    assert len(set(sys.modules) - before) <= 1
    assert type(spaces.make("my_space.py:Small")) is type(spaces.make("my_space.py:Small"))


def test_ops_that_are_functions_get_names_in_a_config():
    """A config holds no functions, so a class or function is written by its name."""
    space = spaces.chain(stages=(1,), ops=("identity", ops.Reduced))
    section = spaces.as_fields(space)
    assert section["ops"] == ("identity", "nas_jax.spaces.ops:Reduced")
    again = spaces.make(**section)
    assert again.option_names(again.choices[0]) == ("identity", "Reduced")
