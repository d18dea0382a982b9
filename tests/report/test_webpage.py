"""The page of a run as a file: what is in it, and what it does without its libraries."""

import html as html_lib
import json
import logging
import re
import subprocess
import sys
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import params_flops
from nas_jax.report import document, markdown, page, page_data, webpage
from nas_jax.report.document import Document
from nas_jax.report.results import RunResults
from nas_jax.storage import csv_columns, history, workdir
from tests.browsing import packed
from tests.report import test_page
from tests.report.test_page import ARCHS, SECTIONS, SPACE, _lines, _write, make_run

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("few_resamples")]
for module in webpage.NEEDED:
    pytest.importorskip(module)


class Outline(HTMLParser):
    """What a test looks for in a page: tags with their attributes, and the text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.words.append(data)

    def all(self, tag, attribute):
        return [found[attribute] for name, found in self.tags if name == tag and attribute in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of the report, text of the page) of a made-up run."""
    directory = make_run(tmp_path_factory.mktemp("run"))
    workdir.set_status(directory, "running", stage="supernet")
    workdir.set_status(directory, "running", stage="sweep")
    workdir.set_status(directory, "done", stage="sweep")
    path = page.write(directory, SPACE)
    return path.parent, path.with_name("index.html").read_text()


def test_the_page_has_the_sections_and_the_words_of_the_markdown(made):
    folder, html = made
    words = " ".join(" ".join(Outline(html).words).split())
    for title in SECTIONS:
        assert f'<section id="{document.anchor(title)}">' in html
    for sentence in (
        "Trained alone it reaches 95.00 % test accuracy with F = 16",
        "1 of 40 candidates failed.",
        "judge by the intervals",
        "All-on is no architecture of the space.",
    ):
        assert sentence in " ".join((folder / "report.md").read_text().split())
        assert sentence in words


def test_everything_is_in_the_file(made):
    """No address but the folder's files, and all figures with a text in their place."""
    folder, html = made
    outline = Outline(html)
    for name in (*outline.all("img", "src"), *outline.all("script", "src")):
        assert name.startswith("data:")
    assert not re.search(r"@import|url\((?!data:)", html.partition("packed-")[0])
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == len(list(folder.glob("*.png")))
    assert all(image["alt"] for image in images)
    for target in outline.all("a", "href"):
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in html
        else:
            assert (folder / target).exists(), target


def test_the_data_are_those_of_the_run(made):
    data = json.loads(packed(made[1], "data"))
    columns = data["trials"]["columns"]
    assert [data["archs"][i] for i in columns["arch"]["values"]] == ARCHS
    assert columns["value"]["values"][:2] == [90, 89]
    assert columns["value"]["values"][-1] is None
    assert columns["status"]["values"][-1] == "failed"
    assert columns["params"]["values"][1] == 1_007_000
    assert "latency_ms" not in columns  # no trial has one
    assert data["archs"][data["best"]] == ARCHS[0]
    # "1>sep5x5|0,2>identity": block 0 takes input 1, block 1 takes input 0 and block 0
    arch = next(a for a in ARCHS if a == "1>sep5x5|0,2>identity")
    (one, ops), (other, others) = data["drawings"]["parts"][data["archs"].index(arch)]
    assert (one, other) == ([1], [0, 2])
    assert [data["drawings"]["names"][i] for i in (*ops, *others)] == ["sep5x5", "identity"]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("number", 68.3594, "68.36"),
        ("number", 68.125, "68.12"),  # a half, to the even digit as in report.md
        ("number", 1234.5, "1,234.50"),
        ("number", -0.001234, "-0.00123"),
        ("number", 0.0, "0.00"),
        ("number", None, ""),
        ("number", float("nan"), ""),
        ("millions", 1_125_000, "1.12"),
        ("millions", 1_234_567_890, "1,235"),
    ],
)
def test_the_page_writes_numbers_as_the_report_does(kind, value, text):
    known = ("known", kind, [value, 1])
    assert page_data._table("", known=known)["columns"]["known"]["texts"][0] == text


def test_networks_come_by_protocol_and_each_with_the_best_first(made):
    """Test accuracies of 16 and 32 filters, then those of short trainings, of validation images."""
    table = json.loads(packed(made[1], "data"))["networks"]
    assert list(table["columns"])[:3] == ["arch", "accuracy", "sd"]
    protocols, accuracies = (table["columns"][name]["values"] for name in ("protocol", "accuracy"))
    final, short = "final (test)", "short (validation)"
    assert list(dict.fromkeys(protocols)) == [final, short]
    count = protocols.count(final)
    for part in (accuracies[:count], accuracies[count:]):
        assert part == sorted(part, reverse=True)
    assert table["order"] == ""


def test_plots_point_at_rows(made):
    data = json.loads(packed(made[1], "data"))
    plots = {plot["figure"]: plot for plot in data["plots"]}
    assert set(plots) == {"pareto.png", "ranking_F8.png", "cost.png"}
    # the best has the fewest parameters, so that it is the whole front
    assert plots["pareto.png"]["fronts"]["params"] == [0]
    table = data["networks"]["columns"]
    series = plots["ranking_F8.png"]["series"]
    assert {name: len(rows) for name, rows in series.items()} == {
        "random sample": 12,
        "stratified sample": 14,
    }
    for row in series["random sample"]:
        assert "random" in table["groups"]["values"][row]
        assert data["archs"][table["arch"]["values"][row]] in ARCHS[:12]
    assert plots["cost.png"]["label"] == "stand-alone test accuracy (%)"


def test_time_devices_and_command_are_those_of_the_history(made):
    words = " ".join(" ".join(Outline(made[1]).words).split())
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert f"supernet 0 s 1 {devices} done" in words
    assert f"sweep 0 s 1 {devices} done" in words
    assert history.command() in words.partition("Command")[2]


def test_a_run_of_an_earlier_version_has_a_page(tmp_path):
    """The command that writes its report is not the one that made it."""
    directory = make_run(tmp_path)
    workdir.set_status(directory, "running", stage="report")
    page.write(directory, SPACE)
    html = (tmp_path / "report" / "index.html").read_text()
    assert "kept no time of its stages" in html
    assert "The command is not known" in html
    assert html_lib.escape(history.command()) not in html


def test_what_a_run_says_is_text(tmp_path):
    """Names of ops, classes and files, and values of the config, are no HTML and no addresses."""
    directory = make_run(tmp_path / "<b>run")
    evil = '<script>alert(1)</script> <img src=x onerror=y> ![z](https://example.org/z.png) "q"'
    config = {"seed": evil, "data": {"name": evil}, "metric": "accuracy"}
    _write(directory / "config.json", json.dumps(config))
    _write(directory / "<i>.txt", "")
    html = page.write(directory, SPACE).with_name("index.html").read_text()
    outline = Outline(html)
    assert "onerror" not in {name for _, attributes in outline.tags for name in attributes}
    assert "x" not in outline.all("img", "src")
    assert all(source.startswith("data:") for source in outline.all("img", "src"))
    assert not {"b", "i"} & {tag for tag, _ in outline.tags}
    assert "<script>alert(1)</script>" in " ".join(outline.words)
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_tables_are_csv_files_too(made):
    folder, html = made
    (best,) = folder.glob("tables/the_best_architectures_*.csv")
    cells = csv_columns.parse(best.read_bytes(), best.name)
    assert list(cells.texts("architecture").values()) == ARCHS[:10]
    assert cells.rows[3] == ["2", ARCHS[1], "89.00", "1.01", "20.0"]
    names = {path.relative_to(folder).as_posix() for path in folder.glob("tables/*")}
    assert names == set(re.findall(r'href="(tables/[^"]+)"', html))


def test_tables_are_read_as_they_were_written():
    rows = [["a|b", "", "`0>x|1>y`"], ["1", "x y", "-0.5"]]
    both = markdown.table(["p", "q", "r"], rows), markdown.table(["s"], [])
    text = "\n\n".join(["Words.", *both, "End."])
    expected = [["p", "q", "r"], ["a|b", "", "0>x|1>y"], ["1", "x y", "-0.5"]]
    assert markdown.tables(text) == [expected, [["s"]]]


def test_columns_of_numbers_are_aligned(tmp_path):
    text = markdown.table(["name", "value"], [["a", 0.5], ["2", "1.00 [0.1, 2]"]])
    made = Document("T", "", [("S", f"{text}\n")])
    html = webpage.write(RunResults(tmp_path, SPACE), made, {}).read_text()
    assert '<th class="number">value</th>' in html
    assert "<td>2</td>\n" in html


def test_without_the_libraries_there_is_the_markdown_and_one_line_of_advice(
    tmp_path, monkeypatch, caplog
):
    real = webpage.importlib.util.find_spec
    missing = ("plotly", "itables")
    monkeypatch.setattr(
        webpage.importlib.util, "find_spec", lambda n: None if n in missing else real(n)
    )
    with caplog.at_level(logging.INFO, "nas_jax"):
        path = page.write(make_run(tmp_path), SPACE)
    assert path.exists()
    assert not path.with_name("index.html").exists()
    assert [r.getMessage() for r in caplog.records] == [
        "report  no index.html without plotly, itables: pip install 'nas_jax[report]'"
    ]


def test_nothing_of_them_is_imported_before_a_page_is_made():
    names = [*webpage.NEEDED]
    code = f"import sys, nas_jax.report.page; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_is_the_same_each_time(made):
    folder, html = made
    page.write(folder.parent, SPACE)
    assert (folder / "index.html").read_text() == html


def big_run(directory, count=20_000):
    """A run with a trial for each of so many drawn architectures of the paper's space."""
    space = spaces.make("cell")
    archs = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), count))
    costs = params_flops.of(space, archs, filters=16)
    values = np.random.default_rng(0).uniform(0.1, 0.9, count).round(3)
    columns = {
        "arch": space.to_strs(archs),
        "value": values.tolist(),
        "params": costs.params.tolist(),
        "flops": costs.flops.tolist(),
        "latency_ms": (costs.flops / 1e7).tolist(),
    }
    rows = [test_page._trial(0) | dict(zip(columns, row)) for row in zip(*columns.values())]
    _write(directory / "trials.jsonl", _lines(rows))
    page.write(directory, space)
    return directory / "report" / "index.html"


def test_a_page_of_many_trials_is_small(tmp_path):
    path = big_run(tmp_path)
    assert path.stat().st_size < 15e6
    data = json.loads(packed(path.read_text(), "data"))
    assert len(data["trials"]["columns"]["value"]["values"]) == 20_000
    assert len(data["drawings"]["parts"]) == len(set(data["archs"])) == len(data["archs"])


@pytest.mark.parametrize(
    ("space", "text", "expected"),
    [
        (
            spaces.make("nasbench_macro", stages=(1, 2), head=2),
            "012",
            {"choices": ["layer0", "layer1", "layer2"]},
        ),
        (SPACE, ARCHS[0], {"inputs": ["previous cell", "cell before"]}),
    ],
)
def test_each_space_has_a_drawing(space, text, expected):
    found = page_data.drawings(space, [text])
    assert expected.items() <= found.items()
    assert len(found["parts"]) == 1
