"""Long runs in small: memory, and what is read at a start, do not grow with what was done before.

`python -m tests.stress.load` measures the same at full size.
"""

import gc
import mmap
import tracemalloc

import pytest

from nas_jax import spaces
from nas_jax.candidates import sweep
from nas_jax.report import analysis, page, results
from nas_jax.storage import json_files, schemas
from tests import trainings
from tests.stress import load

pytestmark = pytest.mark.system

ROW = 250  # bytes of a trial's line; in memory it takes several times as many

SMALL = {"name": "nasbench_macro", "stages": (1, 2), "head": 2}


def _traced():
    if not tracemalloc.is_tracing():  # by now all is compiled, which is slow while it is traced
        tracemalloc.start()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(config, space, data, folder, rounds) of a sweep of 3,000 candidates whose memory was
    measured."""
    directory = tmp_path_factory.mktemp("search")
    config = load.table_config(directory / "table.csv", 3_000, SMALL)
    built = trainings.build(config)
    with load.Rounds(_traced) as rounds:
        sweep.search(trainings.run_of(*built, directory))
    tracemalloc.stop()
    return *built, directory, rounds


def _growth(rounds, first, last):
    """Bytes a candidate."""
    return (rounds.near(last)[2] - rounds.near(first)[2]) / (last - first)


def test_a_sweep_takes_no_memory_per_candidate(searched):
    *_, directory, rounds = searched
    assert len(rounds.samples) == 15
    assert (directory / "trials.jsonl").stat().st_size > 3_000 * ROW
    assert _growth(rounds, 1_000, 3_000) < ROW / 5


def test_a_resumed_sweep_takes_none_either_and_ends_the_same(searched, caplog):
    """Cut off in the middle of a line; 2,150 candidates are there already."""
    *run, directory, _ = searched
    path = directory / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2_151])[:-20])
    with load.Rounds(_traced) as rounds:
        sweep.search(trainings.run_of(*run, directory))
    assert "cut short" in caplog.text
    tracemalloc.stop()
    assert path.read_bytes() == whole
    assert [done for done, *_ in rounds.samples] == list(range(2_200, 3_001, 200))
    assert _growth(rounds, 2_400, 3_000) < ROW / 5


def test_trials_of_another_sweep_are_named_and_left_as_they_are(searched):
    """The first line of the third round is another's; it is found when its round comes."""
    *run, directory, _ = searched
    path = directory / "trials.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert lines[400] != lines[401]
    foreign = b"".join([*lines[:400], *lines[401:450]])
    path.write_bytes(foreign)
    with pytest.raises(ValueError, match=r"trials\.jsonl, line 401 holds .* another sweep"):
        sweep.search(trainings.run_of(*run, directory))
    assert path.read_bytes() == foreign
    path.write_bytes(whole)


# -- what is read at a start ----------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch):
    """The numbers of bytes that are looked at in files that are cut, as they come."""
    found = []

    class Counting(mmap.mmap):
        def rfind(self, what, start=0, end=None):
            end = len(self) if end is None else end
            place = super().rfind(what, start, end)
            found.append(end - max(place, start))
            return place

        def __getitem__(self, key):
            text = super().__getitem__(key)
            found.append(len(text))
            return text

    monkeypatch.setattr(mmap, "mmap", Counting)
    return found


@pytest.mark.parametrize("lines", [1_000, 50_000])
def test_of_a_long_file_of_metrics_only_the_end_is_read(tmp_path, read, lines):
    """A training that goes on 20 lines before the last one."""
    path = tmp_path / "metrics.jsonl"
    load.write_metrics(path, lines)
    json_files.cut_jsonl(path, 10 * (lines - 20))
    assert 20 * 100 < sum(read) < 22 * 3 * 200  # lines of 100 to 200 bytes, each looked at twice


@pytest.mark.parametrize("end", ["", '{"arch": "0', '{"arch": 1}x\n'])
@pytest.mark.parametrize("lines", [1_000, 20_000])
def test_of_many_trials_only_the_last_is_read_to_mend_them(tmp_path, read, caplog, end, lines):
    path = tmp_path / "trials.jsonl"
    load.write_trials(path, ["0"] * lines)
    whole = path.read_bytes()
    path.write_bytes(whole + end.encode())
    json_files.mend_jsonl(path, schemas.TRIAL)
    assert path.read_bytes() == whole
    assert len(caplog.records) == bool(end)
    assert sum(read) < 3 * ROW


def test_a_curve_of_many_lines_has_some_of_them_and_the_last(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    load.write_metrics(path, 1_001)
    monkeypatch.setattr(results, "MOST_POINTS", 100)
    rows = results.RunResults(tmp_path, None).metrics
    assert [row["step"] for row in rows] == list(range(110, 10_011, 110))


# -- reports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 5_000, 6_000, 10**6])
def test_resamples_are_no_more_than_so_many_pairs(n):
    picks = analysis._resamples(n, None, 0)
    assert picks.size <= max(analysis.PAIRS, analysis.MOST * n)
    assert picks.shape[1] == min(n, analysis.DRAWN)


def test_a_report_of_trials_that_a_table_has(tmp_path, monkeypatch):
    """More than are drawn for an interval."""
    monkeypatch.setattr(analysis, "PAIRS", 20_000)
    monkeypatch.setattr(analysis, "DRAWN", 100)
    space = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1)
    archs = load.different(space, 300)
    load.write_trials(tmp_path / "trials.jsonl", archs)
    load.write_table(tmp_path / "table.csv", archs)
    load.write_metrics(tmp_path / "metrics.jsonl", 20_000)
    json_files.write_json(tmp_path / "config.json", {"table": str(tmp_path / "table.csv")})
    text = page.write(tmp_path, space).read_text()
    assert "The best of 300 architectures is" in text
    assert "On the table sample (published, n = 300) the score ranks" in text
    assert "At step 200,000 the loss is" in text
    assert "nan" not in text
