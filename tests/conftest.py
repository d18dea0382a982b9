"""Eight fake CPU devices and a compilation cache, for all tests and the processes they start."""

import os

from tests import compilation_cache

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", compilation_cache.flags(num_devices=8))
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # set: by the user, or by the run's first process
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compilation_cache.folder()
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Imported after that: it reads them.
import pwd

import jax
import pytest

from nas_jax.report import analysis


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_go_with_their_file():
    """Each takes several memory maps, of which Linux allows a process 65,530; XLA then crashes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def few_resamples():
    """A bootstrap of 100 resamples, for tests of what is said of an interval."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MOST", "LEAST"):
            patch.setattr(analysis, name, 100)
        yield


@pytest.fixture
def no_home(monkeypatch):
    """As in a container whose user is a bare number."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
