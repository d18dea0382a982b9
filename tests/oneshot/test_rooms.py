"""The execution "dispatch" with room for a few groups of each option, and who finds the room."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import execution
from nas_jax.oneshot import schedule
from nas_jax.oneshot.accuracy import OneShotAccuracy
from nas_jax.runtime import rng
from tests.images import noise
from tests.spaces.test_cell import random_variables

CELL = spaces.make("cell", num_cells=2, cells_per_stage=1, num_blocks=2)


def net_of(space, how):
    return space.supernet(num_classes=10, filters=4, execution=how)


@functools.cache
def variables(space, size):
    return random_variables(net_of(space, "masked"), noise(1, size, size, 3), space.all_on())


@pytest.mark.system
@pytest.mark.parametrize(
    ("space", "size"),
    [
        (CELL, 8),
        (spaces.make("nasbench201", num_cells=1), 16),
        (spaces.chain(stages=(1, 1), ops=("sep3x3", "sep5x5", "conv7x7", "mb3_k3", "mb6_k3")), 8),
    ],
    ids=["cell", "nasbench201", "chain"],
)
def test_logits_are_those_of_masked(space, size):
    archs = jax.device_get(space.sample(rng.key(0), (24,)))
    order, net = schedule.plan(net_of(space, "dispatch"), archs, 2)
    name, room = execution.split(net.execution)
    assert name == "dispatch"
    assert room <= 6  # of the 12 candidates of a device
    mine = jax.tree.map(lambda mask: mask[order][:12], archs)
    images = noise(8, size, size, 3)
    given = variables(space, size), images, mine
    wanted = jax.jit(net_of(space, "masked").logits_of_each)(*given)
    limit = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(jax.jit(net.logits_of_each)(*given), wanted, rtol=0, atol=limit)


def test_gradients_are_those_of_masked():
    """Places that are free hold groups that do not use the option; they give no gradient."""
    generator = np.random.default_rng(0)
    weights = np.float32([[1, 0, 2], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1.5, 0]])
    functions = [lambda p, x, j=j: jnp.tanh(x * p) + j for j in range(3)]
    params = [*generator.normal(size=(3, 4)).astype(np.float32)]
    inputs = [generator.normal(size=(5, 2, 4)).astype(np.float32)] * 3
    target = generator.normal(size=(5, 2, 4)).astype(np.float32)

    def loss(how, params, inputs):
        return jnp.sum(target * execution.weighted_sum(how, functions, params, inputs, weights))

    both = [
        jax.jit(jax.value_and_grad(functools.partial(loss, how), (0, 1)))(params, inputs)
        for how in ("dispatch:2", "masked")
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), *both)


def test_a_group_that_finds_no_room_is_not_a_number():
    weights = np.float32([[1, 0], [1, 1], [1, 0], [0, 1]])
    functions = [lambda p, x: x + p, lambda p, x: x * p]
    given = functions, [1.0, 2.0], [np.ones((4, 1))] * 2, weights
    np.testing.assert_array_equal(
        execution.weighted_sum("dispatch:2", *given)[:, 0], [2, 4, np.nan, 2]
    )


@pytest.mark.system
def test_accuracies_come_back_in_the_order_of_the_candidates():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    archs = CELL.sample(rng.key(3), (64,))
    masked = net_of(CELL, "masked")
    by_masked = jax.jit(masked.logits_of_each)(
        variables(CELL, 8), images.astype(np.float32), jax.tree.map(lambda m: m[:1], archs)
    )
    labels = np.asarray(by_masked[0].argmax(-1), np.int32)  # what the first candidate says
    values = [
        OneShotAccuracy(
            net_of(CELL, how),
            variables(CELL, 8),
            images,
            labels,
            batch_size=20,
            prepare=lambda x: x.astype(jnp.float32),
        )(archs)
        for how in ("masked", "dispatch")
    ]
    assert values[0][0] == 1
    assert len(set(values[0])) > 3
    np.testing.assert_array_equal(*values)


def test_lots_use_every_option_about_equally_often():
    """Of 64 random candidates, a lot of 16 as they come has 9 of an option, in the median."""
    for seed in range(5):
        archs = jax.device_get(spaces.make("cell").sample(rng.key(seed), (64,)))
        uses = np.concatenate([block["ops"] > 0 for block in archs], -1)
        order = schedule.balanced(uses, 4)
        assert sorted(order) == list(range(64))
        assert uses[order].reshape(4, 16, -1).sum(1).max() <= 7


@pytest.mark.parametrize(
    ("users", "groups", "name"),
    [
        (5, 16, "dispatch:6"),
        (6, 16, "dispatch:6"),
        (7, 16, "dispatch:7"),
        (8, 16, "dispatch:8"),
        (9, 16, "masked"),
        (1, 1, "masked"),
        (25, 64, "dispatch:28"),
    ],
)
def test_there_are_four_programs(users, groups, name):
    assert execution.with_room(users, groups) == name


@pytest.mark.parametrize("name", ["dispatch:0", "dispatch:x", "masked:3", "dispatches", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="execution"):
        execution.split(name)
