"""The page of a run in a real browser: tables, plots, drawings, colours, widths of screens."""

import itertools
import os
import re
from unittest import mock

import pytest

from nas_jax import pipeline, spaces
from nas_jax.report import markdown, page, webpage
from nas_jax.report.document import Document
from nas_jax.report.results import RunResults
from nas_jax.storage import json_files
from tests.browsing import Watched
from tests.configs import tiny
from tests.report.test_page import ARCHS, NUM_TRIALS, SPACE, _lines, _trial, _write
from tests.report.test_webpage import big_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

pytestmark = pytest.mark.usefixtures("few_resamples")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
NOTHING = "\N{EN DASH}"  # of a trial without a value
TRIALS = "#trials .records"


def _column(watched, number):
    return watched.texts(f"{TRIALS} tbody td:nth-child({number})")


def test_it_opens_without_errors_or_requests(opened):
    assert opened.errors == []
    assert opened.elsewhere == []
    assert opened.page.title().startswith("Architecture search")


def _hover(watched, figure, number):
    """Put the mouse on a point; return the text of the card and of what is drawn on it."""
    plot = watched.page.locator(f'figure[data-name="{figure}"] .plot')
    plot.scroll_into_view_if_needed()
    box = plot.locator(".points path").nth(number).bounding_box()
    watched.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    card = watched.page.locator("#peek")
    card.wait_for(state="visible")
    return card.inner_text(), card.locator("svg").get_attribute("aria-label")


def test_hovering_a_point_draws_its_architecture(fresh):
    text, drawn = _hover(fresh, "pareto.png", 6)
    number = ARCHS.index(text.splitlines()[0])
    inputs, op = ARCHS[number].split("|")[0].split(">")
    name = ("previous cell", "cell before")[int(inputs)]
    assert drawn.startswith(f"block 0: {op} of {name}; block 1: ")
    assert f"{90 - number}.00" in text
    assert re.search(r"parameters \(M\)\s+1\.0", text)
    fresh.page.mouse.move(2, 2)
    fresh.page.locator("#peek").wait_for(state="hidden")


def test_networks_are_drawn_too(fresh):
    text, drawn = _hover(fresh, "ranking_F8.png", 0)
    assert text.splitlines()[0] in ARCHS
    assert drawn.startswith("block 0: ")
    assert "short (validation)" in text


def test_arrow_keys_go_from_point_to_point_of_a_plot(fresh):
    """Trial i has 1,000,000 + 1000 (7 i mod 40) parameters and scores 90 - i; the last has none."""
    plot = fresh.page.locator('figure[data-name="pareto.png"] .plot')
    by_params = sorted(range(NUM_TRIALS - 1), key=lambda i: i * 7 % NUM_TRIALS)
    card, ring = fresh.page.locator("#peek"), plot.locator(".ring")
    assert not ring.is_visible()
    plot.focus()
    for number in by_params[:3]:
        fresh.page.keyboard.press("ArrowRight")
        assert card.locator("code").inner_text() == ARCHS[number]
    marked = ring.bounding_box()
    middle = marked["x"] + marked["width"] / 2, marked["y"] + marked["height"] / 2
    dots = plot.locator(".points path").evaluate_all(
        "dots => dots.map((dot) => dot.getBoundingClientRect()).map((r) => [r.x, r.y, r.width])"
    )
    assert any(max(abs(x + w / 2 - middle[0]), abs(y + w / 2 - middle[1])) < 1 for x, y, w in dots)
    fresh.page.keyboard.press("ArrowUp")  # the next score
    assert card.locator("code").inner_text() == ARCHS[by_params[2] - 1]
    assert card.locator("svg").get_attribute("aria-label").startswith("block 0: ")
    fresh.page.keyboard.press("Enter")
    fresh.page.locator("#peek.pinned").wait_for(state="visible")
    fresh.page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    assert plot.evaluate("element => element === document.activeElement")
    fresh.page.keyboard.press("ArrowDown")
    assert card.locator("code").inner_text() == ARCHS[by_params[2]]
    plot.evaluate("element => element.blur()")
    assert not card.is_visible()
    assert not ring.is_visible()


def test_keys_keep_to_the_points_in_sight(fresh):
    plot = fresh.page.locator('figure[data-name="pareto.png"] .plot')
    plot.evaluate("element => Plotly.relayout(element, {'yaxis.range': [79.5, 95]})")
    plot.focus()
    fresh.page.keyboard.press("ArrowDown")  # the highest, at the end of a walk down
    found = [fresh.page.locator("#peek code").inner_text()]
    for _ in range(20):
        fresh.page.keyboard.press("ArrowDown")
        found.append(fresh.page.locator("#peek code").inner_text())
    assert list(dict.fromkeys(found)) == ARCHS[:11]  # 90 to 80


def test_a_click_on_an_architecture_pins_its_drawing_and_escape_closes_it(fresh):
    button = fresh.page.locator(f"{TRIALS} button.arch").nth(2)
    button.focus()
    fresh.page.keyboard.press("Enter")
    card = fresh.page.locator("#peek.pinned")
    card.wait_for(state="visible")
    assert card.locator("svg rect").count() == 5  # two inputs, two blocks, the concat
    fresh.page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    assert button.evaluate("element => element === document.activeElement")


def test_all_ops_of_a_block_are_inside_its_box(browser, tmp_path):
    space = spaces.make("cell")
    best = _trial(0) | {"arch": space.to_str(space.all_on())}
    _write(tmp_path / "trials.jsonl", _lines([best]))
    watched = Watched(browser, page.write(tmp_path, space).with_name(webpage.NAME))
    boxes = """groups => groups.map((group) => ["rect", "text"].map((tag) => {
        const { top, bottom, left, right } = group.querySelector(tag).getBoundingClientRect();
        return [top, -bottom, left, -right];
    }))"""
    found = watched.page.locator("#best svg g").evaluate_all(boxes)
    assert len(found) == 2 + 4 + 1  # inputs, blocks, the concat
    for outer, inner in found:
        assert all(edge < own for edge, own in zip(outer, inner))
    for (upper, _), (lower, _) in itertools.pairwise(found[:-1]):
        assert -upper[1] < lower[0]  # they do not meet
    watched.context.close()


def test_another_cost_can_be_the_axis(fresh):
    plot = fresh.page.locator('figure[data-name="pareto.png"]')
    expect(plot.locator(".xtitle")).to_have_text("parameters (M)")
    plot.locator("select").select_option("flops")
    expect(plot.locator(".xtitle")).to_have_text("multiply-adds (M)")


def _colours(watched):
    """(background, text) as the sums of red, green and blue."""
    style = "body => [getComputedStyle(body).backgroundColor, getComputedStyle(body).color]"
    found = watched.page.locator("body").evaluate(style)
    return [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in found]


def test_dark_mode_is_that_of_the_system_and_can_be_toggled(browser, path):
    watched = Watched(browser, path, color_scheme="dark")
    background, text = _colours(watched)
    assert background < 150 < 600 < text
    axis = watched.page.locator('figure[data-name="pareto.png"] .xtitle')
    pale = axis.evaluate("element => getComputedStyle(element).fill")
    watched.page.get_by_role("button", name="Use light colours").click()
    background, text = _colours(watched)
    assert text < 150 < 700 < background
    now = watched.page.get_by_role("button", name="Use dark colours")
    assert now.get_attribute("aria-pressed") is None  # the name says what it does
    watched.page.wait_for_function(
        "pale => getComputedStyle(document.querySelector('.xtitle')).fill !== pale", arg=pale
    )
    watched.page.reload()  # it stays as it was chosen
    assert _colours(watched)[0] > 700
    assert watched.errors == []
    watched.context.close()


@pytest.mark.parametrize("width", [320, 390, 768])
def test_only_tables_scroll_sideways(browser, path, width):
    watched = Watched(browser, path, **PHONE | {"viewport": {"width": width, "height": 800}})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = """() => [...document.querySelectorAll("main *")].filter((element) =>
        element.getBoundingClientRect().right > innerWidth + 1
        && !element.closest(".scroll, .dt-layout-table, .drawing, pre, .plot")
    ).map((element) => element.outerHTML.slice(0, 80))"""
    assert watched.page.evaluate(overflowing) == []
    watched.context.close()


def test_a_tap_draws_on_a_phone(browser, path):
    watched = Watched(browser, path, **PHONE)
    watched.page.locator(f"{TRIALS} button.arch").first.tap()
    card = watched.page.locator("#peek.pinned")
    card.wait_for(state="visible")
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    watched.page.get_by_role("button", name="Close").tap()
    card.wait_for(state="hidden")
    watched.context.close()


def test_on_paper_the_figures_of_the_report_are_in_place_of_the_plots(fresh):
    fresh.page.emulate_media(media="print")
    try:
        figure = fresh.page.locator('figure[data-name="pareto.png"]')
        assert figure.locator("img").is_visible()
        assert not figure.locator(".plot").is_visible()
        assert not fresh.page.locator("body > nav").is_visible()
        assert _colours(fresh)[0] == 3 * 255
    finally:
        fresh.page.emulate_media(media="screen")


def test_text_without_scripts(browser, path):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.locator('figure[data-name="pareto.png"] img').is_visible()
    assert "needs JavaScript" in opened.locator(TRIALS).inner_text()
    context.close()


CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) =>
      v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const own = getComputedStyle(element).backgroundColor;
    const none = own === "rgba(0, 0, 0, 0)" || own === "transparent";
    return none && element.parentElement ? behind(element.parentElement) : own;
  };
  const low = [];
  for (const e of document.querySelectorAll("main *, header *, nav *, #peek *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (e.closest("svg, script, .disabled, .plot, noscript") || !e.offsetParent) continue;
    const [a, b] = [getComputedStyle(e).color, behind(e)].map(light).sort().reverse();
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(1)} ${e.outerHTML.slice(0, 80)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_controls_have_names(browser, path, scheme):
    """Contrast of text as WCAG AA has it, 4.5; what can be used says what it is."""
    watched = Watched(browser, path, color_scheme=scheme)
    watched.page.locator(f"{TRIALS} button.arch").first.click()
    watched.page.get_by_role("dialog", name="Architecture").wait_for(state="visible")
    assert watched.page.evaluate(CONTRAST) == []
    nameless = """() => [...document.querySelectorAll("button, select, input, a, .plot")]
        .filter((e) => e.offsetParent && !(e.innerText?.trim() || e.ariaLabel || e.title
          || e.labels?.length || e.closest("[title]")))
        .map((e) => e.outerHTML.slice(0, 120))"""
    assert watched.page.evaluate(nameless) == []
    watched.context.close()


def test_many_points_are_drawn_by_webgl_and_a_page_of_the_table_has_ten(browser, tmp_path):
    watched = Watched(browser, big_run(tmp_path), viewport={"width": 1200, "height": 800})
    assert watched.errors == []
    assert watched.page.locator('figure[data-name="pareto.png"] .gl-container canvas').count()
    area = watched.page.locator('figure[data-name="pareto.png"] .nsewdrag').first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()  # points are everywhere in it
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    watched.page.mouse.move(*middle, steps=3)
    watched.page.locator("#peek svg").wait_for(state="visible")
    watched.page.mouse.move(2, 2)
    watched.page.locator("#peek").wait_for(state="hidden")
    watched.page.locator('figure[data-name="pareto.png"] .plot').focus()
    watched.page.keyboard.press("ArrowRight")
    watched.page.locator("#peek svg").wait_for(state="visible")
    assert watched.page.locator(f"{TRIALS} tbody tr").count() == 10
    assert "of 20,000 trials" in watched.page.locator(TRIALS).inner_text()
    value = watched.page.locator(f"{TRIALS} thead tr").nth(1).locator("td, th").nth(2)
    value.locator("input").fill("90")
    expect(watched.page.locator(f"{TRIALS} tbody td:nth-child(3)").last).to_have_text("90.00")
    assert set(_column(watched, 3)) == {"90.00"}
    watched.context.close()


@pytest.mark.system
def test_the_page_of_a_whole_search(browser, tmp_path):
    with mock.patch.dict(os.environ):
        pipeline.run(tiny.get_config(), "search", tmp_path / "run")
    watched = Watched(browser, tmp_path / "run" / "report" / webpage.NAME)
    assert watched.errors == []
    assert watched.elsewhere == []
    trials = json_files.read_trials(tmp_path / "run" / "trials.jsonl")
    best = max(row["value"] for row in trials)
    assert _column(watched, 3)[0] == f"{100 * best:.2f}"
    stages = watched.texts("#stages tbody tr td:first-child")
    assert stages == ["supernet", "sweep", "retrain", "report"]
    assert watched.page.locator("#best svg").is_visible()
    watched.context.close()


def test_a_page_without_data_of_a_run_opens_as_well(browser, tmp_path):
    """Such as a study's: text, figures and tables alone."""
    text = markdown.table(("supernet", "tau"), [("ramp", 0.5)])
    results = RunResults(tmp_path, SPACE)
    path = webpage.write(results, Document("Study", "", [("Ranking", text)]), {})
    watched = Watched(browser, path)
    assert watched.errors == watched.elsewhere == []
    assert watched.texts("#ranking td") == ["ramp", "0.50"]
    assert path.stat().st_size < 50_000
    watched.context.close()
