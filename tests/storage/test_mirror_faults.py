"""Mirrors while stores, disks and processes fail, and files change."""

import logging
import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nas_jax.storage import mirror as mirror_lib
from nas_jax.storage import snapshot
from nas_jax.storage.mirror import Mirror
from nas_jax.storage.object_store import ObjectStore
from tests.storage.mirrors import FILES, begin, listed, numbers, read, write


class Failing(MemoryFileSystem):
    """A store in which nothing can be written while `error` is set."""

    protocol = "failing"
    store, pseudo_dirs, error = {}, [""], None

    def _open(self, path, mode="rb", **kwargs):
        if self.error and mode == "wb":
            raise self.error
        return super()._open(path, mode, **kwargs)


fsspec.register_implementation("failing", Failing, clobber=True)


@pytest.fixture
def failing(monkeypatch):
    """An address, and a function that sets with which error writing fails there."""
    return f"failing://m{next(numbers)}", lambda error: monkeypatch.setattr(Failing, "error", error)


def test_copies_that_fail_are_told_once_and_tried_again(failing, tmp_path, caplog):
    url, fail_by = failing
    caplog.set_level(logging.INFO)
    mirror = Mirror(url, tmp_path / "a")
    with mirror.kept(True):
        write(tmp_path / "a", FILES)
        for error in (OSError("no\nroute"), OSError("no route"), RuntimeError()):
            fail_by(error)
            mirror._try_copy()
        assert listed(url)["files"] == {}
        fail_by(None)
        mirror._try_copy()
        mirror._try_copy()
        assert listed(url)["files"].keys() == FILES.keys()
    said = [record.message for record in caplog.records]
    failed = f"mirror    {url}: a copy failed (%s); it is tried again, and the run goes on"
    assert said == [failed % "no route", failed % "RuntimeError", f"mirror    {url}: copied again"]


def test_what_was_copied_before_a_failure_is_not_copied_again(failing, tmp_path, monkeypatch):
    url, fail_by = failing
    put, copied = ObjectStore.put, []

    def counted(self, name, *arguments):
        if len(copied) == 3:
            fail_by(OSError("no route"))
        put(self, name, *arguments)
        copied.append(name)

    monkeypatch.setattr(ObjectStore, "put", counted)
    mirror = Mirror(url, tmp_path / "a")
    with mirror.kept(True):
        write(tmp_path / "a", FILES)
        mirror._try_copy()
        assert len(copied) == 3
        copied.append("")
        fail_by(None)
        mirror._try_copy()
    assert len(copied) == len(FILES) + 1
    assert Mirror(url, tmp_path / "b").restored
    assert read(tmp_path / "b") == FILES


def test_a_last_copy_that_fails_is_said_but_hides_no_error(failing, tmp_path):
    url, fail_by = failing
    write(tmp_path / "a", FILES)

    def run(error, ends):
        fail_by(None)
        with Mirror(url, tmp_path / "a").kept(True):
            fail_by(error)
            if ends:
                raise ends

    done = rf"--mirror={url}: the run is done, but its last copy failed \(no route\); the same comm"
    with pytest.raises(ValueError, match=done):
        run(OSError("no route"), None)
    with pytest.raises(ValueError, match=rf"^--mirror={url}: no route$"):  # before it begins
        Mirror(url, tmp_path / "a").kept(True).__enter__()
    for error in (OSError("no route"), None):
        with pytest.raises(KeyboardInterrupt):
            run(error, KeyboardInterrupt())
    assert listed(url)["files"].keys() == FILES.keys()


@pytest.mark.parametrize("error", [OSError("no route"), KeyboardInterrupt()])
@pytest.mark.parametrize("files", [FILES, {}])
def test_a_start_that_failed_leaves_the_workdir_to_its_mirror(failing, tmp_path, error, files):
    """Or to one that restores it."""
    url, fail_by = failing
    begin(tmp_path / "a", f"{url}-good", FILES)
    run = tmp_path / ("a" if files else "b")
    fail_by(error)
    with pytest.raises((ValueError, KeyboardInterrupt)), Mirror(url, run).kept(True):
        pytest.fail("not reached")
    fail_by(None)
    assert Mirror(f"{url}-good", run).restored == (not files)
    begin(run, f"{url}-good", {"metrics.jsonl": "x"})
    assert read(run) == {**FILES, "metrics.jsonl": "x"}


def test_a_kill_while_it_is_copied_leaves_the_moment_before(url, tmp_path, monkeypatch):
    """Whether it comes before the list is written, or before older contents are removed."""
    begin(tmp_path / "a", url)

    def killed(*_):
        raise KeyboardInterrupt

    changed = {"metrics.jsonl": "x", "checkpoints/20/default/d/0a": "y"}
    for number, name in enumerate(("write", "remove")):
        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, name, killed)
            with pytest.raises(KeyboardInterrupt):
                begin(tmp_path / "a", url, changed)
        Mirror(url, tmp_path / name)
        assert read(tmp_path / name) == ({**FILES, **changed} if number else FILES)


def test_a_file_that_vanishes_while_it_is_copied_is_still_of_that_moment(
    url, tmp_path, monkeypatch
):
    """Nor does a file that grows meanwhile, or is replaced, come as it is later."""
    put, run = ObjectStore.put, tmp_path / "a"

    def later(*arguments):
        if (run / "config.json").exists():
            (run / "config.json").unlink()
            (run / "checkpoints/10/default/d/0a").unlink()
            with (run / "metrics.jsonl").open("a") as file:
                file.write('{"step": 10}\n')
            (run / "new").write_text("{1}")
            os.replace(run / "new", run / "empty")
        put(*arguments)

    mirror = Mirror(url, run)
    with mirror.kept(True):
        write(run, FILES)
        monkeypatch.setattr(ObjectStore, "put", later)
        mirror._copy()
        Mirror(url, tmp_path / "b")
        assert read(tmp_path / "b") == FILES
    assert listed(url)["files"].keys() == FILES.keys() - {
        "config.json",
        "checkpoints/10/default/d/0a",
    }


def test_a_moment_is_listed_again_if_the_folder_changed_meanwhile(tmp_path, monkeypatch):
    """A checkpoint that is being removed while it is listed is not taken for a whole one."""
    write(tmp_path, FILES)
    parts = [path for path in tmp_path.glob("checkpoints/10/**/*") if path.is_file()]
    scan = snapshot.scan

    def removing(directory):
        files = scan(directory)
        if parts:
            parts.pop().unlink()
        return files

    monkeypatch.setattr(snapshot, "scan", removing)
    with snapshot.taken(tmp_path, lambda *_: False) as taken:
        assert not [name for name in taken if name.startswith("checkpoints")]
        assert all(pin.read_text() == FILES[name] for name, (_, pin) in taken.items())
    monkeypatch.setattr(snapshot, "scan", lambda _: {str(next(numbers)): snapshot.Form(0, 0, 0)})
    with pytest.raises(snapshot.Busy), snapshot.taken(tmp_path, lambda *_: True):
        pytest.fail("not reached")


def test_where_there_are_no_links_files_are_copied(url, tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "elsewhere").write_text("{2}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    begin(tmp_path / "a", url)
    Mirror(url, tmp_path / "b")
    assert read(tmp_path / "b") == {**FILES, "linked": "{2}"}


@pytest.mark.parametrize("moved", range(5))
def test_a_restoring_that_was_killed_is_done_again_or_finished(url, tmp_path, monkeypatch, moved):
    begin(tmp_path / "a", url)
    rename, left = Path.rename, iter(range(moved))

    def killed(self, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            Mirror(url, tmp_path / "b")
    assert (tmp_path / "b" / mirror_lib.PARTIAL).exists()
    assert (tmp_path / "b" / "config.json").exists() == (moved > 0)
    if moved == 0:  # as by a kill while it was downloaded
        (tmp_path / "b" / mirror_lib.PARTIAL / mirror_lib.FILE).unlink()
    assert Mirror(url, tmp_path / "b").restored
    assert read(tmp_path / "b") == FILES
    assert not (tmp_path / "b" / mirror_lib.PARTIAL).exists()
