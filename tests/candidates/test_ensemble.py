"""Ensembles of evaluators: ranks by hand, a sweep with its members' values, what is refused."""

import json
import math

import numpy as np
import pytest

from nas_jax import pipeline
from nas_jax.candidates import ensemble, evaluators
from nas_jax.report import markdown
from nas_jax.report.results import Network, RunResults
from nas_jax.report.sections import members as members_section
from nas_jax.training import supernet
from tests import trainings
from tests.configs import tiny_macro

SCORED = {
    "sweep.score": "ensemble",
    "sweep.ensemble.num_references": 16,
    "sweep.proxy.num_images": 4,
    "sweep.num_candidates": 16,
}


def test_ranks_are_shares_of_the_references():
    """Of 1, 2, 2, 5 the shares are 1/8, 1/2, 7/8; 1.5 lies between in log-odds."""
    ranks = ensemble.Ranks(np.asarray([2.0, 5, 1, 2, np.nan]))
    np.testing.assert_allclose(ranks(np.asarray([1.0, 2, 5])), [1 / 8, 1 / 2, 7 / 8])
    between = 1 / (1 + math.exp(math.log(7) / 2))
    assert ranks(np.asarray([1.5]))[0] == pytest.approx(between)
    beyond = ranks(np.asarray([-math.inf, -5, 0, 1, 5, 9, 1e9]))
    assert np.all(np.diff(beyond) > 0)
    assert np.all((beyond > 0) & (beyond < 1))
    failed = ranks(np.asarray([math.nan]))[0]
    assert failed == beyond[0] < 1e-12


def test_ranks_among_equal_references_say_nothing():
    ranks = ensemble.Ranks(np.ones(5))
    assert ranks(np.asarray([0.0, 1, 2, math.nan]))[:3].tolist() == [0.5] * 3


def _ensemble(tmp_path, combine, members=(("snip", 3.0), ("zen", 1.0))):
    fields = {**SCORED, "sweep.ensemble.combine": combine, "sweep.ensemble.members": members}
    built = trainings.built_with(tiny_macro.get_config(), fields)
    run = trainings.run_of(*built, tmp_path)
    ones = {"snip": lambda archs: np.asarray(archs[0][:, 0]), "zen": lambda archs: archs[0][:, 1]}
    return ensemble.Ensemble(run, ones)


@pytest.mark.parametrize(("combine", "function"), [("mean", lambda x: x), ("geometric", math.log)])
def test_ranks_are_weighted(tmp_path, combine, function):
    """Of ops of the first layer, the value 1 or 0: shares are known from how many have them."""
    combined = _ensemble(tmp_path, combine)
    values = {"snip": np.asarray([1.0, 0, np.nan]), "zen": np.asarray([0.0, 1, np.nan])}
    ours = combined.combined(values)
    references = combined._of_references()
    high, low = ({k: np.mean(v == x) / 2 for k, v in references.items()} for x in (1, 0))
    high = {name: 1 - half for name, half in high.items()}
    expected = (3 * function(high["snip"]) + function(low["zen"])) / 4
    expected = expected if combine == "mean" else math.exp(expected)
    assert ours[0] == pytest.approx(expected, rel=1e-6)
    assert ours[0] > ours[1]  # snip weighs more
    assert np.isnan(ours[2])  # all failed
    partly = combined.combined({"snip": np.asarray([np.nan]), "zen": np.asarray([1.0])})
    assert np.isfinite(partly[0])
    assert partly[0] < ours[0]


@pytest.mark.parametrize("size", [8, 24])
def test_references_do_not_depend_on_the_size_of_a_round(tmp_path, size):
    built = trainings.built_with(
        tiny_macro.get_config(), {**SCORED, "sweep.ensemble.members": (("snip", 1.0),)}
    )
    rounds = list(ensemble._references(trainings.run_of(*built, tmp_path), 20, size))
    assert {len(layers[0]) for layers in rounds} == {size}
    masks = np.concatenate([layers[1] for layers in rounds])
    (whole,) = ensemble._references(trainings.run_of(*built, tmp_path), 20, 20)
    np.testing.assert_array_equal(masks[:20], whole[1])
    assert np.all(masks[20:] == masks[19])


@pytest.mark.system
def test_a_sweep_keeps_the_members_values(tmp_path):
    members = (("accuracy", 1.0), ("naswot", 1.0), ("flops", 0.5))
    built = trainings.built_with(
        tiny_macro.get_config(), {**SCORED, "sweep.ensemble.members": members}
    )
    run = trainings.run_of(*built, tmp_path)
    supernet.train(run)
    pipeline.sweep.search(run)
    text = (tmp_path / "trials.jsonl").read_text()
    rows = list(map(json.loads, text.splitlines()))
    assert len(rows) == 16
    for row in rows:
        assert row["values"].keys() == {"accuracy", "naswot", "flops"}
        assert row["values"]["flops"] == row["flops"]
        assert row["one_shot_accuracy"] is None
        assert 0 < row["value"] < 1
    best = max(rows, key=lambda row: row["value"])
    for name in best["values"]:  # it is no worse in one than the worst in both
        assert best["values"][name] > min(row["values"][name] for row in rows)
    results = RunResults(tmp_path, run.space)
    results.samples["published", "table"] = [
        Network(row["arch"], row["params"], row["flops"], [row["values"]["naswot"]], row["value"])
        for row in results.ranked
    ]
    results.out.mkdir()
    table = {row[2]: row[3] for row in markdown.tables(members_section.write(results))[0]}
    assert table["naswot"].startswith("1.00")  # it is the judge here
    assert table.keys() == {"ranked by", "accuracy", "naswot", "flops", "combined", "parameters"}
    assert (results.out / "members.png").exists()
    (tmp_path / "trials.jsonl").write_text("".join(text.splitlines(keepends=True)[:5]))
    pipeline.sweep.search(run)
    assert (tmp_path / "trials.jsonl").read_text() == text


@pytest.mark.system
def test_values_are_means_over_supernets(tmp_path):
    """Two of other seeds, scored alone and together."""
    for seed in (0, 1):
        built = trainings.built_with(tiny_macro.get_config(), {"seed": seed})
        supernet.train(trainings.run_of(*built, tmp_path / f"{seed}"))
    values = {}
    for name, others in (("0", ()), ("1", ()), ("0", (str(tmp_path / "1"),))):
        fields = {"seed": int(name), "sweep.supernets": others, "sweep.num_candidates": 8}
        built = trainings.built_with(tiny_macro.get_config(), fields)
        run = trainings.run_of(*built, tmp_path / name)
        evaluation = evaluators.make(run, run.workdir)
        archs = run.space.from_strs(["000", "012", "100", "120", "201", "210", "221", "222"])
        values[name, bool(others)] = evaluation.evaluator(archs)
    assert not np.array_equal(values["0", False], values["1", False])
    mean = (values["0", False] + values["1", False]) / 2
    np.testing.assert_allclose(values["0", True], mean, rtol=1e-6)


def test_a_supernet_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"supernets: .*nowhere has no checkpoints; train it"):
        trainings.built_with(
            tiny_macro.get_config(), {"sweep.supernets": (str(tmp_path / "nowhere"),)}
        )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), r"members is empty, but sweep\.score='ensemble'"),
        (("naswot", 1.0), r"'naswot' is no \(evaluator, weight\)"),
        ((("nazwot", 1.0),), r"'nazwot' is none of .*nearest: 'naswot'"),
        ((("ensemble", 1.0),), r"'ensemble' is none of"),
        ((("table", 1.0),), r"'table' is none of accuracy, loss"),
        ((("naswot", 0),), r"the weight of 'naswot', 0, must be a number above 0"),
        ((("naswot", "1"),), r"the weight of 'naswot', '1', must be"),
        ((("naswot", 1.0), ("zen", 1.0), ("naswot", 2.0)), r"has naswot more than once"),
    ],
)
def test_members_that_cannot_be_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny_macro.get_config(), {**SCORED, "sweep.ensemble.members": members})
