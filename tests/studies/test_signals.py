"""The study of signals: halves of a table, partial coefficients, and one that is run."""

import itertools
import math

import numpy as np
import pytest

from nas_jax import spaces, studies
from nas_jax.costs import params_flops
from nas_jax.report import markdown
from nas_jax.report.sections import members
from nas_jax.spaces import tabular
from nas_jax.studies import signals
from tests import trainings
from tests.configs import tiny_macro

SPACE = spaces.make("nasbench_macro", stages=(1, 2), head=2)
EVERY = ["".join(digits) for digits in itertools.product("012", repeat=3)]
PARAMS = params_flops.of(SPACE, SPACE.from_strs(EVERY)).params.tolist()


@pytest.fixture
def table(tmp_path):
    """The 27 architectures, judged by their parameters."""
    lines = [f"{arch},{params / max(PARAMS) * 90}" for arch, params in zip(EVERY, PARAMS)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["arch,digits_test_accuracy", *lines]) + "\n")
    return str(path)


def test_halves_are_fixed_and_make_the_whole(table):
    read = tabular.load(table, SPACE)
    first, second, whole = (signals.judged(read, half) for half in ("first", "second", "all"))
    assert not first.keys() & second.keys()
    assert first | second == whole
    assert len(whole) == 27
    assert [arch in first for arch in ("000", "001", "002", "010")] == [True, True, False, False]


def test_partial_tau_by_hand():
    """Taus 1/3, 0 and 2/3 of four numbers: (1/3 - 0) / sqrt(1 - 4/9)."""
    x, y, given = np.asarray([[1, 2, 3, 4], [1, 4, 2, 3], [2, 4, 1, 3]], float)
    assert [signals.analysis.kendall(*pair) for pair in ((x, y), (x, given), (y, given))] == (
        pytest.approx([1 / 3, 0, 2 / 3])
    )
    expected = (1 / 3) / math.sqrt(1 - 4 / 9)
    assert signals.partial_tau(x, y, given) == pytest.approx(expected)
    assert math.isnan(signals.partial_tau(x, y, x))


def test_failures_are_last():
    assert members.filled([2.0, None, -3.0]).tolist() == [2, -4, -3]


@pytest.mark.system
def test_a_study_ranks_a_table_by_every_signal(tmp_path, table):
    """Parameters rank it wholly, so what else ranks it says nothing given them."""
    config = tiny_macro.get_config()
    members = (("naswot", 1.0), ("accuracy", 1.0))
    fields = {
        "table": table,
        "study.pool": str(tmp_path / "pool"),
        "study.parts": ("signals",),
        "study.half": "first",
        "study.surrogate_archs": 12,
        "sweep.proxy.num_images": 4,
        "sweep.ensemble.num_references": 16,
        "sweep.ensemble.members": members,
        "study.variants": (
            ("one-shot accuracy",),
            ("NASWOT", ("sweep.score", "naswot")),
            ("both", ("sweep.score", "ensemble")),
        ),
    }
    run = trainings.run_of(*trainings.built_with(config, fields), tmp_path / "study")
    studies.check(run.config)
    studies.study(run)
    text = (tmp_path / "study" / "report" / "report.md").read_text()
    rows = {row[0]: row[1:] for row in markdown.tables(text)[0]}
    assert rows.keys() >= {"one-shot accuracy", "NASWOT", "both", "parameters", "multiply-adds"}
    assert rows["parameters"][0].startswith("1.00")
    assert "**parameters ranks best**, with tau 1.00" in text
    for which in ("of architectures alone", "of signals, too"):  # sizes are features of both
        assert float(rows[f"surrogate {which}, 12 accuracies"][0].split()[0]) > 0.3
    assert (tmp_path / "study" / "report" / "signals_between.png").exists()
    assert len(list((tmp_path / "pool").glob("supernets/*/checkpoints"))) == 1


def test_a_surrogate_does_not_learn_from_its_judges():
    config = tiny_macro.get_config()
    config.study.parts, config.table = ("signals",), "table.csv"
    config.study.surrogate_archs = 8
    with pytest.raises(ValueError, match=r"surrogate_archs=8 are of the half that does not judge"):
        studies.check(config)


def test_a_study_of_signals_needs_a_table():
    config = tiny_macro.get_config()
    config.study.parts = ("signals",)
    with pytest.raises(ValueError, match=r"config\.table is empty"):
        studies.check(config)


def test_other_parts_compare_values_of_one_unit():
    config = tiny_macro.get_config()
    config.study.parts = ("supernets",)
    config.study.variants = (("a",), ("b", ("sweep.score", "zen")))
    with pytest.raises(ValueError, match=r"'b' sets config\.sweep\.score: that is for"):
        studies.check(config)
