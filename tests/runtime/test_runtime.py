"""Settings of the process: what is set, and what a user has set stays."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from nas_jax.runtime import environment as environment_lib
from tests import compilation_cache, trainings
from tests.configs import tiny

ROOT = Path(__file__).parents[2]
# A user who is a bare number: no passwd entry says where the home folder is.
LAUNCH = """
import pwd, sys
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
import launch
sys.exit(launch.main(["launch.py", *sys.argv[1:]]))
"""


@pytest.fixture
def environment(monkeypatch):
    """The process's environment variables, which are as they were after the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    return os.environ


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "",
            "--xla_cpu_prefer_vector_width=512 "
            "--xla_backend_extra_options=-unroll-full-max-count=4",
        ),
        (
            "--xla_force_host_platform_device_count=2 --xla_cpu_prefer_vector_width=256",
            "--xla_force_host_platform_device_count=2 --xla_cpu_prefer_vector_width=256 "
            "--xla_backend_extra_options=-unroll-full-max-count=4",
        ),
    ],
)
def test_flags_are_added_to_those_given(given, expected):
    assert environment_lib.with_cpu_flags(given) == expected


@pytest.mark.parametrize(
    ("platforms", "only"), [("cpu", True), ("cuda", False), ("cuda,cpu", False), ("tpu", False)]
)
def test_platforms_that_are_asked_for(monkeypatch, platforms, only):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert environment_lib.only_cpu() == only


def test_jax_runs_with_the_settings_and_fills_the_cache(tmp_path):
    """A real process: XLA accepts the flags, and a second process compiles nothing."""
    code = (
        "from nas_jax import runtime; runtime.configure()\n"
        "import jax, jax.numpy as jnp\n"
        "f = jax.jit(lambda x: sum(jnp.sin(x * i) @ x for i in range(40)))\n"
        "print(float(f(jnp.ones((8, 8))).sum()))"
    )
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith("JAX_")}
    environment = kept | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

    def run():
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout, {path.name for path in (tmp_path / "nas_jax").glob("*-cache")}

    first, compiled = run()
    again, still = run()
    assert compiled
    assert (first, compiled) == (again, still)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "/home/me/.cache/nas_jax"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/nas_jax"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/nas_jax"),
        ({"XDG_CACHE_HOME": "~/caches"}, "/home/me/caches/nas_jax"),
        ({"JAX_COMPILATION_CACHE_DIR": "gs://bucket"}, "gs://bucket"),  # JAX can do that
    ],
)
def test_compiled_programs_are_kept_in_the_users_cache_folder(environment, given, expected):
    environment.update({"HOME": "/home/me", **given})
    environment_lib.configure()
    assert environment["JAX_COMPILATION_CACHE_DIR"] == expected


def test_a_user_without_a_home_folder_keeps_none(environment, no_home, caplog):
    environment_lib.configure()
    assert "JAX_COMPILATION_CACHE_DIR" not in environment
    assert caplog.messages == [
        "no home folder: set JAX_COMPILATION_CACHE_DIR to keep compiled programs"
    ]
    environment["XDG_CACHE_HOME"] = "/caches"
    environment_lib.configure()
    assert environment["JAX_COMPILATION_CACHE_DIR"] == "/caches/nas_jax"


# -- what a seed means ----------------------------------------------------------------------------


def losses(directory, num_devices):
    """Of the first steps of a supernet, on so many devices."""
    config = tiny.get_config()
    config.space.num_cells = config.space.num_blocks = 1
    config.space.ops = ("identity", "sep3x3")
    config.supernet.train.update({"num_steps": 6, "log_every": 1, "checkpoint_every": 0})
    built = trainings.build(config)
    _, rows = trainings.fit(built, directory / f"{num_devices} devices", num_devices)
    return [row["loss"] for row in rows]


@pytest.mark.system
def test_a_seed_means_the_same_whatever_kind_of_key_is_the_default(tmp_path):
    """On two devices, which split keys of the kind "rbg" otherwise, as on one without it."""
    code = (
        "import json, pathlib, sys; from tests.runtime.test_runtime import losses\n"
        "print(json.dumps(losses(pathlib.Path(sys.argv[1]), 2)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_DEFAULT_PRNG_IMPL": "rbg",
            "XLA_FLAGS": compilation_cache.flags(num_devices=2),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(found, losses(tmp_path, 1), rtol=0, atol=1e-5)


def test_every_root_key_is_of_the_kind_that_the_project_names():
    files = [*(ROOT / "nas_jax").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    made = re.compile(r"random\.(key|PRNGKey)\b")
    assert [path.name for path in files if made.search(path.read_text())] == ["rng.py"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_high_dynamic_range_gumbel", True),
        ("jax_random_seed_offset", 5),
        ("jax_threefry_partitionable", False),
    ],
)
def test_what_changes_the_numbers_of_a_seed_is_refused(name, value):
    environment_lib.start()
    ours = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with pytest.raises(ValueError, match=f"{name.upper()}={value} changes the numbers"):
            trainings.build(tiny.get_config())
    finally:
        jax.config.update(name, ours)
    trainings.build(tiny.get_config())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_ENABLE_X64", "1", "JAX_ENABLE_X64=True changes the numbers that a seed gives"),
        ("JAX_ENABLE_X64", "maybe", "'maybe' for environment 'JAX_ENABLE_X64'"),
        ("JAX_PLATFORMS", "cuda", "JAX_PLATFORMS=cuda: .+; installed are cpu.* Unset JAX_P"),
        ("JAX_PLATFORMS", "cpuu", "JAX_PLATFORMS=cpuu: .*'cpuu'.*; installed are cpu"),
    ],
)
def test_an_environment_that_does_not_fit_is_one_line_and_exit_code_2(
    tmp_path, name, value, message
):
    command = [sys.executable, "launch.py", "--config=tests/configs/tiny.py"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}/run"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", name: value},  # no GPU, wherever it runs
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.search(f"^launch.py: error: .*{message}", line), line
    assert not (tmp_path / "run").exists()


@pytest.mark.system
def test_a_search_runs_without_a_home_folder_and_with_the_backend_of_a_notebook(tmp_path):
    """In a table, of nine architectures: the report at its end draws figures."""
    table = tmp_path / "table.csv"
    archs = [f"0{i}{j}" for i in range(3) for j in range(3)]
    lines = [f"{arch},{10 + i}" for i, arch in enumerate(archs)]
    table.write_text("\n".join(["arch,digits_test_accuracy", *lines]))
    fields = {"table": table, "sweep.score": "table", "sweep.candidates_per_batch": 3}
    gone = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "PYTHONPATH")
    done = subprocess.run(
        [
            *(sys.executable, "-c", LAUNCH, "--config=tests/configs/tiny_macro.py"),
            *(f"--config.{name}={value}" for name, value in fields.items()),
            f"--workdir={tmp_path / 'run'}",
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in gone}
        | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run" / "report").glob("*.png"))) >= 2


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ({}, 3),
        ({"JAX_NUM_CPU_DEVICES": "2"}, 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
    ],
)
def test_a_cpu_is_split_unless_the_user_says_how(given, devices):
    program = """
import jax
from nas_jax.runtime import environment
environment.start(3)
environment.start(5)  # it runs already
print(jax.device_count())
"""
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env |= {"JAX_PLATFORMS": "cpu", **given}
    out = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == [str(devices)]
