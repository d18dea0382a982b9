"""A browser, for the tests of pages."""

import pytest

from tests import browsing


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of a file; without Chromium they are skipped."""
    with browsing.browser() as opened:
        yield opened
