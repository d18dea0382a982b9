"""Published accuracies: what is read, and what is refused in one line."""

import csv
import hashlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_jax import config as config_lib
from nas_jax import spaces
from nas_jax.spaces import tabular
from tests import trainings
from tests.test_bad_input import examples, refused

MACRO, NB201 = spaces.make("nasbench_macro"), spaces.make("nasbench201", num_cells=1)
ROW = {"test_acc": [90.0, 91.0, 92.0], "mean_acc": 91.0, "std": 0.8, "params": 1, "flops": 1}
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
CSV = f"arch,cifar10_valid_accuracy,cifar10_test_accuracy,params_M\n{CELL},80.5,81.25,\n"
TEXT = "arch,d_valid_accuracy,d_test_accuracy\n00000000,80.5,81.5\n00000001,0.5,0.25\n"
NOT = r"not a number from 0 to 100 \(per cent\)"
NAME = "nas-bench-macro_cifar10.json"


def write(folder, name, content):
    path = folder / name
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return str(path)


def test_macro(tmp_path):
    table = tabular.load(write(tmp_path, NAME, {"00000000": ROW, "22212220": ROW}), MACRO)
    assert table.data == "cifar10"
    assert list(table.rows) == ["00000000", "22212220"]
    assert table.rows["22212220"].accuracy == 91
    assert table.search_accuracy("22212220") == 0.91


def test_csv(tmp_path):
    table = tabular.load(write(tmp_path, "any.csv", CSV), NB201)
    assert table.data == "cifar10"
    assert table.rows[CELL] == ([81.25], 80.5)
    assert table.search_accuracy(CELL) == 0.805  # a search does not see test accuracies


def test_csv_without_validation_is_of_any_space(tmp_path):
    table = tabular.load(
        write(tmp_path, "x.csv", "arch,digits_test_accuracy\n00000000,50\n"), MACRO
    )
    assert (table.data, table.search_accuracy("00000000")) == ("digits", 0.5)


@pytest.mark.parametrize("name", ["x.csv", NAME])
def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path, name):
    """Spreadsheets and editors write one."""
    text = TEXT if name == "x.csv" else json.dumps({"00000000": ROW})
    plain, marked = (
        tabular.load(write(tmp_path, name, text.encode(encoding)), MACRO)
        for encoding in ("utf-8", "utf-8-sig")
    )
    assert marked.rows == plain.rows
    assert marked.data == plain.data


def test_spaces_and_empty_lines_around_cells_do_not_matter(tmp_path):
    text = "\n" + TEXT.replace(",", ", ").replace("\n", "\r\n\r\n")
    plain = tabular.load(write(tmp_path, "plain.csv", TEXT), MACRO)
    assert tabular.load(write(tmp_path, "x.csv", text), MACRO).rows == plain.rows


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("x.csv", "arch,d_test_accuracy\n00000000,0.9266\n", "d_test_accuracy"),
        ("x.csv", "arch,d_test_accuracy\n00000000,1\n00000001,0\n", "d_test_accuracy"),
        (
            "x.csv",
            "arch,d_test_accuracy,d_valid_accuracy\n00000000,0.92,91\n00000001,0.81,80\n",
            "d_test_accuracy",
        ),
        (
            "x.csv",
            "arch,d_test_accuracy,d_valid_accuracy\n00000000,92,0.91\n00000001,81,0.80\n",
            "d_valid_accuracy",
        ),
        (NAME, {"00000000": {"test_acc": [0.9, 0.91]}}, r"test_acc\[0\]"),
        (
            NAME,
            {"00000000": {"test_acc": [90, 0.91]}, "00000001": {"test_acc": [81]}},
            r"test_acc\[1\]",
        ),
    ],
)
def test_a_column_in_fractions_is_refused_by_its_name(tmp_path, name, content, column):
    """It was read as per cent: 0.9266 as 0.93 %."""
    with pytest.raises(ValueError, match=f": {column} has no value above 1.* multiply by 100"):
        tabular.load(write(tmp_path, name, content), MACRO)


def test_a_column_in_per_cent_may_hold_small_values(tmp_path):
    table = tabular.load(write(tmp_path, "x.csv", TEXT), MACRO)
    assert table.rows == {"00000000": ([81.5], 80.5), "00000001": ([0.25], 0.5)}


def test_the_digest_of_a_table_is_that_of_its_content(tmp_path):
    """Wherever it lies, whatever its name."""
    (tmp_path / "moved").mkdir()
    first = tabular.digest(write(tmp_path, "x.csv", TEXT))
    moved = tabular.digest(write(tmp_path / "moved", "y.csv", TEXT))
    other = tabular.digest(write(tmp_path, "x.csv", TEXT.replace("80.5", "80.6")))
    assert first == moved == hashlib.sha256(TEXT.encode()).hexdigest()
    assert other != first
    assert tabular.digest("") is None


def test_found_in_the_folder_of_the_environment(tmp_path, monkeypatch):
    write(tmp_path, NAME, {"00000000": ROW})
    monkeypatch.setenv("NAS_BENCH_DIR", str(tmp_path))
    assert tabular.load(NAME, MACRO).path == tmp_path / NAME


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", "must be a .json .* or a .csv file"),
        (NAME, "{", "is damaged: "),
        (NAME, "[]", r"it is \[\], not an object"),
        (NAME, "[" * 10**5, "is damaged: maximum recursion depth"),
        (NAME, "1" * 5000, "is damaged: Exceeds the limit"),
        (NAME, "{}", "has no architectures"),
        (NAME, {"00000000": {"acc": 1}}, "00000000.test_acc is absent, not a list"),
        (NAME, {"00000000": {"test_acc": []}}, "'00000000' has an empty list 'test_acc'"),
        (NAME, {"00000000": {"test_acc": [900]}}, rf"00000000.test_acc\[0\] is 900, {NOT}"),
        (NAME, {"00000000": {"test_acc": [90, "91"]}}, rf"test_acc\[1\] is '91', {NOT}"),
        (NAME, {"00000000": {"test_acc": [True]}}, f"is True, {NOT}"),
        (NAME, '{"00000000": {"test_acc": [NaN]}}', f"is nan, {NOT}"),
        (NAME, {"0\n": {"test_acc": [-1]}}, r"'0\\n'.test_acc\[0\] is -1"),
        (NAME, '{"00000000": {"test_acc": [1], "test_acc": [2]}}', "'test_acc' comes 2 times"),
        (NAME, f'{{"00000000": {json.dumps(ROW)}, "00000000": {json.dumps(ROW)}}}', "comes 2 ti"),
        (NAME, {"0000": ROW}, "is of another space: .* has 4 layers, the space has 8"),
        (NAME, {"012,0,0,0,0,0,0,0": ROW}, "'012,0,0,0,0,0,0,0' is not legal in this space"),
        ("x.csv", "", "has the columns none, but needed are 'arch' and one '<data>_test_acc"),
        ("x.csv", "arch,accuracy\n", "has the columns arch, accuracy, but needed are"),
        ("x.csv", "arch,d_test_accuracy\n00000000,\n", f"line 2: d_test_accuracy is '', {NOT}"),
        ("x.csv", "arch,d_test_accuracy\n\n00000000,nan\n", f"line 3: .* is nan, {NOT}"),
        ("x.csv", "arch,d_test_accuracy\n00000000,90 %\n", f"is '90 %', {NOT}"),
        ("x.csv", "arch,d_test_accuracy\n00000000,9\n00000000,9\n", "line 3: '00000000' comes tw"),
        ("x.csv", "arch,d_test_accuracy\n00000000\n", "line 2 has 1 cells, not 2"),
        ("x.csv", "arch,d_test_accuracy\n00000000,93,5\n", "line 2 has 3 cells, not 2"),
        ("x.csv", 'arch,d_test_accuracy,x\n00000000,9,"\n00000001,9,\n', "is damaged: unexpected"),
        (
            "x.csv",
            "arch;d_test_accuracy\n00000000;9\n",
            "the columns arch;d_test_accuracy, but",
        ),
        (
            "x.csv",
            "arch,d_test_accuracy,d_valid_accuracy,d_valid_accuracy\n00000000,9,9,9\n",
            "but needs 'd_valid_accuracy', and that once",
        ),
        ("x.csv", TEXT.encode("utf-16"), "is damaged: 'utf-8'"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        tabular.load(write(tmp_path, name, content), MACRO)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_table_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BENCH_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"'none.csv' is not in .* nor {tmp_path}; give its path"):
        tabular.load("none.csv", MACRO)


def test_a_missing_row_says_what_the_table_has(tmp_path):
    table = tabular.load(write(tmp_path, NAME, {"00000000": ROW}), MACRO)
    with pytest.raises(ValueError, match="has 1 architectures, '00000001' is none of them"):
        table.search_accuracy("00000001")


def test_a_table_of_another_data_set_is_refused_before_anything_runs(tmp_path):
    config = config_lib.default()
    config.data.name = "digits"
    config.data.train, config.data.valid, config.data.test = "train", "valid", "test"
    config.table = write(tmp_path, "x.csv", "arch,cifar10_test_accuracy\n")
    with pytest.raises(ValueError, match="has no architectures"):
        trainings.build(config)
    text = "0>identity|0>identity|0>identity|0>identity"
    config.table = write(tmp_path, "x.csv", f"arch,cifar10_test_accuracy\n{text},5\n")
    with pytest.raises(ValueError, match=r"is of .cifar10., but data\.name=.digits."):
        trainings.build(config)


CELLS = {  # of a column
    "per cent": st.floats(0, 100, allow_subnormal=False),
    "fractions": st.floats(0, 1),
    "mixed": st.one_of(st.floats(0, 1), st.floats(0, 100)),
    "beyond": st.one_of(st.floats(0, 100), st.floats(100.5, 1e300), st.floats(-1e300, -1e-3)),
    "no numbers": st.one_of(
        st.floats(0, 100), st.sampled_from([None, True, "n/a", "", "91 %", "9,1", math.nan])
    ),
}
ARCHS = ["00000000", "01210000", "22222222", "00001111"]


def _is_in_per_cent(column):
    numbers = [x for x in column if isinstance(x, float) and 0 <= x <= 100]
    return len(numbers) == len(column) and max(numbers) > 1


@examples(150)
@given(data=st.data())
def test_a_table_is_in_per_cent_or_refused(tmp_path_factory, data):
    """Whatever the scale of its columns: of a CSV file validation and test, of JSON two seeds."""
    archs = ARCHS[: data.draw(st.integers(1, len(ARCHS)))]
    kinds = [data.draw(st.sampled_from(["per cent", *CELLS])) for _ in range(2)]
    drawn = [[data.draw(CELLS[kind]) for _ in archs] for kind in kinds]
    folder = tmp_path_factory.mktemp("tables")
    if data.draw(st.booleans()):
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(["arch", "d_valid_accuracy", "d_test_accuracy"])
        lines.writerows(zip(archs, *drawn))
        path = write(folder, "x.csv", text.getvalue())
        expected = {arch: ([test], valid) for arch, valid, test in zip(archs, *drawn)}
    else:
        pairs = {arch: {"test_acc": seeds} for arch, *seeds in zip(archs, *drawn)}
        path = write(folder, NAME, pairs)
        expected = {arch: (seeds, None) for arch, *seeds in zip(archs, *drawn)}
    table = refused(tabular.load, path, MACRO, naming=path)
    assert (table is not None) == all(map(_is_in_per_cent, drawn))
    assert table is None or table.rows == expected


@pytest.mark.parametrize(
    ("data", "name", "fits"),
    [
        ("cifar10", "cifar10", True),
        ("cifar10", "cifar10:3.0.2", True),
        ("cifar10", "cifar10:3.*.*", True),
        ("cifar10", "cifar10/plain:3.0.2", True),
        ("cifar10", "cifar10/plain", True),
        ("cifar10/plain", "cifar10/plain:3.0.2", True),
        ("cifar10/plain", "cifar10/other:3.0.2", False),
        ("cifar10", "cifar100:3.0.2", False),
        ("cifar10", "cifar10_corrupted", False),
        ("me:cifar10", "me:cifar10:3.0.2", True),
        ("cifar10", "me:cifar10", False),
    ],
)
def test_a_table_is_of_a_data_set_whatever_its_version(tmp_path, data, name, fits):
    """TFDS writes names as [namespace:]name[/config][:version]."""
    text = f"arch,{data}_test_accuracy\n00000000,50\n"
    table = tabular.load(write(tmp_path, "x.csv", text), MACRO)
    if fits:
        table.check_data(name)
    else:
        with pytest.raises(ValueError, match=f"is of '{data}', but data.name='{name}'"):
            table.check_data(name)


class _Api:
    """What `nats_bench.create` gives, as far as it is used."""

    def __len__(self):
        return 2

    def arch(self, i):
        return CELL.replace("skip_connect", ("skip_connect", "none")[i])

    def get_more_info(self, i, data, hp, is_random):
        assert (hp, is_random) == ("200", False)
        kind = {"cifar10-valid": "valid", "cifar10": "test"}[data]
        return {f"{kind}-accuracy": 80.123456 + i}

    def get_cost_info(self, i, data):
        return {"params": 0.0731 + i, "flops": 1.0}


def test_rows_of_nats_bench(tmp_path):
    first, second = tabular.nats_bench_rows(_Api())
    assert first == {
        "arch": CELL,
        "cifar10_valid_accuracy": 80.1235,
        "cifar10_test_accuracy": 80.1235,
        "params_M": 0.073,
    }
    assert np.isclose(second["params_M"], 1.073)
