"""launch.py, as a user starts it: its help, and what it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas_jax import config as config_lib
from nas_jax import pipeline
from nas_jax.config import variants
from tests import launching

ROOT = Path(__file__).parents[1]


def launch(*arguments, python=()):
    """Run it as a process."""
    return subprocess.run(
        [sys.executable, *python, "launch.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_shows_modes_and_examples_without_loading_jax(arguments):
    done = launch(*arguments, python=("-X", "importtime"))
    assert done.returncode == 0
    assert "python launch.py --config=digits" in done.stdout
    assert all(f"  {mode}  " in done.stdout for mode in config_lib.MODES)
    assert {"--config:", "--mode:", "--workdir:"} <= set(done.stdout.split())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nas_jax.config.defaults" in imported
    assert not {"jax", "flax", "tensorflow_datasets"} & imported


def test_help_may_be_cut_by_its_reader():
    """As by `| head -1`: the pipe is closed before all of it is written."""
    command = (sys.executable, "launch.py", "--help")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


DIGITS = "--config=configs/digits.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DIGITS, "--config.sed=1"), r"""error: '?"?(config\.)?sed\b.*\bseed"""),
        (
            (DIGITS, "--config.supernet.train.lr=1"),
            "train.lr is no field; .*supernet.train.base_lr",
        ),
        ((DIGITS, "--config.seed.x=1"), "config.seed.x is no field; nearest: config.seed$"),
        ((DIGITS, "--config.data=cifar10"), "config.data is a section, which has data_dir, .*name"),
        ((DIGITS, "--config.foo={'name':1}"), "config.foo is no field; nearest: config."),
        ((DIGITS, "--config.seed=one"), "--config.seed=one: must be a whole number$"),
        ((DIGITS, "--config.seed=1.5"), "--config.seed=1.5: must be a whole number$"),
        ((DIGITS, "--config.data.image_size=None"), "image_size=None: must be a whole number$"),
        ((DIGITS, "--config.supernet.train.l2=small"), "l2=small: must be a number$"),
        ((DIGITS, "--config.space.tied=maybe"), "space.tied=maybe: must be true or false$"),
        ((DIGITS, "--config.seed=-1"), "config.seed=-1 must be 0 or more$"),
        ((DIGITS, "--config.data.name=cifar11"), "data.name='cifar11'.*nearest: 'cifar10"),
        ((DIGITS, "--config.supernet.filters=0"), "config.supernet.filters=0 must be 1 or more"),
        ((DIGITS, "--mode=serch"), "serch.*search"),
        ((DIGITS, "--workdr=x"), r"workdr'\. Did you mean: workdir \?"),
        (
            ("--config=digit",),
            "--config='digit' is none of cifar, darts, digits, .*; nearest: 'digits'$",
        ),
        (("--config=studies/rank",), "nearest: 'studies/ranking'$"),
        (
            (DIGITS, "--config.space.ops=('identity',)", "--config.space.ops=('sep3x3',)"),
            "--config.space.ops is given twice; give all items at once",
        ),
        ((DIGITS, "--config.data.image_size=15"), "of 15x15 pixels .*data.image_size"),
        ((DIGITS, "--config.data.image_size=15", "seed=1"), "seed=1"),  # lacks its dashes
        (("--config=configs/nothing.py",), "configs/nothing.py"),
        (("--config=configs/cifar.py:smal",), "cifar.py:smal: the variant is 'small' or none$"),
        (
            ("--config=configs/imagenet.py:tiny",),
            "--config=configs/imagenet.py:tiny: .*no variants",
        ),
        (("--mode=search",), "--config is missing"),
        (("--config=tests/test_launch.py",), "test_launch.py has no function get_config$"),
        ((DIGITS, "--config.seed"), "Missing value for flag --config.seed$"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    code, errors = launching.main(*arguments, f"--workdir={tmp_path / 'run'}")
    assert code == 2, errors
    (line,) = errors.splitlines()
    assert line.startswith("launch.py: error: ")
    assert "Traceback" not in line
    assert r"\n" not in line
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


@pytest.fixture
def idle(monkeypatch):
    """`--mode=supernet` makes a workdir, and trains nothing."""
    monkeypatch.setitem(pipeline.STAGES, "supernet", lambda _: None)


@pytest.mark.usefixtures("idle")
def test_what_can_be_read_as_a_whole_number_is_one(tmp_path):
    """Also where the value is the next argument; other types are read as before."""
    code, errors = launching.main(
        *(DIGITS, "--mode=supernet", f"--workdir={tmp_path}"),
        "--config.supernet.train.batch_size=128",  # a ghost batch for each device
        *("--config.sweep.constraints.max_params=1e6", "--config.supernet.train.num_steps", "40.0"),
        *("--config.seed=0x10", "--config.supernet.train.l2=1", "--noconfig.space.tied"),
        *("--config.retrain.short.filters=(4,8)", "--config.data.digits={'clutter':2,'noise':0.5}"),
    )
    assert code == 0, errors
    config = json.loads((tmp_path / "config.json").read_text())
    numbers = config["sweep"]["constraints"]["max_params"], config["seed"]
    numbers += (config["supernet"]["train"]["num_steps"],)
    assert numbers == (1_000_000, 16, 40)
    assert all(type(number) is int for number in numbers)
    assert (config["supernet"]["train"]["l2"], config["space"]["tied"]) == (1.0, False)
    assert config["retrain"]["short"]["filters"] == [4, 8]
    assert config["data"]["digits"] == {"clutter": 2, "noise": 0.5}


@pytest.mark.usefixtures("idle")
def test_fields_of_a_space_of_ones_own_are_set_like_others(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import dataclasses\n"
        "from nas_jax.spaces.chains import ChainSpace\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Mine(ChainSpace):\n"
        "    depth: int = 3\n"
    )
    named = f"--config.space.name={tmp_path / 'mine.py'}:Mine"
    size = "--config.supernet.train.batch_size=128"  # a ghost batch for each device
    given = DIGITS, "--mode=supernet", f"--workdir={tmp_path / 'run'}", named, size
    code, errors = launching.main(*given, "--config.space.dept=2")
    assert (code, "config.space.dept is no field; nearest: config.space.depth" in errors) == (2, 1)
    code, errors = launching.main(*given, "--config.space.depth=2")
    assert code == 0, errors
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["space"]["depth"], config["space"]["head"]) == (2, 0)


def test_help_explains_every_field_and_leaves_none_out():
    """In the words of the comments in nas_jax/config; trainings have the same fields."""
    shown = launch("--help").stdout
    fields = dict(variants.flatten(config_lib.default()))
    alike = tuple(f"retrain.{protocol}." for protocol in ("short.train", "final.train", "final"))
    listed = [name for name in fields if not name.startswith(alike)] + ["retrain.final.pbt"]
    assert all(f"\n  {name} = " in shown for name in listed)
    assert "  data.name = 'cifar10'  (text)\n      \"digits\" (embedded)" in shown
    assert "  supernet.train.base_lr = 0.1  (number, 0 or more)\n      at a batch of 1024" in shown
    assert "network.dtype = 'auto'  (one of auto, float32, bfloat16, float16)" in shown
    assert re.search(
        r"retrain.final.train: the fields of supernet.train, here num_steps=0, num_epochs=300",
        shown,
    )
    # Two lines above the field, and one beside it.
    assert "Seed of the order of a split's fixed images" in shown
    assert "Steps between two turns" in shown


@pytest.mark.usefixtures("idle")
def test_a_config_is_named_or_a_file_from_any_folder(tmp_path):
    """With its variant; the workdir has its name."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from nas_jax import config\n\ndef get_config():\n  return config.load('smash:digits')"
    )
    for given in (mine, "smash:digits"):
        workdir = tmp_path / f"run-{str(given)[-3:]}"
        arguments = f"--config={given}", "--mode=supernet", f"--workdir={workdir}"
        code, errors = launching.main(*arguments, "--config.supernet.train.batch_size=128")
        assert code == 0, errors
        config = json.loads((workdir / "config.json").read_text())
        assert (config["supernet"]["variant"], config["data"]["name"]) == ("smash", "digits")


def test_a_workdir_of_another_config_is_refused(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"seed": 5}')
    done = launch(DIGITS, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"launch.py: error: --workdir={tmp_path / 'run'} holds a run of another")
    assert line.endswith(f"--workdir={tmp_path / 'run-2'}")


def test_a_check_says_what_a_run_takes_and_writes_nothing(tmp_path, capsys):
    given = "--config=tests/configs/tiny.py", f"--workdir={tmp_path / 'run'}", "--mode=check"
    code, errors = launching.main(*given)
    assert (code, errors) == (0, "")
    assert not (tmp_path / "run").exists()
    shown = capsys.readouterr().out
    for line in (
        "  supernet.train.batch_size = 32",
        "  supernet       40 steps of 32 images, F = 4, path_dropout",
        "  retrain.short  up to 2 networks (together), each 20 steps of 32 train images, F = 4",
        "  supernet: 2,098 parameters",
    ):
        assert line in shown
    assert "  seed = 0" not in shown  # the default
    assert re.search(r"a training step of the supernet: \d+ MiB while it runs", shown)
    assert re.search(
        r"sweep +about \d+ s: 8 candidates on 64 images took \d+ ms, the median", shown
    )
    assert re.search(r"in all +about \d+ s, and \d+ s to compile 6 large programs", shown)


def test_a_check_of_a_study_says_what_one_search_takes(tmp_path, capsys):
    given = "--config=tests/configs/tiny_study.py", f"--workdir={tmp_path / 'run'}", "--mode=check"
    assert launching.main(*given) == (0, "")
    assert not (tmp_path / "run").exists()
    _, _, times = capsys.readouterr().out.partition("\nTime of one search by these fields.")
    assert "for each of 2 variants" in times
    assert re.search(r"supernet +about \d+ s: a step took \d+ ms", times)
    assert "in all" not in times  # its parts may need less


def test_a_check_finds_what_a_run_would(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 5}')
    (tmp_path / "trials.jsonl").touch()
    for arguments, message in (
        ([], f"--workdir={tmp_path} holds a run of another config"),
        (["--config.sweep.batch_size=60"], "config.sweep.num_images=128 is not a multiple of"),
        (["--config.sweep.num_checkpoints=5"], "config.sweep.num_checkpoints=5"),
        (["--config.sweep.constraints.max_params=9"], "config.sweep.constraints.max_params=9, b"),
        (
            ["--config.sweep.score=json:loads", f"--workdir={tmp_path / 'run'}"],
            "config.sweep.score='json:loads': TypeError in ",
        ),
    ):
        given = "--config=tests/configs/tiny.py", f"--workdir={tmp_path}", "--mode=check"
        code, errors = launching.main(*given, *arguments)
        assert code == 2
        assert errors.startswith(f"launch.py: error: {message}")
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "trials.jsonl"}
