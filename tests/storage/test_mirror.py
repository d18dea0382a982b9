"""Mirrors of workdirs: whole moments, which come back to the byte, or are refused."""

import json
import logging
import shutil
import sys

import pytest

from nas_jax.storage import mirror as mirror_lib
from nas_jax.storage import snapshot
from nas_jax.storage.mirror import Mirror
from nas_jax.storage.object_store import ObjectStore
from tests.storage.mirrors import FILES, begin, listed, read, write

LEFT_OUT = (
    ".claim",
    ".config.json.123",
    "optuna.log.lock",
    "checkpoints/20.orbax-checkpoint-tmp/default/d/0b",
    "checkpoints/20.orbax-checkpoint-tmp-17/default/d/0b",
)


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
