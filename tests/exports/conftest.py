"""A run of three networks that was exported, shared by the tests of this folder."""

import pytest

from nas_jax.exports import folder
from tests.exports import finished


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Its workdir: two short networks, of which one is a final one too."""
    directory = tmp_path_factory.mktemp("exports") / "run"
    networks = {"short": [finished.CELL, finished.OTHER_CELL], "final": [finished.CELL]}
    finished.make(directory, networks)
    return directory


@pytest.fixture(scope="session")
def exported(run):
    """The folder of its best network."""
    return folder.export(run)
