"""Latencies of a target device: by hand from files and functions, and what is refused."""

import json

import jax
import numpy as np
import pytest

from nas_jax import pipeline, spaces
from nas_jax.costs import latency_table
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny_macro

SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3"))
INPUTS, OPS = (choice.name for choice in jax.tree.leaves(SPACE.choices))
ROWS = ["choice,option,ms", ",,2.5", f"{INPUTS},0,0", f"{INPUTS},1,1"]
ROWS += [f"{OPS},identity,0.25", f"{OPS},sep3x3,4"]
OBJECT = {"base_ms": 2.5, "options_ms": {INPUTS: [0, 1], OPS: {"identity": 0.25, "1": 4}}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pi.csv").write_text("\n".join(ROWS))
    (tmp_path / "pi.json").write_text(json.dumps(OBJECT))
    (tmp_path / "mine.py").write_text(
        f"def pi(space):\n    return {OBJECT!r}\ndef bad(space):\n    return 1 / 0\n"
        "def text(space):\n    return 'x'\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["pi.csv", "pi.json", "mine.py:pi"])
def test_tables_by_hand(name):
    found = latency_table.read(SPACE, name)
    assert found[None] == 2.5
    np.testing.assert_array_equal(found[INPUTS], [0, 1])
    np.testing.assert_array_equal(found[OPS], [0.25, 4])
    assert latency_table.digest(found) == latency_table.digest(latency_table.read(SPACE, "pi.csv"))


def _without(line):
    return [row for number, row in enumerate(ROWS) if number != line]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_without(5), rf"=x.csv: {OPS} lacks the option 'sep3x3' \(number 1\)"),
        ([*ROWS[:5], f"{OPS},sep3x3,-4"], "line 6: ms is -4.0, not a number of at least 0"),
        ([*ROWS[:5], f"{OPS},sep3x3,fast"], "line 6: ms is 'fast', not a number of at least 0"),
        ([*ROWS[:5], f"{OPS},sep3x,4"], "option='sep3x' is none of .*; nearest: 'sep3x3'"),
        ([*ROWS[:5], "ops,sep3x3,4"], "choice='ops' is none of .*nearest"),
        ([*ROWS, f"{OPS},sep3x3,4"], "line 7: .* has 'sep3x3' twice"),
        ([*ROWS, f"{OPS},1,4"], "has the option 'sep3x3' twice"),
        (["a,b", "1,2"], "has the columns a, b, but needs 'choice'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(folder, rows, message):
    (folder / "x.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=message):
        latency_table.read(SPACE, "x.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.csv", "table=no.csv: there is no such file"),
        ("mine.py:bad", r"ZeroDivisionError in .*mine.py, line \d+"),
        ("mine.py:text", "gives a str without 'options_ms'"),
        ("bad.json", "table=bad.json is not JSON"),
        ("nan.json", "base_ms is nan, not a number of at least 0"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(folder, name, message):
    (folder / "bad.json").write_text("{")
    (folder / "nan.json").write_text(json.dumps(OBJECT | {"base_ms": float("nan")}))
    with pytest.raises(ValueError, match=message):
        latency_table.read(SPACE, name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sweep.latency.num_archs": 20}, "num_archs=20 must be 0"),
        ({"sweep.constraints.max_latency": 0.5}, "max_latency=0.5, but the smallest .* has 1"),
    ],
)
def test_fields_that_do_not_fit_a_table_are_refused(fields, message, folder):
    with pytest.raises(ValueError, match=message):
        _swept(folder, fields)


def _swept(folder, fields, base=1.0):
    """A search of chains in the table of the benchmark, by latencies of 1, 2, 3 .. a layer."""
    config = tiny_macro.get_config()
    choices = jax.tree.leaves(spaces.make(**config.space.to_dict()).choices)
    options = {c.name: list(range(c.num_options)) for c in choices}
    table = folder / "macro.json"
    table.write_text(json.dumps({"base_ms": base, "options_ms": options}))
    given = {"sweep.latency.table": str(table), "sweep.score": "mine.py:score"}
    (folder / "mine.py").write_text(
        "import jax\nimport numpy as np\n"
        "def score(run):\n    return lambda archs: np.ones(len(jax.tree.leaves(archs)[0]))\n"
    )
    config.update_from_flattened_dict(given | {"sweep.num_candidates": 16} | fields)
    pipeline.run(config, "sweep", folder / "run")
    return config, json_files.read_trials(folder / "run" / "trials.jsonl")


@pytest.mark.system
def test_a_search_keeps_to_latencies_of_a_table(folder):
    config, rows = _swept(folder, {"sweep.constraints.max_latency": 5.0})
    space = trainings.build(config)[1]
    assert len(rows) == 16
    for row in rows:
        arch = space.from_str(row["arch"])
        assert row["latency_ms"] == 1 + sum(int(np.argmax(m)) for m in jax.tree.leaves(arch))
        assert row["latency_ms"] <= 5
    assert not (folder / "run" / "latency.json").exists()
    with pytest.raises(ValueError, match="with other latencies: their table has changed since"):
        _swept(folder, {"sweep.constraints.max_latency": 5.0}, base=2.0)
