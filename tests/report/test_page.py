"""The report of a small made-up run: every number in it can be worked out from `make_run`."""

import dataclasses
import json
import operator
import re
import types
from pathlib import Path

import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.report import page
from nas_jax.report.sections import settings

pytestmark = pytest.mark.usefixtures("few_resamples")

SPACE = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1)
NUM_TRIALS = 40
SECTIONS = (
    "The space",
    "Training of the one-shot model",
    "Scores",
    "The best architectures",
    "Score against cost",
    "How well scores rank",
    "How far the score can be trusted",
    "Regret",
    "Final networks",
    "Accuracy and size",
    "Terms",
    "How it was run",
)
OPS = ("identity", "sep3x3", "sep5x5", "sep7x7", "maxpool")
ARCHS = [f"{i}>{op}|0,2>{other}" for i in (0, 1) for op in OPS for other in OPS[:4]]
assert len(ARCHS) == NUM_TRIALS
ALL_ON = SPACE.to_str(SPACE.all_on())
SELECTION = {
    "short": {"random": ARCHS[:12], "stratified": ARCHS[::3], "top": [], "small": [], "all_on": []},
    "final": {
        "random": ARCHS[20:23],
        "stratified": [],
        "top": ARCHS[:2],
        "small": ARCHS[5:6],
        "all_on": [ALL_ON],
    },
}


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _trial(i):
    """Architecture i scores 90 % - i; the last one failed."""
    failed = i == NUM_TRIALS - 1
    return {
        "arch": ARCHS[i],
        "value": None if failed else 0.9 - 0.01 * i,
        "num_images": 100,
        "params": 1_000_000 + 1000 * (i * 7 % NUM_TRIALS),
        "flops": 20_000_000 + 1000 * (i * 11 % NUM_TRIALS),
        "status": "failed" if failed else "ok",
    }


def _result(arch, protocol, filters, seed):
    """Stand-alone accuracy falls with the rank: 95 % - rank / 10, seeds 0.1 % above and below."""
    i = ARCHS.index(arch) if arch in ARCHS else 0
    trial = _trial(i)
    accuracy = 0.95 - 0.001 * i + 0.001 * (1 - 2 * seed)
    return {
        "arch": arch,
        "filters": filters,
        "seed": seed,
        "params": trial["params"],
        "flops": trial["flops"],
        "valid_accuracy": accuracy if protocol == "short" else None,
        "test_accuracy": None if protocol == "short" else accuracy,
    }


def _retrain(directory, protocol, filters):
    root = directory / "retrain" / protocol
    _write(root / "selection.json", json.dumps(SELECTION[protocol]))
    for arch in {arch for group in SELECTION[protocol].values() for arch in group}:
        for seed in range(2):
            path = root / f"F{filters}" / spaces.arch_id(arch) / f"seed{seed}" / "result.json"
            _write(path, json.dumps(_result(arch, protocol, filters, seed)))


def make_run(directory: Path) -> Path:
    """Every file that the report reads."""
    _write(directory / "config.json", json.dumps({"seed": 7, "space": {"name": "cell"}}))
    _write(directory / "versions.json", json.dumps({"jax": "0.0.1"}))
    steps = [
        {"step": s, "loss": 1 / s, "accuracy": 0.5, "learning_rate": 0.1, "drop_share": s / 400}
        for s in range(100, 500, 100)
    ]
    _write(directory / "metrics.jsonl", _lines(steps))
    _write(directory / "trials.jsonl", _lines(map(_trial, range(NUM_TRIALS))))
    _retrain(directory, "short", 8)
    for filters in (16, 32):
        _retrain(directory, "final", filters)
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, text) of a complete report."""
    directory = make_run(tmp_path_factory.mktemp("run"))
    path = page.write(directory, SPACE)
    assert path == directory / "report" / "report.md"
    return path.parent, path.read_text()


def _section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _rows(text, title):
    """Cells of the tables of a section."""
    lines = [line for line in _section(text, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_sections_come_in_order(made):
    titles = [line[3:] for line in made[1].splitlines() if line.startswith("## ")]
    assert tuple(titles) == SECTIONS


def test_every_figure_is_there_and_is_shown(made):
    folder, text = made
    shown = set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", text))
    assert shown == {path.name for path in folder.glob("*.png")}
    biases = {"bias_F8_random.png", "bias_F8_stratified.png"}
    assert shown == biases | {
        *("training.png", "scores.png", "best.png", "pareto.png", "ranking_F8.png", "cost.png")
    }
    for name in shown:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_headline_comes_first(made):
    headline = made[1].split("\n## ")[0]
    assert f"`{ARCHS[0]}`" in headline
    assert "90.00 %. Trained alone" in headline  # no other has as much
    assert "95.00 % validation accuracy with F = 8" in headline
    assert "95.00 % test accuracy with F = 32" in headline
    assert "On the random sample (F = 8, n = 12) the score ranks" in headline
    # parameters 7 i mod 40 rank these 12 with tau -0.15, multiply-adds 11 i mod 40 with 0.09
    assert "Kendall's tau = 1.00 [1.00, 1.00], which beats counting multiply-adds" in headline
    assert "F = 16: the top reach 94.95 ± 0.07 %, the random 92.90 ± 0.10 % of test" in headline
    assert "All paths together, no architecture of the space, reach 95.00 % (F = 16)." in headline


def test_size_of_the_space(made):
    assert f"{SPACE.count():,} architectures, of which 39" in _section(made[1], "The space")


def test_scores(made):
    rows = _rows(made[1], "Scores")
    # 39 scores 90, 89, ... 52
    assert ["mean ± sd", "71.00 ± 11.40", "39"] in rows
    assert ["50% quantile", "71.00", "39"] in rows
    assert ["candidates at 80 % or more", f"{1100 / 39:.2f}", "39"] in rows
    assert "1 of 40 candidates failed" in made[1]


def test_scores_of_single_precision_reach_their_bars(tmp_path):
    """0.7 of float32 is less than 0.7: four of five candidates are at 70 % or more."""
    values = [float(np.float32(value)) for value in (0.9, 0.8, 0.7, 0.7, 0.5)]
    rows = [_trial(i) | {"value": value} for i, value in enumerate(values)]
    _write(tmp_path / "trials.jsonl", _lines(rows))
    rows = _rows(page.write(tmp_path, SPACE).read_text(), "Scores")
    assert ["candidates at 70 % or more", "80.00", "5"] in rows
    assert ["candidates at 90 % or more", "20.00", "5"] in rows


def test_best_ten(made):
    rows = _rows(made[1], "The best architectures")[2:]
    assert [row[0] for row in rows] == [str(i) for i in range(1, 11)]
    assert rows[1][1].replace("\\|", "|") == f"`{ARCHS[1]}`"
    assert rows[1][2:] == ["89.00", "1.01", "20.0"]


def test_coefficients(made):
    rows = _rows(made[1], "How well scores rank")
    perfect = ["1.00 [1.00, 1.00]"] * 3
    assert ["F = 8", "random", "all", "one-shot accuracy", "12", *perfect] in rows
    rankers = [(row[1], row[3]) for row in rows[2:10]]
    assert rankers == [
        (sample, ranker)
        for sample in ("random", "stratified")
        for ranker in (
            *("one-shot accuracy", "parameters", "multiply-adds", "one seed, ranking another"),
        )
    ]
    # accuracies 0.1 % apart: sd sqrt(12 * 13 / 12) / 10; seeds 0.1 % from their mean: sqrt(2) / 10
    assert ["F = 8", "random", "12", "0.36", "0.14", "2.55"] in rows


SHARED = "Score and judge share images: the scores are of 100 of the validation images"


def test_a_report_says_that_score_and_judge_share_images(made):
    """Stand-alone networks of the short protocol are judged on all validation images."""
    assert SHARED in " ".join(_section(made[1], "How well scores rank").split())


@pytest.mark.parametrize("score", ["accuracy", "trained", "kl"])
def test_it_says_so_only_where_they_do(tmp_path, score):
    """The divergence is taken on training images."""
    directory = make_run(tmp_path)
    _write(directory / "config.json", json.dumps({"sweep": {"score": score}}))
    text = page.write(directory, SPACE).read_text()
    assert (SHARED in " ".join(text.split())) == (score != "kl")


def test_regret(made):
    # the score is right; one of 12 at random is 0.55 points below the best
    assert ["F = 8", "random", "12", "1", "0.00", "0.55"] in _rows(made[1], "Regret")


def test_trust(made):
    text = _section(made[1], "How far the score can be trusted").split("### ")[1]
    assert text.startswith("F = 8, random")
    assert "0 of n = 12 architectures share their score" in text
    assert "**Warning**: n = 12 is less than 30" in text
    assert "counting multiply-adds" not in text  # the score is perfect
    rows = _rows(made[1], "How far the score can be trusted")
    assert ["input 0", "0.00 [0.00, 0.00]"] in [row[:2] for row in rows]


def test_published_accuracies_judge_the_scores(tmp_path):
    """The score ranks backwards what the table says, of the 30 architectures that both have."""
    directory = make_run(tmp_path)
    lines = [f'"{ARCHS[i]}",{50 + i},{40 + i}' for i in range(30)]
    table = tmp_path / "x.csv"
    _write(table, "\n".join(["arch,digits_valid_accuracy,digits_test_accuracy", *lines]) + "\n")
    _write(directory / "config.json", json.dumps({"table": str(table)}))
    text = page.write(directory, SPACE).read_text()
    assert "On the table sample (published, n = 30) the score ranks" in text.split("\n## ")[0]
    assert SHARED in " ".join(text.split())  # of the random sample, which is there as well
    rows = _rows(text, "How well scores rank")
    backwards = ["-1.00 [-1.00, -1.00]"] * 3
    assert ["published", "table", "all", "one-shot accuracy", "30", *backwards] in rows
    assert ["published", "table", "top half", "one-shot accuracy", "15", *backwards] in rows
    perfect = ["1.00 [1.00, 1.00]"] * 3
    assert ["published", "table", "all", "validation accuracy", "30", *perfect] in rows
    # the best by score is the worst: 29 points below the best; at random (0 + .. + 29) / 30
    assert ["published", "table", "30", "1", "29.00", "14.50"] in _rows(text, "Regret")
    table.rename(tmp_path / "moved.csv")
    assert page.write(directory, SPACE, str(tmp_path / "moved.csv")).read_text() == text
    trust = _section(text, "How far the score can be trusted").split("### published, table")[1]
    assert "**Warning**: the score ranks worse than counting multiply-adds" in trust
    assert "**Warning**: within the top half by accuracy the score ranks worse than" in trust
    assert (directory / "report" / "ranking_published.png").exists()


def test_final_table(made):
    rows = _rows(made[1], "Final networks")[2:]
    assert [row[:4] for row in rows] == [
        [filters, *row]
        for filters in ("16", "32")
        for row in (
            ["top", "2", "94.95 ± 0.07"],
            ["small", "1", "94.50"],
            ["random", "3", "92.90 ± 0.10"],
            ["all-on", "1", "95.00"],
        )
    ]
    assert {row[4] for row in rows} == {"0.14"}


def test_how_it_was_run(made):
    section = _section(made[1], "How it was run")
    assert "jax 0.0.1" in section
    assert "| seed | 7 |" in section


def test_how_it_was_run_names_the_optimiser():
    train = {"optimizer": "adam", "optimizer_options": [["b1", 0.5]], "l2": 0.00003}
    train |= {"momentum": 0.9, "restarts": 0}  # the defaults
    config = {"supernet": {"train": train}}
    results = types.SimpleNamespace(config=config, versions={}, selected=None)
    text = settings.write(results)
    assert "| supernet.train.optimizer | adam |" in text
    assert "| supernet.train.optimizer_options | [['b1', 0.5]] |" in text
    assert "| supernet.train.l2 | 3e-05 |" in text
    assert "momentum" not in text
    assert "restarts" not in text


def test_an_empty_folder_says_what_is_missing(tmp_path):
    text = page.write(tmp_path, SPACE).read_text()
    assert "No architecture has a score yet." in text
    for title, mode in zip(SECTIONS[1:], ["supernet", *["sweep"] * 3, *["retrain"] * 5]):
        assert f"`--mode={mode}` makes it" in _section(text, title)
    assert not list((tmp_path / "report").glob("*.png"))


def test_parts_without_files_leave_the_rest(tmp_path):
    directory = make_run(tmp_path)
    for name in ("metrics.jsonl", "versions.json", "retrain/final/selection.json"):
        (directory / name).unlink()
    (directory / "trials.jsonl").write_text(_lines([_trial(0)]))
    text = page.write(directory, SPACE).read_text()
    assert "There is no metrics.jsonl: `--mode=supernet` makes it." in text
    assert "retrain/final, but no selection.json that says their groups" in text
    assert "n = 1 is less than 10" in text  # only one network has a one-shot accuracy left
    assert ["mean ± sd", "90.00", "1"] in _rows(text, "Scores")
    # all rankers are compared on the same networks
    assert ["F = 8", "random", "all", "parameters", "1"] in [
        row[:5] for row in _rows(text, "How well scores rank")
    ]


def test_space_without_a_drawing(tmp_path):
    without = property(operator.attrgetter("nothing"))  # raises AttributeError
    plain = type("Plain", (type(SPACE),), {"graph": without})(**dataclasses.asdict(SPACE))
    _write(tmp_path / "trials.jsonl", _lines([_trial(0)]))
    text = page.write(tmp_path, plain).read_text()
    assert "how to draw an architecture" in text
    assert "best.png" not in text


def test_growth_is_drawn(tmp_path):
    paths = page.growth(tmp_path, most=2)
    assert [path.name for path in paths] == ["growth_ops.png", "growth_blocks.png"]
    assert all(path.stat().st_size > 5000 for path in paths)
