"""The page of a run in a real browser: what has room where, on screens and on paper."""

import io
import itertools
import json

import pytest
from PIL import Image

from nas_jax.report import page, webpage
from tests.browsing import Watched
from tests.report.test_page import NUM_TRIALS, SPACE, make_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of a made-up run."""
    return page.write(make_run(tmp_path_factory.mktemp("run")), SPACE).with_name(webpage.NAME)


@pytest.fixture(scope="module")
def opened(browser, path):
    return Watched(browser, path, viewport={"width": 1400, "height": 800})


def test_the_accuracy_of_a_network_is_in_sight_and_its_table_is_wider_than_the_text(opened):
    head = opened.page.locator("#networks thead tr:first-child th").nth(1)
    assert head.inner_text().strip() == "accuracy (%)"
    box = head.bounding_box()
    assert box["x"] + box["width"] < 1400
    text = opened.page.locator("#networks .hint").bounding_box()
    table = opened.page.locator("#networks .records").bounding_box()
    assert table["x"] < text["x"]
    assert table["x"] + table["width"] > text["x"] + text["width"]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_the_table_of_networks_fits_a_window_of_1400_with_all_its_columns(browser, tmp_path):
    """Those of seeds, scores and seconds too."""
    directory = make_run(tmp_path)
    for path in directory.glob("retrain/*/F*/*/*/result.json"):
        row = json.loads(path.read_text())
        path.write_text(json.dumps(row | {"seconds": 12_345.67}))
    path = page.write(directory, SPACE).with_name(webpage.NAME)
    watched = Watched(browser, path, viewport={"width": 1400, "height": 800})
    assert watched.page.locator("#networks thead tr:first-child th").count() == 11
    box = watched.page.locator("#networks .dt-layout-table .dt-layout-cell")
    assert box.evaluate("element => element.scrollWidth <= element.clientWidth")
    last = watched.page.locator("#networks tbody tr:first-child td").last
    assert last.inner_text() == "24,691.34"
    name = watched.page.locator("#networks tbody td:first-child").first.bounding_box()
    assert name["width"] > 150  # it can be read
    filters = watched.page.locator("#networks thead tr").nth(1).locator("input").all()
    edges = [each.bounding_box() for each in filters]
    for left, right in itertools.pairwise(edges):
        assert left["x"] + left["width"] <= right["x"]
    watched.context.close()


def _darkest(watched, selector, edge):
    """The darkest of the five outer pixels at the left or right of an element, 0 to 255."""
    shot = watched.page.locator(selector).first.screenshot()
    row = Image.open(io.BytesIO(shot)).convert("L")
    left = 0 if edge == "left" else row.width - 5
    return min(row.crop((left, 2, left + 5, 3)).tobytes())


@pytest.mark.parametrize("selector", ["body > nav", "#networks .dt-layout-table .dt-layout-cell"])
def test_what_scrolls_sideways_has_a_shade_where_there_is_more(browser, path, selector):
    watched = Watched(browser, path, viewport={"width": 700, "height": 800})
    strip = watched.page.locator(selector)
    assert strip.evaluate("element => element.scrollWidth > element.clientWidth")
    assert _darkest(watched, selector, "right") < 220 < 240 < _darkest(watched, selector, "left")
    strip.evaluate("element => { element.scrollLeft = 1e5; }")
    assert _darkest(watched, selector, "left") < 220 < 240 < _darkest(watched, selector, "right")
    watched.context.close()


def test_a_click_outside_closes_the_drawing(opened):
    button = opened.page.locator("#trials .records button.arch").nth(2)
    card = opened.page.get_by_role("dialog", name="Architecture")
    button.click()
    card.wait_for(state="visible")
    card.locator("code").click()
    assert card.is_visible()
    opened.page.locator("#trials h2").click()
    card.wait_for(state="hidden")
    assert button.evaluate("element => element === document.activeElement")
    button.click()
    search = opened.page.locator("#trials input[type=search]").last
    search.click()  # which takes the focus
    card.wait_for(state="hidden")
    assert search.evaluate("element => element === document.activeElement")
    button.click()
    opened.page.locator("#trials .records button.arch").nth(0).click()  # another one
    assert card.is_visible()
    opened.page.keyboard.press("Escape")


def test_paper_says_where_the_other_rows_are_and_has_the_best_cell_once(opened):
    words = opened.page.locator("#trials .paper")
    assert not words.is_visible()
    opened.page.emulate_media(media="print")
    try:
        assert f"10 of {NUM_TRIALS} rows; all are in trials.jsonl" in words.inner_text()
        assert not opened.page.locator("#trials .dt-info").is_visible()
        assert opened.page.locator("#best svg").is_visible()
        assert not opened.page.locator('figure[data-name="best.png"] img').is_visible()
    finally:
        opened.page.emulate_media(media="screen")
