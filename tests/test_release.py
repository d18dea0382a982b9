"""What is released: a source distribution, the wheel made of it, and the versions they name."""

import re
import tarfile
import zipfile

import pytest

import nas_jax
from tests import wheels
from tests.test_wheel import files_of_source
from tests.wheels import FILES, FOLDERS, NEEDED, PACKAGE, ROOT, run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A source distribution, and the wheel that is built of it."""
    folder = tmp_path_factory.mktemp("source")
    copy = wheels.copied(folder, (*NEEDED, *FILES), (*PACKAGE, *FOLDERS))
    isolation = ["--no-isolation"] if wheels.can_build() else []
    wheels.built(run("-m", "build", *isolation, cwd=copy))
    return copy / "dist"


def test_a_wheel_is_built_from_the_source_distribution_alone(dist):
    """`build` makes the wheel of what it unpacks: a file that the source lacks is missed."""
    names = {path.name for path in dist.iterdir()}
    version = nas_jax.__version__
    assert names == {f"nas_jax-{version}.tar.gz", f"nas_jax-{version}-py3-none-any.whl"}
    (wheel,) = dist.glob("*.whl")
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert inside == files_of_source()


def test_the_source_distribution_has_tests_documents_and_examples(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"launch.py", "tests/test_release.py", "docs/conf.py", "docs/index.md", "MANIFEST.in"}
    assert wanted <= names
    assert {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("runs/")]


def test_an_index_accepts_the_metadata_and_can_render_the_description(dist):
    done = run("-m", "twine", "check", "--strict", *map(str, dist.iterdir()), cwd=dist)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", text, re.M)
    assert versions[versions[0] == "Unreleased"] == nas_jax.__version__
