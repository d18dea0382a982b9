"""Published stand-alone accuracies of architectures, by which scores are judged.

Two forms are read:

nas-bench-macro_cifar10.json   NAS-Bench-Macro's own file: {"<arch>": {"test_acc": [per cent of each
                               seed], "params": .., "flops": .., ..}, ..}. The data set is what
                               follows the last "_" of the file's name.
<any name>.csv                 a line per architecture, of any space, with the columns
                                 arch                     its canonical string
                                 <data>_test_accuracy     per cent
                                 <data>_valid_accuracy    per cent; may be left out
                               and others, which are not read. <data> is the data set's TFDS name.

NAS-Bench-201 publishes no such file: `pip install nats_bench`, download its topology benchmark, and
`python -m nas_jax.tables <folder NATS-tss-v1_0-3ffb9-simple> nasbench201_cifar10.csv` writes one.
"""

import csv
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas_jax import file_paths
from nas_jax.spaces import Space

_FOLDER = "NAS_BENCH_DIR"
_TEST, _VALID = "_test_accuracy", "_valid_accuracy"


class Row(NamedTuple):
    """Accuracies of one architecture, per cent: on test images of each seed, on validation."""

    test: list[float]
    valid: float | None

    @property
    def accuracy(self) -> float:
        """Mean over the seeds of the test accuracy."""
        return round(statistics.fmean(self.test), 9)  # equal ones must tie when ranked


class Table(NamedTuple):
    """Published accuracies on the data set `data`, {canonical string: Row}."""

    path: Path
    data: str
    rows: Mapping[str, Row]

    def check_data(self, name: str) -> None:
        """Raises: ValueError if it is of another data set than the config's."""
        if name != self.data:
            raise ValueError(f"table={self.path} is of {self.data!r}, but data.name={name!r}")

    def search_accuracy(self, arch: str) -> float:
        """Accuracy in [0, 1] that a search in the table sees: on validation images where known.

        Raises: ValueError if the architecture is not in the table.
        """
        if arch not in self.rows:
            raise ValueError(
                f"table={self.path} has {len(self.rows)} architectures, {arch!r} is none of them"
            )
        row = self.rows[arch]
        return (row.accuracy if row.valid is None else row.valid) / 100


def load(name: str, space: Space) -> Table:
    """Read a table of architectures of `space`; see above for the forms.

    Args:
      name: of a file, absolute, or from the current folder or $NAS_BENCH_DIR.
      space: what its strings must belong to.

    Raises:
      ValueError: it is not there, damaged, or of another space; names the row.
    """
    path = _find(name)
    read = {".json": _read_macro, ".csv": _read_csv}.get(path.suffix)
    if read is None:
        raise ValueError(f"table={path} must be a .json (NAS-Bench-Macro's) or a .csv file")
    try:
        data, rows = read(path)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"table={path} is damaged: {error}") from error
    if not rows:
        raise ValueError(f"table={path} has no architectures")
    _check_archs(path, list(rows), space)
    return Table(path, data, rows)


def _find(name):
    folders = [Path()]
    if _FOLDER in os.environ:
        folders.append(file_paths.local(os.environ[_FOLDER], f"${_FOLDER}"))
    for folder in folders:
        if (path := folder / file_paths.local(name, "table")).is_file():
            return path
    raise ValueError(
        f"table={name!r} is not in {' nor '.join(str(f.absolute()) for f in folders)}; give its "
        f"path by --config.table, or its folder by ${_FOLDER}. nas_jax/tables.py says where to get "
        "it"
    )


def _check_archs(path, archs, space):
    try:
        masks = space.from_strs(archs)
    except ValueError as error:
        raise ValueError(f"table={path} is of another space: {error}") from error
    legal = (np.asarray(space.to_decisions(masks)) >= 0).all(-1)
    if not legal.all():
        arch = archs[int(np.argmin(legal))]
        raise ValueError(f"table={path}: architecture {arch!r} is not legal in this space")


def _read_macro(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"table={path} is not an object of architectures")
    rows = {}
    for arch, found in content.items():
        values = found.get("test_acc") if isinstance(found, dict) else None
        if not isinstance(values, list) or not values:
            raise ValueError(f"table={path}: architecture {arch!r} has no list 'test_acc'")
        test = [_per_cent(path, arch, "test_acc", value) for value in values]
        rows[arch] = Row(test, None)
    return path.stem.rpartition("_")[2], rows


def _read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        columns = lines.fieldnames or []
        tests = [name for name in columns if name.endswith(_TEST)]
        if "arch" not in columns or len(tests) != 1:
            raise ValueError(
                f"table={path} has the columns {', '.join(columns) or 'none'}, but needed are "
                f"'arch' and one '<data>{_TEST}'"
            )
        data, rows = tests[0].removesuffix(_TEST), {}
        for line in lines:
            arch = line["arch"]
            if arch in rows:
                raise ValueError(f"table={path}, line {lines.line_num}: {arch!r} comes twice")
            test = _per_cent(path, arch, tests[0], line[tests[0]])
            valid = line.get(data + _VALID)
            if valid is not None:
                valid = _per_cent(path, arch, data + _VALID, valid)
            rows[arch] = Row([test], valid)
    return data, rows


def _per_cent(path, arch, field, value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= 100:
        raise ValueError(f"table={path}: {field} of {arch!r} is {value!r}, not per cent")
    return number


def nats_bench_rows(api: Any) -> Iterator[dict[str, Any]]:
    """Rows of a CSV of NAS-Bench-201 on CIFAR-10: 200 epochs, mean over the seeds.

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


def _main(folder, output):
    import nats_bench

    rows = nats_bench_rows(nats_bench.create(folder, "tss", fast_mode=True, verbose=False))
    with open(output, "w", newline="", encoding="utf-8") as file:
        first = next(rows)
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows([first, *rows])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    _main(*sys.argv[1:])
