"""A real browser, headless, for tests of pages; without Chromium they are skipped."""

import base64
import contextlib
import gzip
import os
import re
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
READY = "html[data-ready]"  # of a page whose script has drawn all


def needed():
    """Skip the test, and say why, where no browser can be driven."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")


@contextlib.contextmanager
def browser():
    """Yield a browser, to make contexts and pages in."""
    needed()
    from playwright import sync_api

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*as_root, "--enable-unsafe-swiftshader"]
        )
        yield opened
        opened.close()


def packed(html, name):
    """What the page unpacks under a name."""
    found = re.search(rf'<script type="text/plain" id="packed-{name}">([^<]*)</script>', html)
    return gzip.decompress(base64.b64decode(found[1])).decode()


class Watched:
    """A page of a file, ready, with what went wrong: errors, and addresses it asked for.

    Args:
      browser: of `browser`.
      path: of the file.
      **context: of the browser's context, such as a viewport.
    """

    def __init__(self, browser, path, **context):
        self.context = browser.new_context(**context)
        self.page, self.errors, self.requests = self.context.new_page(), [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(READY, state="attached")

    def _note(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    @property
    def elsewhere(self):
        """Addresses that are neither the file's nor in the page."""
        inside = ("data:", "blob:", self.page.url.partition("#")[0])
        return [url for url in self.requests if not url.startswith(inside)]

    def texts(self, selector):
        """Texts of all elements, without the space around them."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]
