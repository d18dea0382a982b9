"""Settings of the process: what is set, and what a user has set stays."""

import os
import subprocess
import sys

import pytest

from nas_jax import runtime


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
    assert runtime.with_cpu_flags(given) == expected


@pytest.mark.parametrize(
    ("platforms", "only"), [("cpu", True), ("cuda", False), ("cuda,cpu", False), ("tpu", False)]
)
def test_platforms_that_are_asked_for(monkeypatch, platforms, only):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert runtime.only_cpu() == only


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
    runtime.configure()
    assert environment["JAX_COMPILATION_CACHE_DIR"] == expected


def test_a_user_without_a_home_folder_keeps_none(environment, no_home, caplog):
    runtime.configure()
    assert "JAX_COMPILATION_CACHE_DIR" not in environment
    assert caplog.messages == [
        "no home folder: set JAX_COMPILATION_CACHE_DIR to keep compiled programs"
    ]
    environment["XDG_CACHE_HOME"] = "/caches"
    runtime.configure()
    assert environment["JAX_COMPILATION_CACHE_DIR"] == "/caches/nas_jax"
