"""Whatever a config, a string or a file holds: it is taken, or refused in a line that says why."""

import ast
import functools
import json
import shutil
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import nas_jax
from nas_jax import pipeline, spaces
from nas_jax.config.variants import flatten
from nas_jax.costs import widths
from nas_jax.report import analysis, page
from nas_jax.spaces import tabular
from nas_jax.storage import json_files, schemas
from tests import trainings
from tests.configs import tiny
from tests.report import test_page

pytestmark = pytest.mark.system

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

LEAVES = [name.split(".") for name, _ in flatten(tiny.get_config())]
FIELDS = sorted({".".join(way[:depth]) for way in LEAVES for depth in range(1, len(way) + 1)})
GONE = object()  # no such field
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.integers(-3, 40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["train[:64]", "cell", "auto", "enas", "table", "cosine"]),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3).map(tuple), st.sampled_from([[], {}, GONE])
)


def _changed(changes):
    config = tiny.get_config()
    with config.unlocked(), config.ignore_type():
        for name in sorted(changes, key=lambda name: -name.count(".")):  # sections last
            value = changes[name]
            *sections, last = name.split(".")
            node = config
            for section in sections:
                node = node[section]
            node[last] = ConfigDict(value) if isinstance(value, dict) else value
            if value is GONE:
                del node[last]
    return config


@examples(1000)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
def test_a_config_is_built_or_refused(changes):
    refused(trainings.build, _changed(changes))


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


@pytest.mark.parametrize("name", SPACES)
def test_a_batch_of_architectures_has_no_one_string(name):
    """Refused whatever it holds, also where its masks would pass for one architecture's."""
    space = SPACES[name]
    first = jax.tree.leaves(space.choices)[0]
    for count in (1, 3):
        archs = space.sample(jax.random.key(0), (count,))
        message = rf"mask of '{first.name}' has shape \({count}, {first.num_options}\), not "
        with pytest.raises(ValueError, match=message):
            space.to_str(archs)
        assert len(space.to_strs(archs)) == count
    with pytest.raises(ValueError, match="without a batch axis"):
        space.standalone(archs, num_classes=10, filters=4)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("given", [None, 3, b"0", [], ["0", "1"], ("22212220",)])
def test_what_is_no_string_is_no_architecture(name, given):
    message = "is given as one string, not as (NoneType|int|bytes|list|tuple):"
    with pytest.raises(ValueError, match=message):
        SPACES[name].from_str(given)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"filters": 0, "num_classes": 10}, "filters=0 must be a whole number from 1 on"),
        ({"filters": -4, "num_classes": 10}, "filters=-4 must be"),
        ({"filters": 2.5, "num_classes": 10}, "filters=2.5 must be"),
        ({"filters": 4, "num_classes": 0}, "num_classes=0 must be a whole number from 1 on"),
    ],
)
def test_a_network_without_channels_or_classes_is_refused(name, counts, message):
    space = SPACES[name]
    text = space.to_str(space.all_on())
    for make in (space.supernet, functools.partial(space.standalone, text)):
        with pytest.raises(ValueError, match=message):
            make(**counts)


# -- files ----------------------------------------------------------------------------------------

CSV = "arch,cifar10_valid_accuracy,cifar10_test_accuracy\n00000000,50,50.5\n01210000,60,61\n"

JSON = '{"01210000": {"test_acc": [90.1, 90.2], "mean_acc": 90.15, "params": 1.0, "flops": 2.0}}'
TABLES = {"table.csv": CSV, "nas-bench-macro_cifar10.json": JSON}


def damaged(data, content):
    """Bytes of which some are others, gone or doubled."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
    return bytes(content)


LINES = [{"step": i, "loss": 0.5, "arch": "0>identity"} for i in range(3)]


@examples(150)
@given(data=st.data())
def test_a_file_of_a_run_is_read_or_refused_by_its_name(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    path.write_bytes(damaged(data, text))
    for read in (json_files.read_jsonl, json_files.read_json):
        refused(read, path, naming=str(path))


@examples(100)
@given(data=st.data())
def test_a_table_is_read_or_refused(tmp_path_factory, data):
    name, text = data.draw(st.sampled_from(list(TABLES.items())))
    path = tmp_path_factory.mktemp("tables") / name
    path.write_bytes(damaged(data, text.encode()))
    refused(tabular.load, str(path), SPACES["nasbench_macro"], naming=path.name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with every file that a report reads."""
    directory = test_page.make_run(tmp_path_factory.mktemp("run"))
    for name, rows in RUN.items():
        json_files.append_jsonl(directory / name, rows)
    return directory


ARCH = test_page.ARCHS[0]
OWN = {"cell0/0": 8, "cell0/1": 4}
RUN = {
    "lineage.jsonl": [
        {"step": 0, "scores": None, "parents": [0, 1], "learning_rate": [0.1, 0.2]},
        {"step": 10, "scores": [0.5, None], "parents": [0, 0], "learning_rate": [0.1, 0.12]},
        {"step": 20, "scores": [0.5, 0.6], "parents": [0, 1], "learning_rate": [0.1, 0.12]},
    ],
    "latency.json": [
        {
            "num_archs": 9,
            "error_percent": 3.5,
            "base_ms": 1.0,
            "batch_size": 8,
            "device": "cpu",
            "options_ms": {"block0_inputs": [0.1, 0.2]},
        }
    ],
    "retrain/widths/F8/0/widths.json": [
        {
            "arch": ARCH,
            "seed": 0,
            "resource": "flops",
            "tuned": f"{ARCH}@8,4",
            "costs": {name: 1000 for name in schemas.NETWORKS},
            "widths": {name: OWN for name in schemas.NETWORKS},
        }
    ],
}


def _places(value, path=()):
    """The ways to everything inside a JSON value."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inside in value.items() if isinstance(value, dict) else ():
        yield from _places(inside, (*path, key))


def _replaced(data, value):
    """The value with one thing in it replaced or gone."""
    *way, last = data.draw(st.sampled_from([p for p in _places(value) if p]))
    node = value
    for key in way:
        node = node[key]
    if data.draw(st.integers(0, 3)):
        node[last] = data.draw(JSON_VALUES)
    else:
        del node[last]
    return value


JSON_VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(), SCALARS))


@examples(60)
@given(data=st.data())
def test_a_report_is_written_or_names_the_damaged_file(run, monkeypatch, data):
    for name in ("MOST", "LEAST"):
        monkeypatch.setattr(analysis, name, 10)  # resamples, which are slow
    files = {path.name: path for path in run.rglob("*.json*") if path.name != "config.json"}
    path = files[data.draw(st.sampled_from(sorted(files)))]
    sound = path.read_bytes()
    _spoil(data, path)
    refused(page.write, run, test_page.SPACE)
    path.write_bytes(sound)


def _spoil(data, path):
    """The file gets other bytes, or another value somewhere."""
    sound = path.read_text()
    if data.draw(st.booleans()):
        path.write_bytes(damaged(data, sound.encode()))
        return
    lines = sound.splitlines() if path.suffix == ".jsonl" else [sound]
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = json.dumps(_replaced(data, json.loads(lines[number])))
    path.write_text("".join(line + "\n" for line in lines))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(config, folder) of a search that is done."""
    config, directory = tiny.get_config(), tmp_path_factory.mktemp("searched") / "run"
    config.space.num_cells = config.space.num_blocks = 1
    config.supernet.train.num_steps = 10
    config.retrain.short.groups.update({"random": 2, "stratified": 0})
    config.retrain.short.train.num_steps = config.retrain.final.train.num_steps = 3
    pipeline.run(config, "search", directory)
    return config, directory


@examples(30)
@given(data=st.data())
def test_a_mode_runs_in_a_damaged_workdir_or_is_refused(searched, tmp_path_factory, data):
    config, whole = searched
    directory = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(whole, directory)
    paths = [path for path in directory.rglob("*.json*") if "checkpoints" not in path.parts]
    files = {path.name: path for path in paths}
    _spoil(data, files[data.draw(st.sampled_from(sorted(files)))])
    mode = data.draw(st.sampled_from(["search", "sweep", "report"]))
    refused(pipeline.run, config, mode, directory)
    shutil.rmtree(directory)


def test_nothing_that_a_file_contains_is_executed():
    """No module of the package can: neither pickles nor evaluates."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "eval", "exec", "compile", "allow_pickle"}
    for path in [*ROOT.rglob("*.py"), ROOT.parent / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "id", None), getattr(node, "arg", None)]
            names += [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            assert not forbidden & set(filter(None, names)), f"{path}: {names}"
