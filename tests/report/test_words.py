"""What a report says in words, and of files of earlier versions."""

import json
import shutil

import pytest

from nas_jax.report import figures, page
from nas_jax.spaces import arch_id
from tests.report.test_page import (
    ARCHS,
    NUM_TRIALS,
    SPACE,
    _lines,
    _trial,
    _write,
    make_run,
)

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.mark.parametrize("trained", [0, 1])
def test_the_headline_says_how_many_share_the_best_score(tmp_path, trained):
    """Three of 39 have 90 %; of these the one that was trained alone is named."""
    directory = make_run(tmp_path)
    rows = [_trial(i) | {"value": 0.9} if i < 3 else _trial(i) for i in range(NUM_TRIALS)]
    _write(directory / "trials.jsonl", _lines(rows))
    for i in {0, 1, 2} - {trained}:
        for path in directory.glob(f"retrain/*/F*/{arch_id(ARCHS[i])}"):
            shutil.rmtree(path)
    headline = page.write(directory, SPACE).read_text().split("\n## ")[0]
    assert f"The best of 39 architectures is **`{ARCHS[trained]}`**" in headline
    assert "one-shot accuracy 90.00 %, as have 2 others: it was drawn by lot" in headline
    assert "do not tell these candidates apart" not in headline
    assert "Trained alone it reaches 9" in headline


@pytest.mark.parametrize(("equal", "warned"), [(19, False), (20, True), (39, True)])
def test_the_headline_warns_where_half_of_the_values_are_the_best(tmp_path, equal, warned):
    directory = make_run(tmp_path)
    rows = [_trial(i) | {"value": 0.9 if i < equal else 0.1} for i in range(NUM_TRIALS)]
    _write(directory / "trials.jsonl", _lines(rows))
    headline = page.write(directory, SPACE).read_text().split("\n## ")[0]
    assert ("**The values do not tell these candidates apart**" in headline) == warned


@pytest.mark.parametrize(("epochs", "warned"), [(9, True), (10, False)])
def test_the_headline_warns_of_networks_that_learned_for_too_few_steps(tmp_path, epochs, warned):
    """320 images of the training split in batches of 32 are ten steps an epoch."""
    directory = make_run(tmp_path)
    train = {"num_steps": 0, "num_epochs": epochs, "batch_size": 32}
    config = {"space": {"name": "cell"}, "retrain": {"short": {"train": train}}}
    _write(directory / "config.json", json.dumps(config))
    _write(directory / "data.json", json.dumps({"sizes": {"train": 320, "valid": 9, "test": 9}}))
    headline = page.write(directory, SPACE).read_text().split("\n## ")[0]
    words = "**Networks of the protocol short were trained for 90 steps, too few to judge them by**"
    assert (words in headline) == warned
    assert "protocol final" not in headline  # nothing says how long they were trained


def test_the_terms_are_those_that_the_report_uses(tmp_path):
    directory = make_run(tmp_path)
    terms = page.write(directory, SPACE).read_text().split("\n## Terms\n")[1].split("\n## ")[0]
    for term in ("score", "one-shot accuracy", "F", "short", "final", "top", "all-on"):
        assert f"- **{term}**: " in terms
    shutil.rmtree(directory / "retrain")
    terms = page.write(directory, SPACE).read_text().split("\n## Terms\n")[1].split("\n## ")[0]
    assert "- **score**: " in terms
    assert "short" not in terms
    assert "Kendall" not in terms


def test_networks_whose_groups_are_to_be_chosen_anew_are_there(tmp_path):
    """As after more candidates: selection.json is gone; what the best reaches is in its files."""
    directory = make_run(tmp_path)
    before = page.write(directory, SPACE).read_text()
    for path in directory.glob("retrain/*/selection.json"):
        path.unlink()
    text = page.write(directory, SPACE).read_text()
    alone = "Trained alone it reaches 95.00 % test accuracy with F = 16, 95.00 % test accuracy with"
    assert alone in before
    assert alone in text
    assert "There is no " not in text
    where = "retrain/short, retrain/final, but no selection.json that says"
    assert f"{where} their groups: `--mode=retrain` chooses these anew, as after more" in text


def test_the_headline_says_so_where_none_was_trained_alone(tmp_path):
    rows = [_trial(i) | {"value": 0.5} for i in range(30)]
    _write(tmp_path / "trials.jsonl", _lines(rows))
    headline = page.write(tmp_path, SPACE).read_text().split("\n## ")[0]
    assert "50.00 %, as have 29 others: it was drawn" in headline
    assert "It was not trained alone." in headline


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("drop_share", "drop_share"), [25, 100]),
        (("drop_rate", "drop_rate"), [25, 100]),
        (("drop_rate", "drop_share"), [25, 100]),  # resumed by this version
        (("drop_share", "other"), None),
    ],
)
def test_the_ramp_of_path_dropout_is_drawn_under_the_older_name_too(
    tmp_path, monkeypatch, names, expected
):
    drawn, draw = {}, figures.curves
    monkeypatch.setattr(figures, "curves", lambda *args: drawn.update(args[2]) or draw(*args))
    row = {"loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1}
    rows = [row | {"step": 1, names[0]: 0.25}, row | {"step": 2, names[1]: 1.0}]
    _write(tmp_path / "metrics.jsonl", _lines(rows))
    page.write(tmp_path, SPACE)
    assert drawn.get("path dropout (% of its final rate)") == expected
    assert drawn["training accuracy (%)"] == [50, 50]
