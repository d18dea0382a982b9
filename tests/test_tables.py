"""Published accuracies: what is read, and what is refused in one line."""

import json

import numpy as np
import pytest

from nas_jax import config as config_lib
from nas_jax import spaces, tables

MACRO, NB201 = spaces.make("nasbench_macro"), spaces.make("nasbench201", num_cells=1)
ROW = {"test_acc": [90.0, 91.0, 92.0], "mean_acc": 91.0, "std": 0.8, "params": 1, "flops": 1}
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
CSV = f"arch,cifar10_valid_accuracy,cifar10_test_accuracy,params_M\n{CELL},80.5,81.25,\n"
NAME = "nas-bench-macro_cifar10.json"


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_macro(tmp_path):
    table = tables.load(write(tmp_path, NAME, {"00000000": ROW, "22212220": ROW}), MACRO)
    assert table.data == "cifar10"
    assert list(table.rows) == ["00000000", "22212220"]
    assert table.rows["22212220"].accuracy == 91
    assert table.search_accuracy("22212220") == 0.91


def test_csv(tmp_path):
    table = tables.load(write(tmp_path, "any.csv", CSV), NB201)
    assert table.data == "cifar10"
    assert table.rows[CELL] == ([81.25], 80.5)
    assert table.search_accuracy(CELL) == 0.805  # a search does not see test accuracies


def test_csv_without_validation_is_of_any_space(tmp_path):
    table = tables.load(write(tmp_path, "x.csv", "arch,digits_test_accuracy\n00000000,50\n"), MACRO)
    assert (table.data, table.search_accuracy("00000000")) == ("digits", 0.5)


def test_found_in_the_folder_of_the_environment(tmp_path, monkeypatch):
    write(tmp_path, NAME, {"00000000": ROW})
    monkeypatch.setenv("NAS_BENCH_DIR", str(tmp_path))
    assert tables.load(NAME, MACRO).path == tmp_path / NAME


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", "must be a .json .* or a .csv file"),
        (NAME, "{", "is damaged: "),
        (NAME, "[]", "is not an object of architectures"),
        (NAME, "{}", "has no architectures"),
        (NAME, {"00000000": {"acc": 1}}, "architecture '00000000' has no list 'test_acc'"),
        (NAME, {"00000000": {"test_acc": [900]}}, "'00000000' is 900, not per cent"),
        (NAME, {"0000": ROW}, "is of another space: .* has 4 layers, the space has 8"),
        (NAME, {"012,0,0,0,0,0,0,0": ROW}, "'012,0,0,0,0,0,0,0' is not legal in this space"),
        ("x.csv", "", "has the columns none, but needed are 'arch' and one '<data>_test_acc"),
        ("x.csv", "arch,accuracy\n", "has the columns arch, accuracy, but needed are"),
        ("x.csv", "arch,d_test_accuracy\n00000000,\n", "of '00000000' is '', not per cent"),
        ("x.csv", "arch,d_test_accuracy\n00000000,nan\n", "'nan', not per cent"),
        ("x.csv", "arch,d_test_accuracy\n00000000,1\n00000000,1\n", "line 3: '00000000' comes tw"),
        ("x.csv", "arch,d_test_accuracy\n00000000\n", "is None, not per cent"),
        ("x.csv", b"\xff\xfe".decode("latin-1"), "has the columns|is damaged"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        tables.load(write(tmp_path, name, content), MACRO)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_table_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BENCH_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"'none.csv' is not in .* nor {tmp_path}; give its path"):
        tables.load("none.csv", MACRO)


def test_a_missing_row_says_what_the_table_has(tmp_path):
    table = tables.load(write(tmp_path, NAME, {"00000000": ROW}), MACRO)
    with pytest.raises(ValueError, match="has 1 architectures, '00000001' is none of them"):
        table.search_accuracy("00000001")


def test_a_table_of_another_data_set_is_refused_before_anything_runs(tmp_path):
    config = config_lib.default()
    config.data.name = "digits"
    config.data.train, config.data.valid, config.data.test = "train", "valid", "test"
    config.table = write(tmp_path, "x.csv", "arch,cifar10_test_accuracy\n")
    with pytest.raises(ValueError, match="has no architectures"):
        config_lib.build(config)
    text = "0>identity|0>identity|0>identity|0>identity"
    config.table = write(tmp_path, "x.csv", f"arch,cifar10_test_accuracy\n{text},5\n")
    with pytest.raises(ValueError, match=r"is of .cifar10., but data\.name=.digits."):
        config_lib.build(config)


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
    first, second = tables.nats_bench_rows(_Api())
    assert first == {
        "arch": CELL,
        "cifar10_valid_accuracy": 80.1235,
        "cifar10_test_accuracy": 80.1235,
        "params_M": 0.073,
    }
    assert np.isclose(second["params_M"], 1.073)
