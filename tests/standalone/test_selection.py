"""Which architectures are trained alone, and what "the best" means among equal ones."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import config, spaces
from nas_jax.candidates import sweep
from nas_jax.report import results
from nas_jax.standalone import retrain, selection
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny_macro

SPACE = spaces.make("cell", num_cells=1, num_blocks=1)
LARGER = spaces.make("cell", num_cells=1, num_blocks=3)
RESULT = {"filters": 4, "seed": 0, "params": 9, "flops": 9, "valid_accuracy": None}
RESULT |= {"test_accuracy": 0.5}
MACRO = spaces.make("nasbench_macro", stages=(1, 2), head=2)


def _trials(scores, params=None):
    """Architectures a0, a1, ... with these scores."""
    params = params or [100] * len(scores)
    return [
        {"arch": f"a{i}", "value": s, "params": p} for i, (s, p) in enumerate(zip(scores, params))
    ]


def _select(trials, seed=0, top_pool=4, bucket_width=0.1, **groups):
    none = dict.fromkeys(selection.GROUPS, 0)
    rules = {"top_pool": top_pool, "small_quantile": 0.5, "bucket_width": bucket_width}
    settings = ConfigDict({"groups": {**none, **groups}})
    return selection.select(trials, SPACE, settings, ConfigDict(rules), seed)


def test_top_takes_one_of_each_rank_of_the_pool():
    """Pool of 4, two strata: one of a7, a6 and one of a5, a4."""
    top = _select(_trials([i / 10 for i in range(8)]), top=2)["top"]
    assert top[0] in ("a7", "a6")
    assert top[1] in ("a5", "a4")


@pytest.mark.parametrize(
    ("scored", "n", "pool"),
    [
        (40, 1, 1),
        (399, 1, 1),  # the best itself
        (400, 1, 2),
        (40, 3, 3),
        (2_000, 10, 10),
        (20_000, 10, 100),  # the paper's
        (5, 9, 5),  # there are no more
    ],
)
def test_top_is_of_the_best_200th_or_as_many_as_asked_for(scored, n, pool):
    """One of each of n equal parts of the pool; scores rise with the number."""
    chosen = _select(_trials([i / scored for i in range(scored)]), top_pool=0, top=n)["top"]
    ranks = [scored - 1 - int(arch[1:]) for arch in chosen]
    size = max(1, pool // n)
    assert [rank // size for rank in ranks] == list(range(min(n, pool)))


def test_by_default_one_of_the_top_is_the_best():
    """Whatever the seed draws."""
    rules, trials = config.default().retrain.selection, _trials([i / 40 for i in range(40)])
    for seed in range(20):
        assert _select(trials, seed, rules.top_pool, top=1)["top"] == ["a39"]


def test_small_is_the_smallest_at_or_above_the_quantile():
    """The median of the scores is 0.25: a2 and a3 are above it, and a2 is smaller than a3."""
    chosen = _select(_trials([0.1, 0.2, 0.3, 0.4], [1, 2, 30, 40]), small=1)
    assert chosen["small"] == ["a2"]


def test_stratified_fills_buckets_in_turn_and_prefers_the_random_sample():
    trials = _trials([0.05] * 6 + [0.15] * 2 + [0.95])
    chosen = _select(trials, random=3, stratified=5)
    buckets = [int(a[1:]) for a in chosen["stratified"]]
    assert sum(i < 6 for i in buckets) == 2
    assert sum(6 <= i < 8 for i in buckets) == 2
    assert 8 in buckets
    low = [a for a in chosen["random"] if int(a[1:]) < 6]
    assert set(low[:2]) <= set(chosen["stratified"])


def test_failed_and_repeated_candidates_are_not_selected_twice():
    trials = [*_trials([0.1, None, 0.3]), *_trials([0.1, None, 0.3])]
    assert sorted(_select(trials, random=6)["random"]) == ["a0", "a2"]


def test_what_the_training_selected_is_on_top_and_no_random_architecture():
    """Whatever its value, and also where random search asks for it again."""
    trials = _trials([0.1, 0.2, 0.3, 0.4])
    trials = [trials[1] | {"selected": True}, *trials]
    chosen = _select(trials, random=4, stratified=4, top=2, top_pool=1)
    assert sorted(chosen["random"]) == sorted(chosen["stratified"]) == ["a0", "a2", "a3"]
    assert chosen["top"] == ["a1", "a3"]
    assert _select(trials, top=1)["top"] == ["a1"]
    assert _select(trials)["top"] == []


def test_all_on_is_the_space_s_own():
    assert _select(_trials([0.5]), all_on=1)["all_on"] == [
        "0,1>identity,sep3x3,sep5x5,sep7x7,conv7x7,maxpool,avgpool"
    ]


def test_networks_of_the_front_are_trained():
    """Value 0.1 to 0.5 for 10 to 50 parameters, and one beaten: the ends and the middle."""
    trials = _trials([0.1, 0.2, 0.3, 0.4, 0.5, 0.2], [10, 20, 30, 40, 50, 25])
    assert _select(trials, pareto=3)["pareto"] == ["a0", "a2", "a4"]


@pytest.mark.parametrize("value", [0.15, 0.3, 0.35, 0.6, 0.7])
def test_a_score_at_a_border_is_of_the_bucket_that_begins_there(value):
    """Buckets of 0.05: two networks of two buckets, not both of one."""
    trials = _trials([value, *[value - 0.01] * 20])
    assert "a0" in _select(trials, bucket_width=0.05, stratified=2)["stratified"]


# -- equal ones -----------------------------------------------------------------------------------

EQUAL = [
    {"arch": text, "value": 0.5, "params": 7, "flops": 7, "num_images": 10, "seed": 3}
    for text in LARGER.to_strs(LARGER.sample(jax.random.key(0), (300,)))
]


def _share_of_first_inputs(archs):
    """Of those whose string begins as the first of the alphabet do."""
    return sum(arch.startswith("0,1") for arch in archs) / len(archs)


def test_no_kind_of_architecture_comes_first_among_equal_ones():
    """Of 300 equal ones: the share of strings with '0,1' among the first 100 is that of all, to
    three standard errors."""
    ranked = [row["arch"] for row in results.ranked(EQUAL)]
    share = _share_of_first_inputs(ranked)
    assert 0.2 < share < 0.5
    error = (share * (1 - share) / 100) ** 0.5
    assert _share_of_first_inputs(ranked[:100]) == pytest.approx(share, abs=3 * error)
    assert _share_of_first_inputs(sorted(ranked)[:100]) > share + 3 * error  # the alphabet's


def test_equal_ones_are_ordered_by_seed_whatever_order_they_came_in():
    """A better one comes first all the same."""
    better = EQUAL[17] | {"arch": "0>maxpool", "value": 0.6}
    first, other = ([row | {"seed": seed} for row in [*EQUAL, better]] for seed in (3, 4))
    ranked = results.ranked(first)
    assert ranked == results.ranked(first[::-1])
    assert ranked[0]["arch"] == "0>maxpool"
    assert [row["arch"] for row in ranked] != [row["arch"] for row in results.ranked(other)]


def test_the_order_of_equal_ones_is_the_same_on_every_host():
    """BLAKE2b of '0 a3' begins with 18, then come 8e, bd, db and ec."""
    ranked = [row["arch"] for row in results.ranked(_trials([0.5] * 5))]
    assert ranked == ["a3", "a4", "a0", "a1", "a2"]


@pytest.mark.parametrize("group", ["top", "small", "pareto", "tuned", "narrowed"])
def test_groups_take_the_first_of_equal_ones(group):
    """Of equal scores and costs."""
    first = results.ranked(EQUAL)[0]["arch"]
    assert _select(EQUAL, top_pool=0, **{group: 1})[group] == [first]
    assert first != min(row["arch"] for row in EQUAL)


# -- a selection that is there --------------------------------------------------------------------


EMPTY = {group: [] for group in selection.GROUPS}


@pytest.fixture
def tied(tmp_path):
    """(arguments of `retrain.run`, path of selection.json): four candidates of equal score, of
    which one is to be trained to the end; all are trained already."""
    given = tiny_macro.get_config()
    given.sweep.num_candidates, given.retrain.final.groups.top = 4, 1
    archs = ["000", "001", "012", "210"]
    trials = [EQUAL[0] | {"arch": text} for text in archs]
    json_files.append_jsonl(tmp_path / "trials.jsonl", trials)
    for text in archs:
        path = tmp_path / "retrain" / "final" / "F4" / spaces.arch_id(text) / "seed0"
        json_files.write_json(path / "result.json", RESULT | {"arch": text})
    return (*trainings.build(given), tmp_path), tmp_path / "retrain/final/selection.json"


@pytest.mark.parametrize("chosen", ["000", "001", "012", "210"])
def test_a_run_keeps_the_selection_that_it_began_with(tied, chosen):
    """Whichever of equal ones an earlier version took."""
    run, path = tied
    selection = EMPTY | {"top": [chosen]}
    json_files.write_json(path, selection)
    retrain.retrain(trainings.run_of(*run))
    assert json_files.read_json(path) == selection


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        '{"top": ["012"]}',  # groups are missing
        json.dumps(EMPTY | {"top": ["111"]}),  # has no score
        json.dumps(EMPTY | {"top": ["000", "001"]}),  # more than are asked for
        json.dumps(EMPTY),
        json.dumps(EMPTY | {"top": [3]}),
    ],
)
def test_a_selection_that_is_not_whole_is_made_again(tied, text):
    run, path = tied
    if text is not None:
        path.write_text(text)
    retrain.retrain(trainings.run_of(*run))
    first = results.ranked(json_files.read_trials(run[-1] / "trials.jsonl"))[0]["arch"]
    assert json_files.read_json(path)["top"] == [first]
    assert json_files.read_json(path).keys() == {*selection.GROUPS}


def test_a_sweep_that_begins_anew_forgets_the_selection(tmp_path):
    """Which was made of other scores; one that goes on, or is complete, keeps it."""
    given = tiny_macro.get_config()
    given.table = str(tmp_path / "table.csv")
    every = MACRO.to_strs(MACRO.from_decisions(np.concatenate([*MACRO.enumerate_decisions()])))
    rows = [f"{text},{i}" for i, text in enumerate(every)]
    (tmp_path / "table.csv").write_text("\n".join(["arch,digits_test_accuracy", *rows]) + "\n")
    given.sweep.score, given.sweep.num_candidates = "table", 27
    run = *trainings.build(given), tmp_path
    for lines, kept in ((0, False), (27, True), (16, True), (0, False)):
        path = tmp_path / "retrain" / "final" / "selection.json"
        json_files.write_json(path, {})
        trials = tmp_path / "trials.jsonl"
        if trials.exists():
            trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:lines]))
        sweep.search(trainings.run_of(*run))
        assert path.exists() == kept
