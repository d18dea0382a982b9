"""Which architectures are trained alone, and what "the best" means among equal ones."""

import pytest
from ml_collections import ConfigDict

from nas_jax import config, retrain, spaces


def _trials(scores, params=None):
    """Architectures a0, a1, ... with these scores."""
    params = params or [100] * len(scores)
    return [
        {"arch": f"a{i}", "value": s, "params": p} for i, (s, p) in enumerate(zip(scores, params))
    ]


def _select(trials, seed=0, top_pool=4, bucket_width=0.1, **groups):
    none = dict.fromkeys(retrain.GROUPS, 0)
    space = spaces.make("cell", num_cells=1, num_blocks=1)
    rules = {"top_pool": top_pool, "small_quantile": 0.5, "bucket_width": bucket_width}
    settings = ConfigDict({"groups": {**none, **groups}})
    return retrain.select(trials, space, settings, ConfigDict(rules), seed)


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
