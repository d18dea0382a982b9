"""The tables of a page in a real browser: how they sort, filter and search."""

import pytest

from nas_jax.report import page, webpage
from tests.browsing import Watched
from tests.report.test_page import NUM_TRIALS, SPACE, _lines, _trial, _write

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

pytestmark = pytest.mark.usefixtures("few_resamples")
NOTHING = "\N{EN DASH}"  # of a trial without a value
TRIALS = "#trials .records"


def _column(watched, number):
    return watched.texts(f"{TRIALS} tbody td:nth-child({number})")


def _wait_for(watched, number, expected):
    """Wait until a column has these texts; the table is drawn again after a moment."""
    column = watched.page.locator(f"{TRIALS} tbody td:nth-child({number})")
    expect(column).to_have_text(expected)


def test_tables_sort_by_mouse_and_by_keyboard(fresh):
    assert _column(fresh, 3) == [f"{90 - i}.00" for i in range(10)]  # the best first
    head = fresh.page.locator(f"{TRIALS} thead tr:first-child th").nth(0)
    head.locator("[role=button]").click()
    _wait_for(fresh, 1, [str(NUM_TRIALS - i) for i in range(10)])
    head.locator("[role=button]").focus()
    fresh.page.keyboard.press("Enter")
    _wait_for(fresh, 1, [str(i) for i in range(1, 11)])
    assert head.get_attribute("aria-sort") == "ascending"


def test_a_trial_without_a_value_is_sorted_last(fresh):
    head = fresh.page.locator(f"{TRIALS} thead tr:first-child th").nth(2)
    head.locator("[role=button]").click()  # it was sorted from the highest
    _wait_for(fresh, 3, [NOTHING, *(f"{52 + i}.00" for i in range(9))])


def test_tables_filter_by_words_and_by_numbers(fresh):
    fresh.page.locator(f"{TRIALS} input[type=search]").first.fill("1>sep7x7|0,2>sep7x7")
    _wait_for(fresh, 2, ["1>sep7x7|0,2>sep7x7"])
    fresh.page.locator(f"{TRIALS} input[type=search]").first.fill("")
    value = fresh.page.locator(f"{TRIALS} thead tr").nth(1).locator("td, th").nth(2)
    value.locator("select").select_option("greaterOrEqual")
    value.locator("input").fill("88")
    _wait_for(fresh, 3, ["90.00", "89.00", "88.00"])


@pytest.mark.parametrize("way", ["less", "lessOrEqual", "notEqual", "equal", "greater"])
def test_a_trial_without_a_value_is_less_than_no_number(fresh, way):
    """One of the forty has none; it is found as what it is, empty."""
    value = fresh.page.locator(f"{TRIALS} thead tr").nth(1).locator("td, th").nth(2)
    value.locator("select").select_option(way)
    value.locator("input").fill("70")
    found = {"less": 18, "lessOrEqual": 19, "notEqual": 38, "equal": 1, "greater": 20}[way]
    info = fresh.page.locator(f"{TRIALS} .dt-info")
    expect(info).to_contain_text(f"of {found} trial")
    value.locator("select").select_option("empty")
    _wait_for(fresh, 3, [NOTHING])
    value.locator("input").fill("")
    value.locator("select").select_option("equal")
    expect(info).to_contain_text(f"of {NUM_TRIALS} trials")


def test_what_is_seen_is_found(browser, tmp_path):
    """By the filter of the column, and by the search box: 68.3594 % is shown as 68.36."""
    rows = [_trial(0), _trial(1) | {"value": 0.683594}, _trial(2) | {"value": 0.68125}]
    _write(tmp_path / "trials.jsonl", _lines(rows))
    watched = Watched(browser, page.write(tmp_path, SPACE).with_name(webpage.NAME))
    assert _column(watched, 3) == ["90.00", "68.36", "68.12"]
    filters = watched.page.locator(f"{TRIALS} thead tr").nth(1).locator("td, th")
    filters.nth(2).locator("input").fill("68.36")
    _wait_for(watched, 3, ["68.36"])
    filters.nth(2).locator("input").fill("")
    filters.nth(3).locator("input").fill("1.01")  # of 1,007,000 parameters
    _wait_for(watched, 3, ["68.36", "68.12"])
    filters.nth(3).locator("input").fill("")
    watched.page.get_by_label("Search all columns").fill("90.00")
    _wait_for(watched, 3, ["90.00"])
    watched.context.close()
