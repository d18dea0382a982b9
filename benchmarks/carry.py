"""A runbook's folder, packed into a few small files from which it goes on elsewhere."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

PART = 15 * 2**20  # bytes of a file
MOST = 58 * 2**20  # bytes in all, which what is compiled may fill
NAME = "state.tar.gz"
LEFT_OUT = ("tensorboard", "damaged", "site", "data", "carry")


def pack(out: Path, folder: Path) -> None:
    """Write `folder`/state.tar.gz.0, .1, ..: results, logs, workdirs with their last checkpoints,
    and of the compilation cache the newest programs that there is room for.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        kept = list(_kept(out))
        room = MOST - sum(path.stat().st_size for path in kept)
        for path in _newest(out / "cache"):
            room -= path.stat().st_size
            if room > 0:
                kept.append(path)
        for path in kept:
            archive.add(path, path.relative_to(out), recursive=False)
    folder.mkdir(parents=True, exist_ok=True)
    text = packed.getvalue()
    parts = [text[first : first + PART] for first in range(0, len(text), PART)]
    for number, part in enumerate(parts):
        temporary = folder / f".{NAME}"
        temporary.write_bytes(part)
        temporary.replace(folder / f"{NAME}.{number}")
    for path in _parts(folder)[len(parts) :]:  # of an earlier time
        path.unlink()


def unpack(folder: Path, out: Path) -> None:
    """Put back what `pack` wrote into `folder`; nothing if there is nothing.

    Raises: ValueError if a part of it is missing.
    """
    parts = _parts(folder)
    if not parts:
        return
    text = b"".join(part.read_bytes() for part in parts)
    try:
        with tarfile.open(fileobj=io.BytesIO(text), mode="r:gz") as archive:
            archive.extractall(out, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{folder}/{NAME}.*: a part is missing or damaged ({error})") from error


def _parts(folder):
    found = folder.glob(f"{NAME}.*")
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _kept(out: Path) -> Iterator[Path]:
    """All files but LEFT_OUT, the cache, and checkpoints that have a later one beside them."""
    for path in sorted(out.rglob("*")):
        parts = path.relative_to(out).parts
        if path.is_file() and parts[0] != "cache" and not set(LEFT_OUT) & set(parts):
            step = _step(path, out)
            if step is None or step == _last(step.parent.parent):
                yield path


def _step(path, out):
    """The folder of the checkpoint that a file belongs to, or None."""
    for parent in path.parents:
        if parent == out:
            return None
        if parent.name.isdecimal() and parent.parent.name in ("checkpoints", "interrupted"):
            return parent
    return None


def _last(run):
    steps = [p for name in ("checkpoints", "interrupted") for p in (run / name).glob("[0-9]*")]
    return max((p for p in steps if p.name.isdecimal()), key=lambda path: int(path.name))


def _newest(cache):
    files = [path for path in cache.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
