"""A browser, for the tests of pages."""

import pytest

from nas_jax.report import page, webpage
from tests import browsing
from tests.report.test_page import SPACE, make_run


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of a file; without Chromium they are skipped."""
    with browsing.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of a made-up run, as somebody has it who got that file alone."""
    folder = tmp_path_factory.mktemp("sent")
    made = page.write(make_run(tmp_path_factory.mktemp("run")), SPACE).with_name(webpage.NAME)
    return made.rename(folder / "page.html")


@pytest.fixture(scope="module")
def opened(browser, path):
    return browsing.Watched(browser, path, viewport={"width": 1200, "height": 800})


@pytest.fixture
def fresh(opened):
    """The page as it is after it was opened."""
    opened.page.reload()
    opened.page.wait_for_selector(browsing.READY, state="attached")
    return opened
