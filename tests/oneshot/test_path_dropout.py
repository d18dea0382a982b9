"""Path dropout: the paper's rates, the ramp, and masks that belong to a ghost batch's number."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.oneshot import path_dropout
from nas_jax.spaces.choices import Choice

FANS = (2, 3, 4, 5, 7)  # the paper's concats have 2..5 inputs, its sums 7, of which 2 are chosen
NODES = {k: Choice(f"node{k}", k, 1, 2 if k == 7 else k, may_lose_all=True) for k in FANS}
CHAIN = spaces.make("nasbench_macro", stages=(1, 2)).choices  # three layers of three ops
EDGES = jax.tree.leaves(spaces.make("nasbench201").choices)
GROUPS = 20_000


@functools.partial(jax.jit, static_argnames=("choices", "rescale"))
def _sample(key, groups, r, share, choices, rescale=False):
    return path_dropout.sample(key, choices, groups, r=r, share=share, rescale=rescale)


@functools.cache
def _draw(choices, r, share, rescale):
    masks = _sample(jax.random.key(0), np.arange(GROUPS), r, share, tuple(choices), rescale)
    return jax.device_get(masks)


def draw(r, share=1.0, rescale=False):
    return dict(zip(FANS, _draw(tuple(NODES.values()), r, share, rescale)))


def sigma(probability):
    return math.sqrt(probability * (1 - probability) / GROUPS)


def assert_probability(found, expected):
    """Of an event [GROUPS]."""
    assert abs(np.mean(found) - expected) < 4 * sigma(expected)


@pytest.mark.parametrize(
    ("r", "keep"),
    [
        (0.01, (0.900, 0.785, 0.684, 0.602, 0.482)),
        (0.05, (0.776, 0.632, 0.527, 0.451, 0.348)),
        (0.1, (0.684, 0.536, 0.438, 0.369, 0.280)),
        (0.3, (0.452, 0.331, 0.260, 0.214, 0.158)),
    ],
)
def test_keep_probabilities(r, keep):
    rates = path_dropout.rates(NODES, r)
    assert tuple(round(1 - rates[k], 3) for k in FANS) == keep


def test_examples_of_the_paper():
    rates = path_dropout.rates(NODES, 0.05)
    assert round(rates[2], 2) == 0.22
    assert round(rates[7], 2) == 0.65


def test_the_rates_of_the_papers_cell():
    """By how many options there are, not by how many of them an architecture may have."""
    blocks = path_dropout.rates(spaces.make("cell").choices, 0.1)
    for i, block in enumerate(blocks):
        assert block["inputs"] == pytest.approx(0.1 ** (1 / (2 + i)))
        assert block["ops"] == pytest.approx(0.1 ** (1 / 7))  # one or two of the seven


@pytest.mark.parametrize("r", [1e-6, 0.05, 0.3])
def test_a_node_loses_all_inputs_with_probability_r(r):
    rates = path_dropout.rates(NODES, r)
    assert all(math.isclose(rates[k] ** k, r) for k in FANS)


def test_drawn_masks_have_these_rates():
    masks = draw(0.1)
    for k in FANS:
        keep = 1 - 0.1 ** (1 / k)
        assert set(np.unique(masks[k])) == {0, 1}
        assert np.all(abs(masks[k].mean(0) - keep) < 4 * sigma(keep))
        lost = np.mean(np.all(masks[k] == 0, -1))
        assert abs(lost - 0.1) < 4 * sigma(0.1)


# -- other spaces than the paper's ----------------------------------------------------------------


@pytest.mark.parametrize(("r", "share"), [(0.1, 1.0), (0.3, 1.0), (0.5, 0.5)])
def test_a_layer_of_a_chain_keeps_a_path(r, share):
    """Nothing else would pass: where all three would be dropped, one stays, any as likely.

    By hand: a path is dropped with q = share r^(1/3), but stays in a third of the q^3.
    """
    q = share * r ** (1 / 3)
    for mask in _draw(CHAIN, r, share, False):
        assert set(np.unique(mask)) == {0, 1}
        assert np.all(mask.sum(-1) >= 1)
        for path in range(3):
            assert_probability(mask[:, path], 1 - q + q**3 / 3)
            alone = mask[:, path] * (mask.sum(-1) == 1)
            assert_probability(alone, (1 - q) * q**2 + q**3 / 3)


def test_a_chain_is_rescaled_by_what_it_keeps():
    q = 0.1 ** (1 / 3)
    for plain, scaled in zip(_draw(CHAIN, 0.1, 1.0, False), _draw(CHAIN, 0.1, 1.0, True)):
        np.testing.assert_allclose(scaled, plain / (1 - q + q**3 / 3), rtol=1e-5)


def test_at_the_first_step_of_a_ramp_a_chain_drops_nothing():
    assert all(np.all(mask == 1) for mask in _draw(CHAIN, 0.1, 0.0, True))


def test_the_last_path_belongs_to_the_number_of_a_group():
    some = np.asarray([7, 3, 19_999])
    found = _sample(jax.random.key(0), some, 0.5, 1.0, CHAIN)
    for mask, every in zip(found, _draw(CHAIN, 0.5, 1.0, False)):
        np.testing.assert_array_equal(mask, every[some])


def test_an_option_that_passes_nothing_is_no_path():
    """An edge of NAS-Bench-201 has four paths; beside "none" none of them stays with 0.1.

    By hand: the output hears of the input through the edges 0-3, 0-1-3, 0-2-3 or 0-1-2-3. With
    0-1 there is no other way with 0.1 (0.1 + 0.9 * 0.01) beside 0-3, without it with 1 - 0.81.
    """
    assert path_dropout.rates(EDGES, 0.1) == [pytest.approx(0.1 ** (1 / 4))] * 6
    masks = _draw(tuple(EDGES), 0.1, 1.0, False)
    passes = {edge.name: np.any(mask[:, 1:], -1) for edge, mask in zip(EDGES, masks)}
    for passing in passes.values():
        assert_probability(~passing, 0.1)
    direct, first, second = (passes[f"edge0to{j}"] for j in (3, 1, 2))
    second |= first & passes["edge1to2"]
    heard = direct | first & passes["edge1to3"] | second & passes["edge2to3"]
    assert_probability(~heard, 0.1 * (0.9 * 0.0109 + 0.1 * 0.19))


def test_the_last_path_is_none_that_passes_nothing():
    """Of three options of which the first is empty, one of the others stays."""
    [mask] = _draw((Choice("layer", 3, 1, 1, empty=(0,)),), 0.5, 1.0, False)
    q = 0.5 ** (1 / 2)
    assert np.all(mask[:, 1:].sum(-1) >= 1)
    assert_probability(mask[:, 1], 1 - q + q**2 / 2)


# -- shares, keys and schedules -------------------------------------------------------------------


def test_share_scales_the_rate_and_not_r():
    masks = draw(0.1, share=0.5)
    for k in FANS:
        keep = 1 - 0.5 * 0.1 ** (1 / k)
        assert np.all(abs(masks[k].mean(0) - keep) < 4 * sigma(keep))


@pytest.mark.parametrize(("r", "share"), [(0.1, 0.0), (0.0, 1.0)])
def test_nothing_is_dropped(r, share):
    assert all(np.all(mask == 1) for mask in jax.tree.leaves(draw(r, share)))


def test_paths_are_independent():
    masks = np.concatenate([draw(0.1)[k] for k in FANS], -1)
    correlation = np.corrcoef(masks.T) - np.eye(sum(FANS))
    assert np.abs(correlation).max() < 5 / math.sqrt(GROUPS)


def test_masks_belong_to_the_number_of_a_group():
    some = np.asarray([7, 3, 19_999])
    nodes = tuple(NODES.values())
    masks, other = (_sample(jax.random.key(seed), some, 0.1, 1.0, nodes) for seed in (0, 1))
    for k, mask in zip(FANS, masks):
        np.testing.assert_array_equal(mask, draw(0.1)[k][some])
    assert any(np.any(a != b) for a, b in zip(masks, other))


def test_rescale_keeps_the_mean():
    plain, scaled = draw(0.1), draw(0.1, rescale=True)
    for k in FANS:
        keep = 1 - 0.1 ** (1 / k)
        np.testing.assert_array_equal(scaled[k] == 0, plain[k] == 0)
        np.testing.assert_allclose(scaled[k][plain[k] == 1], 1 / keep, rtol=1e-5)
        assert np.all(abs(scaled[k].mean(0) - 1) < 4 * sigma(keep) / keep)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [0, 0.25, 0.5, 0.75, 1]), ("constant", [1] * 5), ("none", [0] * 5)],
)
def test_ramp(schedule, shares):
    assert schedule in path_dropout.SCHEDULES
    ramp = jax.jit(lambda step: path_dropout.ramp(step, 5, schedule))
    assert [float(ramp(jnp.int32(step))) for step in range(5)] == shares
    assert [float(path_dropout.ramp(step, 5, schedule)) for step in range(5)] == shares
    assert ramp(jnp.int32(3)).dtype == jnp.float32


def test_ramp_stays_in_range():
    assert path_dropout.ramp(7, 5, "linear") == 1
    assert path_dropout.ramp(0, 1, "linear") == 0  # a single step is the first one
