"""Scoring, batched and on several devices; which networks are retrained; strategies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import retrain, score, spaces, strategies, supernet


@pytest.fixture(scope="module")
def scored():
    """(space, net, variables, images, labels, masks of 16 architectures)."""
    space = spaces.make(
        "cell", num_cells=1, num_blocks=2, cells_per_stage=1, ops=("identity", "sep3x3", "avgpool")
    )
    net = space.supernet(num_classes=10, filters=4)
    generator = np.random.default_rng(0)
    brightness = generator.integers(1, 256, (32, 1, 1, 1))  # so that predictions differ
    images = (brightness * generator.uniform(0, 1, (32, 8, 8, 1))).astype(np.uint8)
    labels = generator.integers(0, 10, 32, np.int32)
    variables = supernet.init(jax.random.key(0), net, jnp.zeros((1, 8, 8, 1)), space.all_on())
    return space, net, variables, images, labels, space.sample(jax.random.key(1), (16,))


def _prepare(images):
    return images.astype(jnp.float32) / 255


def _scores(scored, devices, variables=None, batch_size=16):
    _, net, own, images, labels, archs = scored
    scorer = score.one_shot_accuracy(
        net,
        own if variables is None else variables,
        images,
        labels,
        batch_size=batch_size,
        prepare=_prepare,
        devices=devices,
    )
    return scorer(archs)


def test_batched_scores_are_those_of_one_architecture_at_a_time(scored):
    """Statistics are per batch of 16 images and per architecture."""
    _, net, variables, images, labels, archs = scored
    apply = jax.jit(net.apply)
    expected = []
    for i in range(16):
        arch = jax.tree.map(lambda mask, i=i: mask[i], archs)
        logits = [apply(variables, _prepare(images[j : j + 16]), arch) for j in (0, 16)]
        expected.append(np.mean(np.argmax(np.concatenate(logits), -1) == labels))
    np.testing.assert_allclose(_scores(scored, jax.devices()[:1]), expected, atol=1e-6)


def test_candidates_split_over_devices_score_the_same(scored):
    one, eight = (_scores(scored, jax.devices()[:n]) for n in (1, 8))
    np.testing.assert_array_equal(one, eight)
    assert len(set(one.tolist())) > 1


def test_logits_that_are_nan_score_nan(scored):
    broken = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), scored[2])
    assert np.isnan(_scores(scored, jax.devices()[:1], variables=broken)).all()


def test_a_batch_that_does_not_divide_the_images_is_refused(scored):
    with pytest.raises(ValueError, match=r"num_images=32 is not a multiple of .*batch_size=10"):
        _scores(scored, None, batch_size=10)


def test_standalone_accuracy_does_not_depend_on_the_batch(scored):
    """Running statistics: the padded last batch changes nothing."""
    space, _, _, images, labels, _ = scored
    net = space.standalone(space.all_on(), num_classes=10, filters=4, bn="running")
    variables = supernet.init(jax.random.key(0), net, jnp.zeros((1, 8, 8, 1)))
    found = [
        score.accuracy(
            net,
            variables,
            [(images[i : i + size], labels[i : i + size]) for i in range(0, 32, size)],
            prepare=_prepare,
        )
        for size in (32, 20, 7)
    ]
    assert found[0] == found[1] == found[2]


# -- selection ------------------------------------------------------------------------------------


def _trials(scores, params=None):
    """Architectures a0, a1, ... with these scores."""
    params = params or [100] * len(scores)
    return [
        {"arch": f"a{i}", "one_shot_accuracy": s, "params": p}
        for i, (s, p) in enumerate(zip(scores, params))
    ]


def _select(trials, seed=0, **groups):
    none = dict.fromkeys(retrain.GROUPS, 0)
    space = spaces.make("cell", num_cells=1, num_blocks=1)
    rules = ConfigDict({"top_pool": 4, "small_quantile": 0.5, "bucket_width": 0.1})
    settings = ConfigDict({"groups": {**none, **groups}})
    return retrain.select(trials, space, settings, rules, seed)


def test_top_takes_one_of_each_rank_of_the_pool():
    """Pool of 4, two strata: one of a7, a6 and one of a5, a4."""
    top = _select(_trials([i / 10 for i in range(8)]), top=2)["top"]
    assert top[0] in ("a7", "a6")
    assert top[1] in ("a5", "a4")


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


# -- strategies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_asks_for_legal_architectures_and_repeats_itself(name):
    space = spaces.make("cell", num_blocks=2)
    strategy = strategies.make(name, space)
    state = strategy.init(jax.random.key(0))
    first, again = (strategy.ask(jax.random.key(1), state, 16) for _ in range(2))
    assert space.contains(first)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    other = strategy.ask(jax.random.key(2), state, 16)
    assert not np.array_equal(space.to_decisions(first), space.to_decisions(other))
    told = strategy.tell(state, first, np.full(16, np.nan))
    assert jax.tree.structure(told) == jax.tree.structure(state)


def test_an_unknown_strategy_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"'randam_search' is none of .*nearest: random_search"):
        strategies.make("randam_search", spaces.make("cell"))
