"""Whatever a config, a string or a file holds: it is taken, or refused in a line that says why."""

import ast
import json
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import nas_jax
from nas_jax import config as config_lib
from nas_jax import spaces, tables, widths, workdir
from nas_jax.variants import flatten
from tests.configs import tiny

ROOT = Path(nas_jax.__file__).parent


def examples(count):
    """So many, the same in every run; no deadline, since the first ones compile."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def refused(function, *args, naming=""):
    """What it gives, or None if it refuses as it should: in one line, which names the culprit."""
    try:
        return function(*args)
    except ValueError as error:
        message = str(error)
    assert message.strip()
    assert "\n" not in message
    assert naming in message
    return None


# -- configs --------------------------------------------------------------------------------------

FIELDS = sorted(name for name, _ in flatten(tiny.get_config()))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.integers(-3, 40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["train[:64]", "cell", "auto", "enas", "table", "cosine"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3).map(tuple), st.just([]), st.just({}))


def _changed(changes):
    config = tiny.get_config()
    with config.unlocked(), config.ignore_type():
        for name, value in changes.items():
            *sections, last = name.split(".")
            node = config
            for section in sections:
                node = node[section]
            node[last] = ConfigDict(value) if isinstance(value, dict) else value
    return config


@examples(1000)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
def test_a_config_is_built_or_refused(changes):
    refused(config_lib.build, _changed(changes))


# -- architectures --------------------------------------------------------------------------------

SPACES = {
    "cell": spaces.make("cell", num_cells=1, num_blocks=2),
    "nasbench201": spaces.make("nasbench201"),
    "nasbench_macro": spaces.make("nasbench_macro"),
}


@pytest.mark.parametrize("name", SPACES)
@examples(150)
@given(data=st.data())
def test_a_string_is_an_architecture_or_refused(name, data):
    """Any text, and valid ones of which a piece is gone, doubled or replaced."""
    space = SPACES[name]
    text = space.to_str(space.sample(jax.random.key(data.draw(st.integers(0, 9)))))
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        middle = data.draw(st.one_of(st.text(max_size=3), st.just(2 * text[start:end])))
        text = text[:start] + middle + text[end:]
    else:
        text = data.draw(st.text(max_size=20))
    arch = refused(space.from_str, text)
    if arch is not None:
        again = space.from_str(space.to_str(arch))
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), arch, again))
    refused(widths.split, f"{text}@{data.draw(st.text(max_size=8))}")


# -- files ----------------------------------------------------------------------------------------

CSV = "arch,cifar10_valid_accuracy,cifar10_test_accuracy\n00000000,50,50.5\n01210000,60,61\n"

JSON = '{"01210000": {"test_acc": [90.1, 90.2], "mean_acc": 90.15, "params": 1.0, "flops": 2.0}}'
TABLES = {"table.csv": CSV, "nas-bench-macro_cifar10.json": JSON}


def _damaged(data, content):
    """Bytes of which some are others, gone or doubled."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
    return bytes(content)


LINES = [{"step": i, "loss": 0.5, "arch": "0>identity"} for i in range(3)]


@examples(150)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*the last line")
def test_a_file_of_a_run_is_read_or_refused_by_its_name(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    path.write_bytes(_damaged(data, text))
    for read in (workdir.read_jsonl, workdir.read_json):
        refused(read, path, naming=str(path))


@examples(100)
@given(data=st.data())
def test_a_table_is_read_or_refused(tmp_path_factory, data):
    name, text = data.draw(st.sampled_from(list(TABLES.items())))
    path = tmp_path_factory.mktemp("tables") / name
    path.write_bytes(_damaged(data, text.encode()))
    refused(tables.load, str(path), SPACES["nasbench_macro"], naming=path.name)


def test_nothing_that_a_file_contains_is_executed():
    """No module of the package can: neither pickles nor evaluates."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec", "compile", "allow_pickle"}
    for path in [*ROOT.rglob("*.py"), ROOT.parent / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "id", None), getattr(node, "arg", None)]
            names += [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            assert not forbidden & set(filter(None, names)), f"{path}: {names}"
