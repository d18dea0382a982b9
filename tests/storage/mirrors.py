"""Workdirs with mirrors, of a few small files."""

import itertools
import json

from nas_jax.storage import mirror as mirror_lib
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
numbers = itertools.count()


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
