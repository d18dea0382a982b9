"""Mirrors of workdirs: whole moments, which come back to the byte, or are refused."""

import itertools
import json
import logging
import os
import shutil
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nas_jax.storage import mirror as mirror_lib
from nas_jax.storage import snapshot
from nas_jax.storage.mirror import Mirror
from nas_jax.storage.object_store import ObjectStore

FILES = {
    "config.json": "{}",
    "metrics.jsonl": '{"step": 5}\n',
    "checkpoints/10/default/d/0a": "x" * 5000,
    "checkpoints/10/_CHECKPOINT_METADATA": "{}",
    "retrain/short/F4/ab/seed0/result.json": "{}",
    "empty": "",
}
LEFT_OUT = (
    ".claim",
    ".config.json.123",
    "optuna.log.lock",
    "checkpoints/20.orbax-checkpoint-tmp/default/d/0b",
    "checkpoints/20.orbax-checkpoint-tmp-17/default/d/0b",
)
numbers = itertools.count()


@pytest.fixture(params=["folder", "memory"])
def url(request, tmp_path):
    """An address at which there is nothing."""
    return str(tmp_path / "m") if request.param == "folder" else f"memory://m{next(numbers)}/run"


def write(directory, files):
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def read(directory):
    """All but what is hidden and what the workdir knows of its mirror."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    named = {str(path.relative_to(directory)): path.read_text() for path in paths}
    return {n: text for n, text in named.items() if n[0] != "." and n != mirror_lib.FILE}


def begin(directory, url, files=FILES):
    """Run in a workdir that writes these files, and ends."""
    with Mirror(url, directory).kept(True):
        write(directory, files)
    return json.loads((directory / mirror_lib.FILE).read_text())


def listed(url):
    return json.loads(ObjectStore("x", url).read(mirror_lib.FILE))


def test_an_empty_workdir_is_restored_and_another_copies_nothing_twice(url, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    begin(tmp_path / "a", url, {**FILES, **dict.fromkeys(LEFT_OUT, "x")})
    before = listed(url)
    assert before["files"].keys() == FILES.keys()
    mirror = Mirror(url, tmp_path / "b")
    assert mirror.restored
    said = f"6 files, 0.0 MB, restored from generation 2 of {url}, written by {before['host']}"
    assert said in caplog.text
    assert read(tmp_path / "b") == FILES
    for name in FILES:
        times = [(tmp_path / run / name).stat().st_mtime_ns for run in "ab"]
        assert times[0] == times[1]
    with mirror.kept(True):
        pass
    assert listed(url) == before
    with mirror.kept(True):
        write(tmp_path / "b", {"metrics.jsonl": '{"step": 5}\n{"step": 10}\n'})
        (tmp_path / "b" / "empty").unlink()
    after = listed(url)
    assert after["generation"] == before["generation"] + 1
    changed = {n for n, of in after["files"].items() if of != before["files"][n]}
    assert (changed, "empty" in after["files"]) == ({"metrics.jsonl"}, False)
    objects = {f"files/{content['at']}" for content in after["files"].values()}
    assert ObjectStore("x", url).names() == {mirror_lib.FILE, *objects}  # nothing old is left


def test_it_is_copied_while_the_run_goes_on(url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_lib, "EVERY", 0.01)
    with Mirror(url, tmp_path / "a").kept(True):
        write(tmp_path / "a", FILES)
        while listed(url)["files"].keys() != FILES.keys():
            pass
    assert not (tmp_path / "a" / snapshot.PINS).exists()


def _drop(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", [name for name, text in FILES.items() if text])
@pytest.mark.parametrize(("damage", "message"), [(_drop, "is missing|No such"), (_cut, "bytes, n")])
def test_a_damaged_mirror_is_refused_and_nothing_restored(tmp_path, name, damage, message):
    url = str(tmp_path / "m")
    begin(tmp_path / "a", url)
    damage(tmp_path / "m" / "files" / listed(url)["files"][name]["at"])
    with pytest.raises(ValueError, match=message) as error:
        Mirror(url, tmp_path / "b")
    assert str(error.value).startswith(f"--mirror={url}: ")
    assert "begin anew with another --mirror" in str(error.value)
    assert read(tmp_path / "b") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "mirror.json is not JSON"),
        ("{}", "mirror.json is damaged: run is absent"),
        ("outside", r"mirror.json is damaged: it has a file '../x'"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, text, message):
    url = str(tmp_path / "m")
    begin(tmp_path / "a", url)
    if text == "outside":
        there = listed(url)
        there["files"]["../x"] = there["files"]["empty"]
        text = json.dumps(there)
    (tmp_path / "m" / mirror_lib.FILE).write_text(text)
    with pytest.raises(ValueError, match=message):
        Mirror(url, tmp_path / "b")
    assert not (tmp_path / "x").exists()


def test_where_another_host_went_on_it_is_refused(url, tmp_path):
    begin(tmp_path / "a", url)
    with Mirror(url, tmp_path / "b").kept(True):
        Mirror(url, tmp_path / "a")  # nothing was written yet
        write(tmp_path / "b", {"metrics.jsonl": ""})
    with pytest.raises(ValueError, match=r"is at generation 3, .*/a at 2: another workdir w"):
        Mirror(url, tmp_path / "a")
    assert Mirror(url, tmp_path / "b").restored is False


@pytest.mark.parametrize("number", [1, 3])
def test_a_list_that_was_written_just_before_a_kill_is_its_own(url, tmp_path, monkeypatch, number):
    """The workdir has not heard of that generation, be it the first or a later one."""
    write(tmp_path / "a", FILES)
    if number > 1:
        begin(tmp_path / "a", url)
    store_write = ObjectStore.write

    def killed(*arguments):
        store_write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path / "a", url, {"metrics.jsonl": "x"})
    assert listed(url)["generation"] == number
    begin(tmp_path / "a", url, {"metrics.jsonl": "y"})
    assert Mirror(url, tmp_path / "b").restored
    assert read(tmp_path / "b") == {**FILES, "metrics.jsonl": "y"}


def test_of_two_copies_of_a_workdir_one_goes_on(url, tmp_path):
    """The folder was copied while no run was on; both begin, and the first to copy has it."""
    begin(tmp_path / "a", url)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    mirror = Mirror(url, tmp_path / "a")

    def second():
        with Mirror(url, tmp_path / "b").kept(True):
            write(tmp_path / "a", {"metrics.jsonl": "of a"})
            mirror._copy()
            write(tmp_path / "b", {"metrics.jsonl": "of b", "empty": "b"})

    with mirror.kept(True):
        with pytest.raises(ValueError, match=r"copy failed .*b at 2: another workdir went on"):
            second()
        write(tmp_path / "a", {"retrain/short/F4/ab/seed0/result.json": "{1}"})
    assert Mirror(url, tmp_path / "c").restored
    assert read(tmp_path / "c") == read(tmp_path / "a")
    with pytest.raises(ValueError, match=r"is at generation 4, .*/b at 2: another workdir went"):
        Mirror(url, tmp_path / "b")


def test_a_copy_of_a_workdir_that_stayed_behind_is_refused(url, tmp_path):
    """The folder was copied while a run was on, as by an image of the machine."""
    mirror = Mirror(url, tmp_path / "a")
    with mirror.kept(True):
        write(tmp_path / "a", FILES)
        mirror._copy()
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        for text in "12":
            write(tmp_path / "a", {"metrics.jsonl": text})
            mirror._copy()
    with pytest.raises(ValueError, match=r"is at generation 4, .*/b at 2: another workdir went"):
        Mirror(url, tmp_path / "b")


def test_a_workdir_that_could_not_be_written_for_a_while_still_has_its_mirror(
    url, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError("No space left on device")

    mirror = Mirror(url, tmp_path / "a")
    with mirror.kept(True):
        with monkeypatch.context() as patch:
            patch.setattr(mirror_lib.json_files, "write_json", full)
            for text in "123":
                write(tmp_path / "a", {"metrics.jsonl": text})
                mirror._try_copy()
        shutil.copytree(tmp_path / "a", tmp_path / "killed")
    assert read(tmp_path / "a") == {"metrics.jsonl": "3"}
    assert listed(url)["generation"] == 3
    Mirror(url, tmp_path / "a")
    with pytest.raises(ValueError, match="another workdir went on"):
        Mirror(url, tmp_path / "killed")


def test_what_is_gone_from_a_mirror_is_copied_again(url, tmp_path):
    """Somebody removed it, or a rule of the bucket; all of it, or a part."""
    begin(tmp_path / "a", url)
    store = ObjectStore("x", url)
    for gone in (store.names("files"), {f"files/{listed(url)['files']['config.json']['at']}"}):
        store.remove(gone)
        begin(tmp_path / "a", url, {})
    mirror = Mirror(url, tmp_path / "b")
    assert mirror.restored
    assert read(tmp_path / "b") == FILES


def test_a_host_that_was_slow_to_end_writes_nothing_more(url, tmp_path):
    """The other one went on from the last copy meanwhile."""
    begin(tmp_path / "a", url)

    def end_late():
        with Mirror(url, tmp_path / "a").kept(True):
            begin(tmp_path / "b", url, {"metrics.jsonl": "of b"})
            write(tmp_path / "a", {"metrics.jsonl": "of a"})

    with pytest.raises(ValueError, match=r"run is done.* copy failed .*another workdir went on"):
        end_late()
    Mirror(url, tmp_path / "c")
    assert read(tmp_path / "c") == {**FILES, "metrics.jsonl": "of b"}


def test_a_mirror_of_another_workdir_or_of_other_files_is_refused(url, tmp_path):
    begin(tmp_path / "a", url)
    write(tmp_path / "b", FILES)
    with pytest.raises(ValueError, match=f"{url} belongs to another workdir than --workdir=.*/b"):
        Mirror(url, tmp_path / "b")
    begin(tmp_path / "c", f"{url}-2")
    with pytest.raises(ValueError, match=f"{url} belongs to another workdir than --workdir=.*/c"):
        Mirror(url, tmp_path / "c")
    no_files = pytest.raises(ValueError, match=r"if that has ended, remove mirror.json there")
    with Mirror(f"{url}-4", tmp_path / "e").kept(True), no_files:
        Mirror(f"{url}-4", tmp_path / "b")
    store = ObjectStore("x", f"{url}-3")
    store.write("theses/mine.txt", b"")
    with pytest.raises(ValueError, match=r"holds other files, such as theses, and no mirror"):
        Mirror(f"{url}-3", tmp_path / "d")
    assert store.names() == {"theses/mine.txt"}


def test_a_run_that_is_there_gets_a_mirror(url, tmp_path):
    write(tmp_path / "a", FILES)
    begin(tmp_path / "a", url, {})
    assert Mirror(url, tmp_path / "b").restored
    assert read(tmp_path / "b") == FILES


def test_what_cannot_be_a_mirror_is_refused(tmp_path, monkeypatch):
    run = tmp_path / "run"
    for url, message in (
        ("", "--mirror is empty"),
        (str(tmp_path), "lie in one another"),
        (str(run / "m"), "lie in one another"),
        ("gs:/bucket/x", "--mirror='gs:/bucket/x' is an address, not a path"),
        ("nope://x", "--mirror=nope://x: Protocol not known: nope"),
    ):
        with pytest.raises(ValueError, match=message):
            Mirror(url, run)
    assert not run.exists()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    needs = "--mirror=gs://b/x needs gcsfs: pip install 'nas_jax.mirror.' gcsfs$"
    with pytest.raises(ValueError, match=needs):
        Mirror("gs://b/x", run)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match=r"needs fsspec: pip install 'nas_jax\[mirror\]'$"):
        Mirror("gs://b/x", run)


def test_modes_that_write_elsewhere_are_refused(tmp_path):
    mirror_lib.check_mode("search", tmp_path, "runs/pool")
    mirror_lib.check_mode("study", tmp_path, str(tmp_path / "pool"))
    with pytest.raises(ValueError, match=f"set --config.study.pool={tmp_path}/pool$"):
        mirror_lib.check_mode("study", tmp_path, "runs/pool")
    with pytest.raises(ValueError, match="leave it out"):
        mirror_lib.check_mode("check", tmp_path, "runs/pool")
    with (
        pytest.raises(ValueError, match="in use by another process, which alone may copy it"),
        Mirror(str(tmp_path / "m"), tmp_path / "run").kept(False),
    ):
        pass


# -- what goes wrong on the way -------------------------------------------------------------------


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
