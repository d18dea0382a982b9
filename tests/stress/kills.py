"""Kill a run (SIGKILL) at random moments until it is done; it must equal one that was not killed.

  python -m tests.stress.kills --kills 100
  python -m tests.stress.kills --kills 100 --config tests/configs/tiny_study.py --mode study

Every attempt is forked from a process that has imported everything, so that it starts at once.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# What a clock says, and where a pool lies, may differ, and nothing else.
OWN = {"images_per_second", "seconds", "pool"}
OWN_FILE = "history.jsonl"  # says when a run was started, which is what differs


def _size(workdir: Path) -> int:
    """Grows with whatever is written."""
    total = 0
    for path in workdir.rglob("*.json*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary one
            total += path.stat().st_mtime_ns
    return total


def _start(arguments: Sequence[str], log: Path) -> int:
    """Run launch.py in a fork; returns its process number."""
    child = os.fork()
    if child:
        return child
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    import launch

    code, sys.argv = 1, ["launch.py", *arguments]  # config_flags looks there
    try:
        code = launch.main()
    finally:
        os._exit(code)


def _ended(child: int, seconds: float) -> int | None:
    """Its exit code if it ends within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _first_write(child: int, workdir: Path, limit: float = 120) -> int | None:
    """Wait until it writes; its exit code if it ends before."""
    before, until = _size(workdir), time.monotonic() + limit
    while _size(workdir) == before and time.monotonic() < until:
        code = _ended(child, 0.01)
        if code is not None:
            return code
    return None


def killed(
    workdir: Path, arguments: Sequence[str], *, kills: int, seed: int = 0, mean: float = 0.6
) -> int:
    """Run to the end in `workdir`, killed so often on the way; returns how often it was.

    One in ten kills comes while it starts, the others some time after its first write:
    exponentially distributed, `mean` seconds.
    """
    rng, done, log = random.Random(seed), 0, workdir.with_suffix(".log")
    workdir.mkdir(parents=True, exist_ok=True)
    arguments = [*arguments, f"--workdir={workdir}"]
    while True:
        child, code = _start(arguments, log), None
        if done < kills:
            if rng.random() > 0.1:
                code = _first_write(child, workdir)
            code = _ended(child, rng.expovariate(1 / mean)) if code is None else code
        else:
            code = _ended(child, 3600)
        if code is not None:
            if code:
                raise RuntimeError(f"exit code {code}:\n{log.read_text()[-3000:]}")
            return done
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done += 1


def differences(workdir: Path, other: Path) -> list[str]:
    """Files in which two runs differ: numbers and strings of JSON, arrays of checkpoints."""
    found = [dict(_contents(folder)) for folder in (workdir, other)]
    names = sorted(found[0].keys() | found[1].keys())
    return [name for name in names if found[0].get(name) != found[1].get(name)]


def _contents(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == OWN_FILE:
            continue
        if path.suffix == ".jsonl":
            yield name, [_without_own(json.loads(row)) for row in path.read_text().splitlines()]
        elif path.suffix == ".json" and path.parent.name != "default":
            yield name, _without_own(json.loads(path.read_text()))
        elif path.name == "_METADATA":
            yield str(path.parent.relative_to(folder)), _arrays(path.parent)


def _without_own(row):
    if isinstance(row, dict):
        return {k: _without_own(v) for k, v in row.items() if k not in OWN}
    return row


def _arrays(folder):
    """Bytes of all arrays of a checkpoint."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return [np.asarray(x).tobytes() for x in jax.tree.leaves(checkpointer.restore(folder))]


def _parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kills", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--mean", type=float, default=0.6, help="seconds from the first write to the kill")
    add("--config", default="tests/configs/tiny.py", help="fields may follow, as of launch.py")
    add("--mode", default="search")
    add("--directory", type=Path, help="of all that is written; default: a temporary one")
    add("--whole", type=Path, help="a run that was not killed, if there is one")
    return parser.parse_known_args()


def main() -> None:
    """Kill, compare, and say what was found."""
    args, fields = _parse()
    root = args.directory or Path(tempfile.mkdtemp(prefix="kills_"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "cache"))
    import nas_jax.studies  # noqa: F401, so that no fork has to

    began, runs = time.monotonic(), {"whole": 0, "killed": args.kills}
    if args.whole:
        del runs["whole"]
    for name, kills in runs.items():
        workdir = root / name / "run"
        own = [f"--config={args.config}", f"--mode={args.mode}", *fields]
        if args.mode == "study":
            own.append(f"--config.study.pool={root / name / 'pool'}")
        kills = killed(workdir, own, kills=kills, seed=args.seed, mean=args.mean)
    found = differences(
        args.whole or root / "whole", root / "killed" / ("run" if args.whole else "")
    )
    seconds = time.monotonic() - began
    print(f"{kills} kills of {args.mode}, {seconds:.0f} s: {len(found)} files differ")
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
