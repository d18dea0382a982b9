"""Events: who hears them, what a listener may do, and what it may not."""

import logging
import threading
from pathlib import Path

import pytest

from nas_jax.runtime import events

HERE = Path("here")


def test_a_threads_listeners_hear_its_run_alone():
    heard = {"a": [], "b": []}
    both = threading.Barrier(2)

    def run(name):
        with events.listening({"mine": heard[name].append}):
            both.wait()
            events.emit("metrics", HERE / name, {"loss": 1.0}, 5)
            both.wait()
        events.emit("metrics", HERE / name, {"loss": 2.0}, 6)  # after it, nobody

    threads = [threading.Thread(target=run, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, found in heard.items():
        assert found == [events.Event("metrics", HERE / name, 5, {"loss": 1.0})]


def test_one_that_raises_is_named_once_and_hears_nothing_more(caplog):
    heard, others = [], []

    def bad(event):
        heard.append(event.step)
        raise FloatingPointError("two\nlines")

    with caplog.at_level(logging.WARNING), events.listening({"bad": bad, "good": others.append}):
        for step in range(3):
            events.emit("metrics", HERE, {}, step)
    assert heard == [0]
    assert [event.step for event in others] == [0, 1, 2]
    (record,) = caplog.records
    assert record.getMessage().startswith("listener 'bad' hears nothing more of this run: Floating")
    assert record.getMessage().endswith("two lines")
    assert f"{__file__}, line " in record.getMessage()


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_of_the_machine_or_the_user_passes(error):
    def listener(event):
        raise error

    with events.listening({"mine": listener}), pytest.raises(error):
        events.emit("end", HERE, {})


def test_what_listeners_get_are_copies():
    """Of each a copy: one that changes it changes neither the run nor what others hear."""
    rows, found = [{"value": 1.0}], []

    def change(event):
        found.append(event.values[0]["value"])
        event.values[0]["value"] = 7.0
        event.values.clear()

    with events.listening({"a": change, "b": change}):
        events.emit("candidates", HERE, rows, 0)
    assert (found, rows) == ([1.0, 1.0], [{"value": 1.0}])


def test_without_listeners_nothing_happens():
    events.emit("begin", HERE, {})
