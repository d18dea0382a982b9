"""Addresses of mirrors."""

import pytest

from tests.storage import mirrors


@pytest.fixture(params=["folder", "memory"])
def url(request, tmp_path):
    """An address at which there is nothing."""
    return (
        str(tmp_path / "m")
        if request.param == "folder"
        else f"memory://m{next(mirrors.numbers)}/run"
    )
