"""Where and how a run was made, as its page says it; and each of its networks is counted once."""

import json

from nas_jax import spaces
from nas_jax.report import page_data, run_facts
from nas_jax.report.results import RunResults
from nas_jax.storage import history
from tests.report.test_page import ARCHS, SPACE, _lines, _result, _write


def test_a_later_report_is_no_part_of_the_run(tmp_path):
    rows = [
        ("10:00:00", "running", "sweep", "a", "nas-jax --config=digits"),
        ("10:00:30", "running", "report", "a", "nas-jax --config=digits"),
        ("10:00:32", "done", "search", "a", "nas-jax --config=digits"),
        ("11:00:00", "running", "report", "b", "nas-jax --mode=report"),
        ("11:00:09", "done", "report", "b", "nas-jax --mode=report"),
    ]
    facts = run_facts.of(_with_history(tmp_path, rows))
    assert facts["commands"] == ["nas-jax --config=digits"]
    assert [row[:3] for row in facts["stages"]] == [("sweep", "30 s", 1), ("report", "2 s", 1)]


def test_a_stage_that_was_killed_has_no_end(tmp_path):
    """Once killed and once done; then only killed."""
    rows = [
        ("10:00:00", "running", "supernet", "a", "nas-jax"),
        ("11:00:00", "running", "supernet", "b", "nas-jax"),
        ("11:00:30", "running", "sweep", "b", "nas-jax"),
    ]
    assert run_facts.of(_with_history(tmp_path, rows))["stages"] == [
        ("supernet", "30 s, and 1 start of which no end was recorded", 2, "1 x cpu", "done"),
        ("sweep", "not known", 1, "1 x cpu", "no end was recorded"),
    ]


def _with_history(directory, rows):
    names = "time", "status", "stage", "process", "command"
    events = [dict(zip(names, row)) | {"devices": "1 x cpu"} for row in rows]
    for event in events:
        event["time"] = f"2026-01-01T{event['time']}+00:00"
    _write(directory / history.FILE, _lines(events))
    return RunResults(directory, SPACE)


def test_named_networks_have_a_row_for_each_of_their_first_weights(tmp_path):
    """One architecture, trained from random weights to 90 % and from the supernet's to 80 %."""
    config = {"space": {"name": "cell"}, "retrain": {"archs": [ARCHS[0]]}}
    _write(tmp_path / "config.json", json.dumps(config))
    for folder, accuracy in (("named0", 0.9), ("warm0", 0.8)):
        row = _result(ARCHS[0], "final", 16, 0) | {"test_accuracy": accuracy}
        path = tmp_path / f"retrain/final/F16/{spaces.arch_id(ARCHS[0])}/{folder}/result.json"
        _write(path, json.dumps(row | {"seconds": 30}))
    results = RunResults(tmp_path, SPACE)
    columns = page_data.of(results)["networks"]["columns"]
    assert dict(zip(columns["groups"]["values"], columns["accuracy"]["values"])) == {
        "from random weights": 90,
        "from supernet weights": 80,
    }
    assert run_facts.of(results)["training"] == "60 s"  # of both
