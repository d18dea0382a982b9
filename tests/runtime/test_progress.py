"""How far a run is, and what it still takes; where its log is kept."""

import logging
import threading

import pytest

from nas_jax.runtime import progress, run_log


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_the_time_left_is_the_work_left_at_the_speed_of_the_stage(clock):
    """By hand: 100 units in 40 s, of which the first call gives the start; later 100 + 50."""
    meter = progress.Meter({"supernet": 200, "sweep": 100, "report": 50})
    meter.begin("supernet")
    assert meter.seconds_left is None
    clock[0] = 30.0  # compiled until then
    meter.done(0.1)
    assert meter.seconds_left is None
    clock[0] = 70.0
    meter.done(0.6)  # half of 200 units in 40 s: 2.5 a second
    assert meter.seconds_left == pytest.approx((80 + 100 + 50) / 2.5)
    assert meter.whole == pytest.approx(120 / 350)
    meter.begin("sweep")
    assert meter.seconds_left is None
    assert meter.whole == pytest.approx(200 / 350)


def test_parts_lie_in_parts_and_no_share_goes_back(clock):
    meter = progress.Meter({"retrain": 1})
    meter.begin("retrain")
    with meter.part(0.5, 1.0), meter.part(0.0, 0.5):
        meter.done(0.5)
        assert meter.share == pytest.approx(0.625)
        meter.done(0.1)
    assert meter.share == pytest.approx(0.625)
    meter.done(1.0)
    assert meter.share == 1.0


def test_a_listener_hears_of_any_thread_and_each_thread_has_its_own_meter():
    heard = []

    def run(stage):
        with progress.metered({stage: 1}):
            progress.begin(stage)
            progress.done(0.5)

    with progress.listening(lambda meter: heard.append((meter.stage, meter.share))):
        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
            thread.join()
        progress.done(1.0)  # without a meter, nothing
    assert heard == [("a", 0.5), ("b", 0.5)]
    assert progress.left() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7201, "2.0 h"), (200_000, "2.3 d")],
)
def test_a_duration_has_a_unit_that_suits_it(seconds, words):
    assert progress.duration(seconds) == words


def test_the_log_of_a_run_is_appended_and_of_its_thread_alone(tmp_path):
    """At INFO, whatever the level was, which stays."""
    logger = logging.getLogger("nas_jax")
    before = logger.level
    logger.setLevel(logging.WARNING)
    for number in range(2):
        with run_log.kept(tmp_path):
            logger.getChild("search").info("line %d", number)
            other = threading.Thread(target=logger.info, args=("another's",))
            other.start()
            other.join()
    logger.info("after it")
    assert logger.level == logging.WARNING
    logger.setLevel(before)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["line 0", "line 1"]


@pytest.mark.parametrize("name", ["", "nas_jax"])  # whose handler it is
@pytest.mark.parametrize(
    ("level", "of_part", "shown"),
    [
        (logging.WARNING, logging.NOTSET, ["careful"]),
        (logging.INFO, logging.NOTSET, ["step 1", "careful"]),
        (logging.WARNING, logging.INFO, ["step 1", "careful"]),
    ],
)
def test_a_handler_shows_what_the_user_asked_for(tmp_path, name, level, of_part, shown):
    """The file has all. What the user set up is there afterwards."""
    logger, owner, texts = logging.getLogger("nas_jax"), logging.getLogger(name or None), []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    before = logger.level, logger.propagate, list(logger.handlers)
    owner.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = not name
    logger.getChild("training").setLevel(of_part)
    with run_log.kept(tmp_path / "a"), run_log.kept(tmp_path / "b"):
        (tmp_path / "a").mkdir()
        logger.getChild("training").info("step 1")
        logger.getChild("training").warning("careful")
    assert (logger.level, logger.propagate) == (level, not name)
    assert handler in owner.handlers
    owner.removeHandler(handler)
    logger.getChild("training").setLevel(logging.NOTSET)
    logger.setLevel(before[0])
    logger.propagate = before[1]
    assert logger.handlers == before[2]
    assert texts == shown
    lines = (tmp_path / "a" / "log.txt").read_text().splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["step 1", "careful"]


def test_a_folder_that_cannot_be_written_to_is_no_error_of_the_log(tmp_path):
    with run_log.kept(tmp_path / "gone"):
        logging.getLogger("nas_jax").warning("still running")


def test_a_terminal_gets_a_bar_below_the_lines(monkeypatch, capsys):
    """Elsewhere there are lines alone."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with run_log.with_bar(), progress.metered({"sweep": 1}):
        progress.begin("sweep")
        progress.done(0.25)
        progress.done(0.5)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with run_log.with_bar(), progress.metered({"sweep": 1}):
        progress.done(0.75)
    assert not progress._listeners
