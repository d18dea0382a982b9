"""What studies share: each job is done once, by whoever claims it, and nobody waits for ever."""

import threading
import time

import pytest

from nas_jax.storage import workdir
from nas_jax.studies import store

LIMIT = 20  # seconds


def _done(directory):
    return (directory / "done").exists()


def _do(lot, by, done):
    for directory in lot:
        (directory / "done").touch()
    done.append((by, [directory.name for directory in lot]))


def test_those_who_wait_for_the_same_jobs_in_another_order_do_not_wait_for_each_other(tmp_path):
    """A third has claimed both, does them and leaves; nothing is done twice."""
    jobs, done = {tmp_path / name: None for name in "ab"}, []
    reverse = dict(reversed(jobs.items()))
    orders = {"first": jobs, "second": reverse}
    threads = [
        threading.Thread(
            target=store._share_lots,
            args=([order], _done, lambda lot, by=by: _do(lot, by, done), 2),
            daemon=True,
        )
        for by, order in orders.items()
    ]
    a, b = jobs
    with workdir.claim(a, wait=False) as mine, workdir.claim(b, wait=False) as too:
        assert mine
        assert too
        for thread in threads:
            thread.start()
        time.sleep(0.2)  # both wait
        _do(jobs, "third", done)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert done == [("third", ["a", "b"])]


@pytest.mark.parametrize(("size", "lots"), [(1, 5), (2, 3), (8, 2)])
def test_lots_are_of_one_kind_and_skip_what_is_done_or_claimed(tmp_path, size, lots):
    """Five jobs of two kinds; one more is done, and one is another's, who leaves it undone."""
    kinds, done = [{tmp_path / name: None for name in names} for names in ("abcd", "xyz")], []
    _do([workdir_of(tmp_path / "b")], "before", done)
    with workdir.claim(tmp_path / "y", wait=False):
        others = threading.Thread(
            target=store._share_lots,
            args=(kinds, _done, lambda lot: _do(lot, "here", done), size),
            daemon=True,
        )
        others.start()
        deadline = time.monotonic() + LIMIT
        while len(done) < 1 + lots and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _done(tmp_path / "y")
    others.join(LIMIT)
    found = [names for by, names in done if by == "here"]
    assert len(found) == lots + 1
    assert found[-1] == ["y"]  # waited for until it was free
    assert all(set(names) <= set("abcd") or set(names) <= set("xyz") for names in found)
    assert sorted(name for names in found for name in names) == list("acdxyz")


def workdir_of(directory):
    directory.mkdir()
    return directory
