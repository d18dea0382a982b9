"""The history of a folder: how long each stage took, on what, by which command."""

import subprocess
import sys

import jax
import pytest

from nas_jax.storage import history, json_files, workdir

HERE = {"devices": "2 x cpu", "command": "nas-jax --config=digits"}


def _line(time, status, stage="", process="a", **fields):
    named = {"stage": stage} if stage else {}
    return {"time": f"2026-01-01T{time}+00:00", "status": status, **named, "process": process} | (
        HERE | fields
    )


def test_a_status_is_a_line_of_the_history(tmp_path):
    workdir.set_status(tmp_path, "running", stage="sweep")
    workdir.set_status(tmp_path, "failed", stage="sweep", error="no room")
    first, last = history.read(tmp_path)
    assert (first["status"], first["stage"]) == ("running", "sweep")
    assert last["error"] == "no room"
    assert first["process"] == last["process"]
    assert first["devices"] == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    (stage,) = history.by_stage([first, last])
    assert stage[:2] == ("sweep", 1)
    assert stage[3:] == (0, (first["devices"],), "failed")
    assert 0 <= stage.seconds < 60


def test_a_folder_of_an_earlier_version_has_none(tmp_path):
    assert history.read(tmp_path) == []
    assert history.by_stage([]) == []


def test_times_are_summed_over_starts():
    """Killed in the sweep (no word of that), started again on another machine."""
    rows = [
        _line("10:00:00", "running", "supernet"),
        _line("10:00:30", "running", "sweep"),
        _line("12:00:00", "running", "supernet", process="b", devices="1 x H200"),
        _line("12:00:05", "running", "sweep", process="b", devices="1 x H200"),
        _line("12:01:05", "done", "search", process="b"),
    ]
    supernet, sweep = history.by_stage(rows)
    assert supernet == ("supernet", 2, 35, 0, ("2 x cpu", "1 x H200"), "done")
    assert sweep == ("sweep", 2, 60, 1, ("2 x cpu", "1 x H200"), "done")


def test_processes_may_take_turns():
    rows = [
        _line("10:00:00", "running", "supernet"),
        _line("10:00:10", "running", "report", process="b"),
        _line("10:00:12", "done", "report", process="b"),
        _line("10:01:00", "interrupted", "supernet"),
    ]
    supernet, report = history.by_stage(rows)
    assert supernet[2:] == (60, 0, ("2 x cpu",), "interrupted")
    assert report.seconds == 2


def test_a_stage_that_ended_without_a_word_is_running_or_was_killed():
    (stage,) = history.by_stage([_line("10:00:00", "running", "sweep")])
    assert stage[2:] == (0, 1, ("2 x cpu",), "running")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            _line("10:00:00", "running") | {"time": "yesterday"},
            "line 1 .*is 'yesterday', not a time",
        ),
        (
            _line("10:00:00", "running") | {"time": "2026-01-01T10:00"},
            "line 1 .*not a time",
        ),
        (_line("10:00:00", 3), "line 1 is damaged: status is 3, not a text"),
    ],
)
def test_a_damaged_history_is_refused(tmp_path, line, message):
    json_files.append_jsonl(tmp_path / history.FILE, [line, _line("10:00:00", "done")])
    with pytest.raises(ValueError, match=message):
        history.read(tmp_path)


def test_a_line_that_was_cut_short_is_left_out_and_others_follow(tmp_path, caplog):
    """As where the disk was full."""
    workdir.set_status(tmp_path, "running", stage="supernet")
    with open(tmp_path / history.FILE, "a") as file:
        file.write('{"time": "2026-')
    workdir.set_status(tmp_path, "running", stage="sweep")
    assert "the last line was cut short and is left out" in caplog.text
    assert [row["stage"] for row in history.read(tmp_path)] == ["supernet", "sweep"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/usr/bin/python3", "launch.py", "--config=x y"], "python3 launch.py '--config=x y'"),
        (["/v/bin/python", "/v/bin/nas-jax", "--config=digits"], "nas-jax --config=digits"),
        (["python", "-m", "mine"], "python -m mine"),
        (["python"], "python"),
    ],
)
def test_commands_are_as_a_shell_takes_them(monkeypatch, argv, expected):
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert history.command() == expected


def test_processes_are_told_apart(tmp_path):
    code = (
        "import sys, pathlib; from nas_jax.storage import workdir; "
        "workdir.set_status(pathlib.Path(sys.argv[1]), 'running')"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    one, other = history.read(tmp_path)
    assert one["process"] != other["process"]
    assert history.by_stage([one, other])[0].unknown == 2
