"""The lasting folder of compiled programs: where it lies, and that it neither grows nor rots."""

import os
import time
import zlib
from pathlib import Path

import pytest

from tests import compilation_cache

DAY = 24 * 3600


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The folder of all keys, in an empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nas_jax" / "tests"


def written(folder, name, content, days_ago=0.0):
    """A program that was written, and not read since."""
    path = folder / f"{name}-cache"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - days_ago * DAY
    os.utime(path, (then, then))
    return path


def names(programs):
    return {path.name.removesuffix("-cache") for path in programs.glob("*/*-cache")}


def test_it_lies_in_the_users_cache_folder_by_versions_and_flags(programs, monkeypatch):
    folder = Path(compilation_cache.folder())
    assert folder.parent == programs
    assert folder.is_dir()
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    assert Path(compilation_cache.folder()) != folder


@pytest.mark.parametrize("lacks", ["home", "right to write"])
def test_it_is_a_temporary_one_where_there_is_none(lacks, tmp_path, monkeypatch, request):
    if lacks == "home":
        request.getfixturevalue("no_home")
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first, second = Path(compilation_cache.folder()), Path(compilation_cache.folder())
    assert first.is_dir()
    assert first != second
    first.rmdir()
    second.rmdir()


def test_half_written_programs_are_removed(programs):
    whole = zlib.compress(os.urandom(1000))
    folder = Path(compilation_cache.folder())
    for name, content in {"whole": whole, "half": whole[:500], "none": b"", "zstd": b"("}.items():
        written(folder, name, content)
    compilation_cache.folder()
    assert names(programs) == {"whole", "zstd"}


def test_what_was_checked_is_not_read_again(programs):
    folder = Path(compilation_cache.folder())
    written(folder, "half", b"x", days_ago=1)
    compilation_cache.folder()
    assert names(programs) == {"half"}


def test_programs_of_all_keys_go_by_their_last_use(programs, monkeypatch):
    folder, former = Path(compilation_cache.folder()), programs / "former"
    program = zlib.compress(os.urandom(1000))
    for days_ago, its_folder in enumerate((folder, former, folder, former)):
        written(its_folder, f"{days_ago} days", program, days_ago)
    written(former, "forgotten", program, days_ago=31)
    compilation_cache.folder()
    assert names(programs) == {f"{days_ago} days" for days_ago in range(4)}
    monkeypatch.setattr(compilation_cache, "MOST_BYTES", 2 * len(program))
    compilation_cache.folder()
    assert names(programs) == {"0 days", "1 days"}
    (former / "1 days-cache").unlink()
    os.utime(former, (0, 0))
    compilation_cache.folder()
    assert not former.exists()
    assert folder.exists()
