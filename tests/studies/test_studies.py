"""Studies: on a made-up pool, whose tables can be worked out by hand, and a real one."""

import json
import logging
import re
from typing import NamedTuple

import numpy as np
import pytest

from nas_jax import pipeline, spaces, studies
from nas_jax.config import variants
from nas_jax.storage import json_files, workdir
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.studies import compare_supernets, ranking
from nas_jax.studies.study import Study
from tests import browsing, trainings
from tests.configs import tiny_study

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("few_resamples")]

STEPS = (10, 20, 30, 40)
PAPER = "one_shot_accuracy,standalone_accuracy,symmetric_kl,other\n"


@pytest.fixture(scope="module")
def browser():
    with browsing.browser() as opened:
        yield opened


class State(NamedTuple):
    step: np.ndarray


def _removed(space):
    """All on, and all on without each op."""
    every = "identity,sep3x3,maxpool"
    ops = [every, "sep3x3,maxpool", "identity,maxpool", "identity,sep3x3"]
    return [f"0,1>{on}|0,1,2>{on}" for on in ops]


def _rows(study, config, value):
    """Rows of the candidates, value(i), and of `_removed`, 0.9 and 0.8."""
    space, others = spaces.make(**config.space.to_dict()), _removed(study.space)
    values = [*map(value, range(len(study.candidates))), 0.9, *[0.8] * (len(others) - 1)]
    return [
        {"arch": space.repeated(text), "value": value, "num_images": 100, "params": i, "flops": i}
        for i, (text, value) in enumerate(zip([*study.candidates, *others], values))
    ]


def _fill(study):
    """Candidate i scores 20 % + i by the reference, 90 % - i by the other supernet; its divergence
    is 2 - i / 100, at every step; alone it reaches 50 % + i, seeds 1 % apart."""
    reference, other = study.variants.values()
    for config, value in (
        (reference, lambda i: 0.2 + 0.01 * i),
        (other, lambda i: 0.9 - 0.01 * i),
    ):
        directory = study.store.supernet(config)
        workdir.set_status(directory, "done")
        rows = _rows(study, config, value)
        json_files.append_jsonl(study.store.evaluations_file(config), rows)
    kl = variants.changed(reference, "", [("sweep.score", "kl")])
    for step in (None, *STEPS):
        rows = _rows(study, kl, lambda i: 0.01 * i - 2)
        json_files.append_jsonl(study.store.evaluations_file(kl, step), rows)
    with Checkpoints(study.store.supernet(reference) / "checkpoints") as checkpoints:
        for step in STEPS:
            checkpoints.save(step, State(np.int32(step)))
    for protocol, split in (("short", "valid"), ("final", "test")):
        jobs = study.store.networks(
            study.config, protocol, study.selection(protocol), study.how(protocol)
        )
        for directory, (text, filters, seed) in jobs.items():
            i = study.candidates.index(text) if text in study.candidates else 45
            result = {
                "arch": text,
                "filters": filters,
                "seed": seed,
                "params": 1_000_000 + i,
                "flops": 1_000_000 + i,
                "valid_accuracy": None,
                "test_accuracy": None,
                f"{split}_accuracy": 0.5 + 0.01 * i + 0.01 * seed,
            }
            json_files.write_json(directory / "result.json", result)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(study, text of its report)."""
    directory = tmp_path_factory.mktemp("study")
    config = tiny_study.get_config()
    config.study.pool = str(directory / "pool")
    points = directory / "points.csv"  # one score ranks as the accuracy does, one against it
    points.write_text(
        PAPER + "".join(f"{i / 50},{i / 60},{2 - i / 50},{1 - i / 50}\n" for i in range(20))
    )
    config.study.paper_points = str(points)
    config.study.paper_columns = ("one_shot_accuracy", "other")
    config, space, data = trainings.build(config)
    workdir.open_workdir(directory, config.to_dict(), {"fingerprint": ""})
    run = trainings.run_of(config, space, data, directory)
    study = Study(run)
    _fill(study)
    path = studies.study(run)
    return study, path.read_text()


def _table(text, *cells):
    """The rows of the report's tables that begin with these cells."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [line for line in lines if line[: len(cells)] == list(cells)]


def test_a_study_has_a_page_with_the_same_sections(made):
    study, text = made
    html = (study.results.out / "index.html").read_text()
    titles = re.findall("^## (.*)$", text, re.M)
    assert re.findall("<h2>(.*?)</h2>", html)[: len(titles)] == titles
    assert html.count("<img ") == text.count("![")


def test_its_page_has_the_networks_that_it_trained(made):
    """Those of both protocols, with the scores by the other supernet and the divergence."""
    study, _ = made
    html = (study.results.out / "index.html").read_text()
    data = json.loads(browsing.packed(html, "data"))
    assert "trials" not in data
    columns = data["networks"]["columns"]
    archs = [data["archs"][number] for number in columns["arch"]["values"]]
    titles = {column["title"]: column for column in columns.values()}
    assert {"one-shot accuracy (%), untied", "minus the KL divergence (nats)"} <= {*titles}
    for protocol in ("short (validation)", "final (test)"):
        rows = [row for row, p in enumerate(columns["protocol"]["values"]) if p == protocol]
        chosen = study.selection(protocol.split()[0]).values()
        assert {archs[row] for row in rows} == {arch for group in chosen for arch in group}
    row = archs.index(study.samples["random"][0].arch, 4)  # of the short ones
    number = study.candidates.index(archs[row])
    assert columns["accuracy"]["values"][row] == 50 + number
    assert titles["one-shot accuracy (%), untied"]["values"][row] == 90 - number
    plots = {plot["figure"]: plot for plot in data["plots"]}
    assert set(plots) == {"ranking_F4.png", "networks"}
    assert plots["networks"]["xs"] == ["params", "flops", "one_shot", "score0", "score1"]


def test_its_page_draws_them(made, browser):
    """In place of the figure of the ranking, and above the table."""
    watched = browsing.Watched(browser, made[0].results.out / "index.html")
    for name in ("ranking_F4.png", "networks"):
        plot = watched.page.locator(f'figure[data-name="{name}"] .plot')
        plot.focus()
        watched.page.keyboard.press("ArrowRight")
        watched.page.locator("#peek svg").wait_for(state="visible")
        assert "minus the KL divergence (nats)" in watched.page.locator("#peek").inner_text()
        watched.page.keyboard.press("Escape")
    axis = watched.page.locator('figure[data-name="networks"]')
    axis.locator("select").select_option(label="one-shot accuracy (%), untied")
    watched.page.wait_for_function(
        "document.querySelector('[data-name=networks] .xtitle').textContent.includes('untied')"
    )
    assert watched.errors == []
    watched.context.close()


def test_supernets_are_compared_on_the_same_architectures(made):
    _, text = made
    for sample in ("random", "stratified"):
        [[*_, n, tau, rho, gain, _, _]] = _table(text, "ramp", sample)
        assert (n, tau, rho, gain) == ("10", "1.00 [1.00, 1.00]", "1.00 [1.00, 1.00]", "")
        [[*_, n, tau, rho, gain, _, _]] = _table(text, "untied", sample)
        assert (n, tau, gain) == ("10", "-1.00 [-1.00, -1.00]", "-2.00 [-2.00, -2.00]")
    [paper] = _table(text, "the paper: untied", "stratified")
    assert paper[2:4] == ["20", "-1.00 [-1.00, -1.00]"]


def test_the_divergence_ranks_as_the_score_does_here(made):
    _, text = made
    rows = _table(text, "random", "minus the divergence")
    assert [row[2] for row in rows] == ["one-shot accuracy", "stand-alone accuracy"]
    assert [row[4] for row in rows] == ["1.00 [1.00, 1.00]"] * 2
    assert rows[1][6] == "0.00 [0.00, 0.00]"  # the difference from the score's
    assert [row[0] for row in _table(text) if row and row[0] in ("10", "20", "30", "40")] == [
        *map(str, STEPS)
    ]


def test_final_networks_are_held_against_random_ones(made):
    study, text = made
    chosen = study.selection("final")
    means = [
        np.mean([study.candidates.index(text) for text in chosen[group]])
        for group in ("top", "random")
    ]
    [row] = _table(text, "4", "top", "2", "2")
    assert row[4].startswith(f"{means[0] - means[1]:.2f} [")
    assert _table(text, "64", "small", "96.0 ± 0.1", "5.00")  # the paper's, beside it


def test_removed_ops_cost_what_the_scores_say(made):
    study, text = made
    [row] = _table(text, "all on")
    assert row[1] == "90.00"
    for op in ("identity", "sep3x3", "maxpool"):
        [row] = _table(text, f"without {op}")
        assert row[1:3] == ["80.00", "-10.00"]
        networks = [n for sample in study.samples.values() for n in sample]
        numbers = {study.candidates.index(n.arch): op in n.arch for n in networks}
        without, used = ([i for i, uses in numbers.items() if uses == on] for on in (False, True))
        if without and used:
            assert row[3] == f"{np.mean(without) - np.mean(used):.2f}" == row[4]


def test_every_figure_of_the_report_is_there(made):
    study, text = made
    names = re.findall(r"!\[[^]]*\]\((\S+)\)", text)
    assert len(names) >= 6
    for name in names:
        assert (study.results.out / name).stat().st_size > 5000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"study.parts": ()}, "study.parts is empty: .* wants a config of configs/studies"),
        ({"study.parts": ("rankings",)}, "study.parts='rankings' is none of .*nearest: 'ranking'"),
        (
            {"study.variants": (("a",), ("b", ("supernet.filter", 8)))},
            "study.variants, 'b': config.supernet.filter is no field",
        ),
        (
            {"study.variants": (("a", ("data.image_size", 8)),)},
            "'a' sets config.data.image_size: supernets may differ in seed, space",
        ),
        (
            {"study.variants": (("a", ("supernet.train.ghost_batch_size", 5)),)},
            "variants, 'a': config.*batch_size=32 is not a multiple of ghost_batch_size=5",
        ),
        ({"study.variants": ()}, "study.variants is empty"),
        ({"study.variants": (("a",), ())}, r"study.variants: \(\) is no \(name, \(field, value"),
        ({"study.variants": (("a",), 5)}, r"study.variants: 5 is no \(name, \(field, value"),
        ({"study.variants": (("a",), ("a", ("seed", 1)))}, "has 'a' twice"),
        ({"study.variants": (("a", "seed", 1),)}, "'a': 'seed' is no .field, value."),
        ({"study.variants": (("a", ("supernet.sampler", 3)),)}, "supernet.sampler cannot be 3"),
        (
            {"study.variants": (("a", ("space.num_blocks", 3)),)},
            "variants, 'a': architecture .* has 2 blocks, the space has 3",
        ),
        ({"sweep.score": "kl"}, "sweep.score='kl', but this study ranks by 'accuracy'"),
        ({"space.tied": False}, "space.tied=False is for a variant"),
        ({"study.paper_points": "/nowhere.csv"}, "paper_points='/nowhere.csv': .*No such file"),
        ({"study.pool": "gs://bucket"}, "config.study.pool='gs://bucket' is an address"),
    ],
)
def test_a_bad_study_is_refused_in_one_line(fields, message, tmp_path):
    config = tiny_study.get_config()
    config.study.pool = str(tmp_path / "pool")
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        studies.study(trainings.run_of(*trainings.build(config), tmp_path))
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has the columns none, but needs 'one_shot_accuracy'"),
        (PAPER.replace("symmetric_kl", "kl"), "kl, other, but needs 'symmetric_kl', and that once"),
        (PAPER.replace("other", "symmetric_kl"), "but needs 'symmetric_kl', and that once"),
        (PAPER, "has no points"),
        (PAPER + "0.9,0.9,1,n/a\n", "line 2: other is 'n/a', not a number from 0 to 1"),
        (PAPER + "0.9,0.9,1,0.9\n0.9,,1,0.9\n", "line 3: standalone_accuracy is '', not a number"),
        (PAPER + "0.9,nan,1,0.9\n", "line 2: standalone_accuracy is nan, not a number"),
        (PAPER + "0.9,0.9,inf,0.9\n", "line 2: symmetric_kl is inf, not a number of at least 0"),
        (PAPER + "0.9,0.9,-1,0.9\n", "line 2: symmetric_kl is -1.0, not a number of at least 0"),
        (PAPER + "0.9,94.3,1,0.9\n", r"is 94.3, not a number .* \(divide per cent by 100\)"),
        (PAPER + "0.9,0.9,1\n", "line 2 has 3 cells, not 4"),
    ],
)
def test_bad_points_of_the_paper_are_refused_before_anything_runs(content, message, tmp_path):
    config = tiny_study.get_config()
    path = tmp_path / "points.csv"
    path.write_text(content)
    config.study.paper_points, config.study.paper_columns = str(path), ("other",)
    with pytest.raises(ValueError, match=message) as error:
        trainings.build(config)
    assert str(error.value).startswith(f"config.study.paper_points='{path}'")
    assert "\n" not in str(error.value)


def test_the_papers_points_are_read_as_they_stand(tmp_path):
    """One point, after a byte order mark, beside a column that nobody asks for."""
    path = tmp_path / "points.csv"
    path.write_text("\ufeff" + PAPER + "0.5,0.25,1.5,n/a\n", encoding="utf-8")
    config = tiny_study.get_config()
    config.study.paper_points = str(path)
    points = {"one_shot_accuracy": [0.5], "standalone_accuracy": [0.25], "symmetric_kl": [1.5]}
    assert studies.paper_points(config.study) == points


def test_one_point_of_the_paper_has_no_coefficients(made, tmp_path):
    config = made[0].config.copy_and_resolve_references()
    path = tmp_path / "points.csv"
    path.write_text(PAPER + "0.5,0.25,1.5,0.75\n")
    config.study.paper_points = str(path)
    given = config, made[0].space, made[0].store.data, made[0].results.directory
    study = Study(trainings.run_of(*given))
    [text] = ranking._paper(study)
    assert "The paper's own 1 points, stratified by score: no coefficients (n = 1 is" in text
    assert [row[2:4] for row in compare_supernets._paper_rows(study)] == [
        (1, "n = 1 is less than 10")
    ] * 2


def test_a_second_study_finds_what_the_first_trained(tmp_path, caplog):
    """A config with parts is a study without --mode."""
    caplog.set_level(logging.INFO, "nas_jax")
    config = tiny_study.get_config()
    fields = {
        "space.num_cells": 1,
        "space.num_blocks": 1,
        "space.ops": ("identity", "sep3x3"),
        "study.pool": str(tmp_path / "pool"),
        "study.parts": ("ranking", "divergence"),
        "study.variants": (("ramp",),),
        "retrain.short.groups.random": 1,
        "retrain.short.groups.stratified": 1,
    }
    config.update_from_flattened_dict(fields)
    pipeline.run(config, None, tmp_path / "first")
    for words in ("supernet  ramp", "retrain short  accuracy", "scores of "):
        assert words in caplog.text
    caplog.clear()
    pipeline.run(config, None, tmp_path / "second")
    assert "report.md" in caplog.text
    assert not re.search("supernet  ramp|retrain short|scores of", caplog.text)
    first, second = (tmp_path / name / "report/report.md" for name in ("first", "second"))
    assert first.read_text() == second.read_text()
