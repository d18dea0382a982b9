"""What users give as paths: `~` is the home folder, and an address is no folder of this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from nas_jax import pipeline, spaces
from nas_jax.costs import latency
from nas_jax.data import loading
from nas_jax.spaces import tabular
from nas_jax.storage import checkpoints, file_paths, json_files, workdir
from nas_jax.studies.store import Store
from tests import launching, trainings
from tests.configs import tiny, tiny_study

ROOT = Path(__file__).parents[2]
BUCKET = "gs://bucket/run"
REMOTE = [BUCKET, "s3://bucket", "hdfs://host:9000/run", "file:///run", "gs:/bucket/run"]
MACRO = spaces.make("nasbench_macro")
TABLE = "arch,digits_test_accuracy\n00000000,50\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home folder; the current folder is another one."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.mark.parametrize("given", [*REMOTE, *map(Path, REMOTE), "runs/gs://bucket", "gs:/b"])
def test_an_address_is_refused(given):
    with pytest.raises(ValueError, match=r"^--x='.*:.*' is an address.* mount that") as error:
        file_paths.local(given, "--x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/run", "/home/me/run"),
        ("~", "/home/me"),
        (Path("~/run"), "/home/me/run"),
        ("runs/~/x", "runs/~/x"),
        ("/mnt/bucket/run", "/mnt/bucket/run"),
        ("run:1", "run:1"),
        ("run:", "run:"),
        ("./x:", "x:"),
        ("12:30/run", "12:30/run"),
        ("/mnt/gs:/run", "/mnt/gs:/run"),
    ],
)
def test_a_path_of_this_machine(monkeypatch, given, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert file_paths.local(given, "--x") == Path(expected)


@pytest.mark.parametrize("given", ["~/run", "~nobody-of-this-name/run"])
def test_without_a_home_folder_a_tilde_is_refused(no_home, given):
    with pytest.raises(ValueError, match=f"^--x='{given}': the home folder is not known"):
        file_paths.local(given, "--x")
    assert file_paths.local("runs/x", "--x") == Path("runs/x")


def _build(**fields):
    config = tiny_study.get_config()
    config.update_from_flattened_dict(fields)
    return trainings.build(config)


READERS = {
    "--workdir": lambda path: pipeline.run(tiny.get_config(), "search", path),
    "config.study.pool": lambda path: _build(**{"study.pool": path}),
    "config.study.paper_points": lambda path: _build(**{"study.paper_points": path}),
    "table": lambda path: tabular.load(path, MACRO),
    "data.name": lambda path: loading.load(f"npz:{path}"),
    "data.data_dir": lambda path: loading.load("mnist", data_dir=path),
    "$NAS_BENCH_DIR": lambda path: tabular.load("x.csv", MACRO),
    "$TFDS_DATA_DIR": lambda path: loading.load("mnist"),
}


@pytest.mark.parametrize("field", READERS)
def test_every_path_that_a_user_gives_is_of_this_machine(home, monkeypatch, field):
    if field[0] == "$":
        monkeypatch.setenv(field[1:], BUCKET)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        READERS[field](BUCKET)
    assert str(error.value).startswith(f"{field}='{BUCKET}' is an address")
    assert not list(Path().iterdir())  # the current folder


WRITERS = {
    "pool": lambda path: Store(path, None),
    "checkpoints": checkpoints.Checkpoints,
    "claim": lambda path: workdir.claim(path, wait=False).__enter__(),
    "text": lambda path: json_files.write_text(path / "x.txt", ""),
    "lines": lambda path: json_files.append_jsonl(path / "x.jsonl", [{}]),
    "latencies": lambda path: latency.per_option(
        *(MACRO, path / "latency.json"),
        num_archs=0,
        batch_size=1,
        filters=1,
        image_size=8,
        num_classes=10,
        channels=3,
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_folder_of_the_name_of_a_bucket_is_made(home, name):
    """For callers in Python: a `Path` has lost one of the slashes."""
    with pytest.raises(ValueError, match=r"gs:/bucket/run.*' is an address"):
        WRITERS[name](Path(BUCKET))
    assert not list(Path().iterdir())


def test_home_folder_of_tables_and_of_data_sets(home, monkeypatch):
    (home / "x.csv").write_text(TABLE)
    assert tabular.load("~/x.csv", MACRO).path == home / "x.csv"
    monkeypatch.setenv("NAS_BENCH_DIR", "~")
    assert tabular.load("x.csv", MACRO).path == home / "x.csv"
    (home / "sets").mkdir()
    for variable, given in (("~/sets", None), ("/nowhere", "~/sets")):
        monkeypatch.setenv("TFDS_DATA_DIR", variable)
        with pytest.raises(ValueError, match=f"data.name='mnist' is not in {home}/sets/mnist"):
            loading.load("mnist", data_dir=given)
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(ValueError, match=f"is not in {home}/tensorflow_datasets/mnist"):
        loading.load("mnist")


def test_a_pool_in_the_home_folder(home):
    assert Store("~/pool", None).directory == home / "pool"


@pytest.mark.system
def test_a_search_in_the_home_folder(home, monkeypatch):
    """As bash leaves it: in --workdir=~/run it does not replace the tilde."""
    monkeypatch.chdir(ROOT)
    command = ["--config=tests/configs/tiny.py", "--mode=supernet"]
    fields = ["supernet.train.num_steps=5", "space.num_cells=1", "space.num_blocks=1"]
    fields.append("space.ops=('identity','sep3x3')")
    for given, code in (("~/run", 0), (BUCKET, 2)):
        arguments = [*command, f"--workdir={given}", *(f"--config.{field}" for field in fields)]
        ended, errors = launching.main(*arguments)
        assert ended == code, errors
    assert errors.startswith(f"launch.py: error: --workdir='{BUCKET}' is an address")
    assert len(errors.splitlines()) == 1
    assert (home / "run" / "metrics.jsonl").exists()
    assert not (ROOT / "~").exists()
    assert not (ROOT / "gs:").exists()


def test_where_benchmarks_write_is_refused_before_they_run():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "memory", f"--output={BUCKET}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"argument --output: --output='{BUCKET}' is an address" in done.stderr
