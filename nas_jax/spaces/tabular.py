"""Published stand-alone accuracies of architectures, with which one-shot accuracies are compared.

Two forms of files are read:

nas-bench-macro_cifar10.json   NAS-Bench-Macro's own file: {"<arch>": {"test_acc": [per cent of each
                               seed], "params": .., "flops": .., ..}, ..}. The last "_" of the
                               file's name comes before the data set.
<any name>.csv                 a line per architecture, of any space, with the columns
                                 arch                     its canonical string
                                 <data>_test_accuracy     per cent
                                 <data>_valid_accuracy    per cent; may be left out
                               Other columns are ignored. <data> is the data set's TFDS name.

A column with no value above 1 is refused: it holds fractions, not per cent.

NAS-Bench-201 publishes no such file: `pip install nats_bench`, download its topology benchmark, and
`python -m nas_jax.tables <folder NATS-tss-v1_0-3ffb9-simple> nasbench201_cifar10.csv` writes one.
"""

import collections
import csv
import hashlib
import itertools
import json
import os
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas_jax.spaces import Space, combinations
from nas_jax.storage import csv_columns, file_paths, schemas

LEARNT = "first"  # the half that supernets and choices learn from; the other stays for a judge
_FOLDER = "NAS_BENCH_DIR"
_TEST, _VALID = "_test_accuracy", "_valid_accuracy"


class Row(NamedTuple):
    """Accuracies of one architecture, per cent: on test images for each seed; on validation."""

    test: list[float]
    valid: float | None

    @property
    def accuracy(self) -> float:
        """The mean over the seeds of the test accuracy."""
        return round(statistics.fmean(self.test), 9)  # equal accuracies must tie when ranked


class Table(NamedTuple):
    """Published accuracies on the data set `data`, {canonical string: Row}."""

    path: Path
    data: str
    rows: Mapping[str, Row]

    def check_data(self, name: str) -> None:
        """Check that the table is of the config's data set, `data.name`.

        A TFDS name is [namespace:]name[/config][:version]; the table may leave out the end.

        Raises: ValueError if it is of another data set.
        """
        versionless = re.sub(r":[\d*][\d.*]*$", "", name)
        if self.data not in (versionless, versionless.partition("/")[0]):
            raise ValueError(f"table={self.path} is of {self.data!r}, but data.name={name!r}")

    def search_accuracy(self, arch: str) -> float:
        """Return the accuracy in [0, 1] that a search sees: on validation images if there is one.

        Raises: ValueError if the architecture is not in the table.
        """
        if arch not in self.rows:
            raise ValueError(
                f"table={self.path} has {len(self.rows)} architectures, {arch!r} is none of them"
            )
        row = self.rows[arch]
        return (row.accuracy if row.valid is None else row.valid) / 100


def load(name: str, space: Space) -> Table:
    """Read a table of architectures of `space`; the module says which forms.

    Args:
      name: of a file, absolute, or from the current folder or $NAS_BENCH_DIR.
      space: to which the strings must belong.

    Raises:
      ValueError: the file is missing, damaged, or of another space; the message names the row.
    """
    path = _find(name)
    read = {".json": _read_macro, ".csv": _read_csv}.get(path.suffix)
    if read is None:
        raise ValueError(f"table={path} must be a .json (NAS-Bench-Macro's) or a .csv file")
    content = path.read_bytes()
    data, rows = read(path, content)
    if not rows:
        raise ValueError(f"table={path} has no architectures")
    _check_archs(path, list(rows), space)
    return Table(path, data, rows)


def digest(name: str) -> str | None:
    """Compute the SHA-256, in hex, of the contents of a table; None if `name` is empty.

    Raises: ValueError if the file is missing.
    """
    return hashlib.sha256(_find(name).read_bytes()).hexdigest() if name else None


def half(arch: str) -> str:
    """Say in which half of a table an architecture is, "first" or "second".

    Its hash decides, so that halves never change: what is chosen on one is judged on the other.
    """
    return "second" if _digest_of(arch)[0] % 2 else "first"


def drawn(table: Table, of_half: str, count: int) -> list[str]:
    """Draw up to `count` architectures of a half of a table, at random: those of least hash."""
    there = [arch for arch in table.rows if half(arch) == of_half]
    return sorted(there, key=_digest_of)[:count]


def _digest_of(arch: str) -> bytes:
    """Compute the SHA-256 of an architecture's string."""
    return hashlib.sha256(arch.encode()).digest()


def _find(name):
    folders = [Path()]
    if os.environ.get(_FOLDER):
        folders.append(file_paths.local(os.environ[_FOLDER], f"${_FOLDER}"))
    for folder in folders:
        if (path := folder / file_paths.local(name, "table")).is_file():
            return path
    raise ValueError(
        f"table={name!r} is not in {' nor '.join(str(f.absolute()) for f in folders)}; give its "
        f"path by --config.table, or its folder by ${_FOLDER}. nas_jax/spaces/tabular.py says "
        "where to get it"
    )


def _check_archs(path, archs, space):
    try:
        masks = space.from_strs(archs)
    except ValueError as error:
        raise ValueError(f"table={path} is of another space: {error}") from error
    legal = (np.asarray(space.to_decisions(masks)) >= 0).all(-1) & combinations.kept(space, masks)
    if not legal.all():
        arch = archs[int(np.argmin(legal))]
        raise ValueError(f"table={path}: architecture {arch!r} is not legal in this space")


def _read_macro(path, content):
    schema = {str: {"test_acc": [schemas.PER_CENT]}}
    try:
        table = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # of UTF-8 or JSON; nested without end
        raise ValueError(f"table={path} is damaged: {error}") from error
    if problem := schemas.problem(schema, table):
        raise ValueError(f"table={path}: {problem}")
    rows = {arch: Row(row["test_acc"], None) for arch, row in table.items()}
    for arch, row in rows.items():
        if not row.test:
            raise ValueError(f"table={path}: architecture {arch!r} has an empty list 'test_acc'")
    by_seed = itertools.zip_longest(*(row.test for row in rows.values()), fillvalue=0)
    for seed, column in enumerate(by_seed):
        _check_scale(path, f"test_acc[{seed}]", column)
    return path.stem.rpartition("_")[2], rows


def _once(pairs):
    """Make a JSON object of its pairs, each key once; Python would take the last of equal keys."""
    for key, count in collections.Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{key!r} comes {count} times")
    return dict(pairs)


def _read_csv(path, content):
    cells = csv_columns.parse(content, f"table={path}")
    tests = [name for name in cells.names if name.endswith(_TEST)]
    if "arch" not in cells.names or len(tests) != 1:
        raise ValueError(
            f"table={path} has the columns {', '.join(cells.names) or 'none'}, but needed are "
            f"'arch' and one '<data>{_TEST}'"
        )
    data, rows = tests[0].removesuffix(_TEST), {}
    test, valid = (
        cells.numbers(name, schemas.PER_CENT) if name in cells.names else {}
        for name in (tests[0], data + _VALID)
    )
    _check_scale(path, tests[0], test.values())
    _check_scale(path, data + _VALID, valid.values())
    for line, arch in cells.texts("arch").items():
        if arch in rows:
            raise ValueError(f"table={path}, line {line}: {arch!r} comes twice")
        rows[arch] = Row([test[line]], valid.get(line))
    return data, rows


def _check_scale(path, name, values):
    """Raise a ValueError if accuracies are in fractions of 1, not in per cent."""
    if values and max(values) <= 1:
        raise ValueError(
            f"table={path}: {name} has no value above 1, so it is in fractions; it must be in per "
            "cent: multiply by 100"
        )


def nats_bench_rows(api: Any) -> Iterator[dict[str, Any]]:
    """Yield rows of a CSV of NAS-Bench-201 on CIFAR-10: 200 epochs, mean over the seeds.

    Args:
      api: `nats_bench.create(folder, "tss", fast_mode=True)`.
    """
    settings = {"hp": "200", "is_random": False}
    for i in range(len(api)):
        valid = api.get_more_info(i, "cifar10-valid", **settings)
        test = api.get_more_info(i, "cifar10", **settings)
        yield {
            "arch": api.arch(i),
            f"cifar10{_VALID}": round(valid["valid-accuracy"], 4),
            f"cifar10{_TEST}": round(test["test-accuracy"], 4),
            "params_M": round(api.get_cost_info(i, "cifar10")["params"], 3),
        }


def main() -> None:
    """Write the CSV file that the command line names: `python -m nas_jax.tables FOLDER FILE`."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    import nats_bench

    folder, output = sys.argv[1:]
    rows = nats_bench_rows(nats_bench.create(folder, "tss", fast_mode=True, verbose=False))
    with open(output, "w", newline="", encoding="utf-8") as file:
        first = next(rows)
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows([first, *rows])
