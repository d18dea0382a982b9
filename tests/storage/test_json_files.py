"""JSON and JSON Lines: nothing half-written is believed."""

import json
import math

import numpy as np
import pytest

from nas_jax.storage import json_files, schemas


def test_write_text_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "report.md"
    for text in ("a long first text\n", "short ä\n"):
        json_files.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "status.json"
    json_files.write_json(path, {"status": "running"})
    with pytest.raises(TypeError):
        json_files.write_json(path, {"status": object()})
    assert json_files.read_json(path) == {"status": "running"}


def test_json_holds_plain_numbers_and_null_for_nan(tmp_path):
    path = tmp_path / "a.json"
    given = {"nan": math.nan, "deep": [{"inf": -math.inf}], "np": np.float32(0.5), 1: np.arange(2)}
    json_files.write_json(path, given)
    expected = {"nan": None, "deep": [{"inf": None}], "np": 0.5, "1": [0, 1]}
    assert json.loads(path.read_text()) == expected == json_files.read_json(path)


def test_what_is_not_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        json_files.read_json(tmp_path / "a.json")


def test_jsonl_grows_by_lines(tmp_path):
    path = tmp_path / "deep" / "trials.jsonl"
    assert json_files.read_jsonl(path) == []
    json_files.append_jsonl(path, [{"a": 1}, {"a": math.nan}])
    json_files.append_jsonl(path, [{"a": np.float64(0.25)}])
    assert path.read_text() == '{"a": 1}\n{"a": null}\n{"a": 0.25}\n'
    assert json_files.read_jsonl(path) == [{"a": 1}, {"a": None}, {"a": 0.25}]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_last_line_cut_short_is_left_out_with_a_warning(tmp_path, caplog, cut):
    path = tmp_path / "trials.jsonl"
    json_files.append_jsonl(path, [{"a": 1}, {"a": 22}])
    path.write_bytes(path.read_bytes()[:-cut])  # of '{"a": 22}\n'; 1 takes the line's end only
    assert json_files.read_jsonl(path) == [{"a": 1}]
    assert caplog.messages == [f"{path}: the last line was cut short and is left out"]


def test_lines_appended_after_a_cut_can_be_read(tmp_path, caplog):
    """A killed run left half a line; the next appends behind it: only that half is lost."""
    path = tmp_path / "trials.jsonl"
    json_files.append_jsonl(path, [{"a": 1}, {"a": 2}])
    path.write_bytes(path.read_bytes()[:-4])
    json_files.mend_jsonl(path)
    assert "cut short" in caplog.text
    json_files.append_jsonl(path, [{"a": 3}])
    assert json_files.read_jsonl(path) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize(
    ("end", "kept"),
    [("", 1000), ('{"step": 1000, "lo', 1000), ('{"step": 2\n', 1000), ('{"step": 2000}\n', 1000)],
)
@pytest.mark.parametrize("step", [-1, 0, 500, 999, 5000])
def test_rows_after_a_step_are_cut_and_only_the_end_is_read(tmp_path, monkeypatch, end, kept, step):
    path, read = tmp_path / "metrics.jsonl", []
    lines = [json.dumps({"step": number}) + "\n" for number in range(kept)]
    path.write_text("".join(lines) + end)
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    json_files.cut_jsonl(path, step)
    later = [end] if end.endswith("0}\n") and step == 5000 else []
    assert path.read_text() == "".join(lines[: step + 1] + later)
    assert len(read) <= max(0, kept - 1 - step) + 2


def test_no_more_than_one_line_is_dropped(tmp_path, caplog):
    """As where all are of another make."""
    path = tmp_path / "trials.jsonl"
    json_files.append_jsonl(path, [{"a": 1}, {"a": 2}, {"a": 3}])
    json_files.mend_jsonl(path, schemas.TRIAL)
    assert "the last line is damaged" in caplog.text
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_a_damaged_line_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(
        ValueError, match=r"trials\.jsonl, line 2 is damaged: '\{\"a\":' is not JSON"
    ):
        json_files.read_jsonl(path)
