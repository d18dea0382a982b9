"""Objects by name: of the registry, of files and modules, and what cannot be found."""

import functools
import importlib.metadata
import math

import numpy as np
import pytest

from nas_jax import plugins

OWN = {"one": 1, "two": 2}
FIELD = "config.x"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text)


def resolve(name):
    return plugins.resolve(FIELD, name, OWN, "things")


def test_own_names_objects_and_modules():
    assert resolve("two") == 2
    assert resolve(OWN) is OWN
    assert resolve("math:pi") == math.pi


def test_a_file_is_read_once(folder):
    write(folder, "class Space: pass")
    first = resolve("mine.py:Space")
    assert first is resolve(f"{folder}/mine.py:Space")
    assert plugins.file_of("mine.py:Space").name == "mine.py"
    assert plugins.file_of("math:pi") is None


def test_installed_plugins(monkeypatch):
    point = importlib.metadata.EntryPoint("pi", "math:pi", "nas_jax.things")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    assert resolve("pi") == math.pi
    with pytest.raises(ValueError, match=r"config.x='pie' is none of one, two, pi; nearest: 'pi'"):
        resolve("pie")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tow", r"config.x='tow' is none of one, two; nearest: 'two'"),
        ("no.py:a", r"config.x='no.py:a': there is no file .*/no.py"),
        ("no_module:a", r"ModuleNotFoundError in .*: No module named 'no_module'"),
        ("math:pie", r"config.x='math:pie': math has no 'pie'; nearest: 'pi'"),
        ("mine.py:spcae", r"mine.py has no 'spcae'; nearest: 'space'"),
        ("syntax.py:a", r"SyntaxError in .*syntax.py, line 2: invalid syntax"),
        ("raises.py:a", r"ZeroDivisionError in .*raises.py, line 2: division by zero"),
    ],
)
def test_what_cannot_be_found(folder, name, message):
    write(folder, "space = 1")
    write(folder, "a = 1\na b", "syntax.py")
    write(folder, "a = 1\n1 / 0", "raises.py")
    with pytest.raises(ValueError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_changed_is_read_again(folder):
    """Its digest is another, too; a file that is not named does not count."""
    write(folder, "size = 1")
    config = {"space": {"name": "mine.py:size", "ops": ("a", "b")}}
    first = plugins.digests_of_code(config)
    assert [*first] == ["mine.py"]
    assert resolve("mine.py:size") == 1
    write(folder, "size = 2")
    assert resolve("mine.py:size") == 2
    assert plugins.digests_of_code(config)["mine.py"] != first["mine.py"]
    assert plugins.digests_of_code({"space": {"name": "cell"}}) == {}


def test_a_module_of_the_user_has_a_digest_and_a_library_has_none(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    write(folder, "size = 1", "user_module.py")
    named = {"a": "user_module:size", "b": ("math:pi", "optax:sgd"), "c": "nas_jax.spaces:make"}
    assert plugins.digests_of_code(named) == {}  # not imported yet
    assert resolve("user_module:size") == 1
    first = plugins.digests_of_code(named)
    assert [*first] == ["user_module"]
    write(folder, "size = 2", "user_module.py")
    assert plugins.digests_of_code(named)["user_module"] != first["user_module"]


def test_values_are_named_alike_in_every_process():
    function = functools.partial(math.pow, 2, y=(3, math.exp))
    assert repr(plugins.plain((np.int64(2), np.float32(0.5)))) == "(2, 0.5)"
    assert plugins.plain((function, math.pi)) == ("math:pow(2, y=(3, 'math:exp'))", math.pi)
