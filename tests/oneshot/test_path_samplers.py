"""Mask samplers: which architecture each ghost batch trains."""

import collections
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.costs import params_flops
from nas_jax.oneshot import path_dropout, path_samplers
from nas_jax.spaces import choices

SPACE = spaces.make("nasbench201", num_cells=1)
KEY = jax.random.key(0)
Hyper = collections.namedtuple("Hyper", ["r", "drop_share"])


@functools.cache
def make(name, num_groups=6):
    extremes = functools.partial(params_flops.extremes, SPACE)
    sampler = path_samplers.make(name, SPACE, num_groups=num_groups, extremes=extremes)

    @jax.jit
    def draw(key, step, groups):
        share = path_dropout.ramp(step, 11, "linear")
        return sampler(key, step, groups, (), Hyper(r=0.1, drop_share=share))

    return draw


def decisions(sampler, step, num_groups):
    return SPACE.to_decisions(jax.device_get(sampler(KEY, step, np.arange(num_groups))))


def test_path_dropout_ramps_up():
    """The draw of `path_dropout.sample` with the step's key and share: 5 of 10 steps are a half."""
    groups = np.arange(6)
    drawn = make("path_dropout")(KEY, 5, groups)

    @jax.jit
    def sample(key):
        step_key = jax.random.fold_in(key, 5)
        return path_dropout.sample(step_key, SPACE.choices, groups, r=0.1, share=0.5)

    expected = sample(KEY)
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)


@pytest.mark.parametrize("name", ["single_path", "shared_path", "fair", "sandwich"])
def test_architectures_are_legal_and_change(name):
    sampler = make(name)
    first, again, next_step = (decisions(sampler, step, 6) for step in (0, 0, 1))
    assert (first >= 0).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, next_step)
    assert len({*map(tuple, first.tolist())}) == (1 if name == "shared_path" else 6)


@pytest.mark.parametrize("name", path_samplers.SAMPLERS)
def test_a_ghost_batch_does_not_depend_on_the_others(name):
    """So devices that have only some of them draw the same."""
    sampler = make(name)
    whole, part = (sampler(KEY, 3, groups) for groups in (np.arange(6), np.arange(2, 5)))
    jax.tree.map(lambda w, p: np.testing.assert_array_equal(w[2:5], p), whole, part)


def test_single_path_is_uniform():
    counts = collections.Counter(decisions(make("single_path"), 0, 5000)[:, 0].tolist())
    for count in counts.values():
        assert abs(count - 1000) < 5 * np.sqrt(800)  # binomial(5000, 1/5)
    assert len(counts) == 5


@pytest.mark.parametrize("num_groups", [5, 10, 3, 1])
def test_fair_uses_every_op_equally_often(num_groups):
    """In every five ghost batches, counted through the steps, each op of each edge once."""
    sampler = make("fair", num_groups)
    drawn = np.concatenate([decisions(sampler, step, num_groups) for step in range(10)])
    for first in range(0, len(drawn), 5):
        for column in drawn[first : first + 5].T:
            assert len(column) < 5 or sorted(column) == [0, 1, 2, 3, 4]


def test_fair_edges_are_independent():
    sampler = make("fair", 5)
    drawn = np.concatenate([decisions(sampler, step, 5) for step in range(200)])
    pairs = collections.Counter(zip(drawn[:, 0].tolist(), drawn[:, 1].tolist()))
    assert len(pairs) == 25
    assert max(pairs.values()) < 2 * 1000 / 25


def test_fair_where_a_choice_has_many_subsets():
    """Two ops of three, or one: six subsets, each once in six ghost batches."""
    one = choices.Choice("ops", 3, 1, 2)
    sampler = path_samplers.make("fair", types.SimpleNamespace(choices=[one]), num_groups=6)
    draw = jax.jit(lambda key: sampler(key, 0, jnp.arange(6), (), None))
    drawn = choices.to_decisions([one], jax.device_get(draw(KEY)))
    assert sorted(drawn[:, 0].tolist()) == [0, 1, 2, 3, 4, 5]


def test_sandwich_has_the_largest_and_the_smallest():
    """Most parameters: 3x3 convolutions everywhere; fewest: the last op without any, pooling."""
    masks = jax.device_get(make("sandwich")(KEY, 4, np.arange(6)))
    text = [
        SPACE.to_str(jax.tree.map(lambda mask, i=i: np.asarray(mask[i]), masks)) for i in range(6)
    ]
    conv, pool = "nor_conv_3x3", "avg_pool_3x3"
    for found, op in zip(text, (conv, pool)):
        assert found == f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|"
    assert len({*text[2:]}) > 1
