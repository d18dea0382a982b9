"""The executions of a weighted sum give the same values and gradients; off options are skipped."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import execution, kernels, layers, masked
from nas_jax.runtime import distributed
from nas_jax.training import train_step
from nas_jax.training.hyperparameters import HyperParameters
from tests.images import noise
from tests.spaces.test_cell import random_variables

GROUPS, OPTIONS = 4, 3


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def weighted(how, params, inputs, weights):
    """Options that differ: j-th is tanh(x * p_j) + j."""
    functions = [lambda p, x, j=j: jnp.tanh(x * p) + j for j in range(OPTIONS)]
    run = functools.partial(execution.weighted_sum, how, functions, list(params))
    if how != "switch":
        return run(inputs, weights)
    rows = [
        run([x[min(g, len(x) - 1)][None] for x in inputs], weights[g][None]) for g in range(GROUPS)
    ]
    return jnp.concatenate(rows)


def random_weights(seed):
    """Some off, some on, some on with another weight than 1; one group has nothing on."""
    rng = np.random.default_rng(seed)
    on = rng.uniform(size=(GROUPS, OPTIONS)) < rng.choice([0.2, 0.5, 0.9])
    on[seed % GROUPS] = False
    return (on * rng.choice([1.0, 1.5], size=on.shape)).astype(np.float32)


@functools.cache
def compiled(how, shared):
    """One program for all masks: value and gradients of a random functional."""
    target = normal(np.random.default_rng(9), GROUPS, 3, 5)

    def loss(params, inputs, weights):
        out = weighted(how, params, inputs, weights)
        return jnp.sum(out * target), out

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("how", ["switch", "dispatch"])
def test_values_and_gradients_are_those_of_masked(how, shared, seed):
    rng = np.random.default_rng(seed)
    params = normal(rng, OPTIONS, 5)
    inputs = [normal(rng, 1 if shared else GROUPS, 3, 5) for _ in range(OPTIONS)]
    args = params, inputs, random_weights(seed)
    (_, ours), grads = compiled(how, shared)(*args)
    (_, theirs), expected = compiled("masked", shared)(*args)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


values = jax.jit(weighted, static_argnums=0)


@pytest.mark.parametrize("seed", range(4))
def test_switch_without_gradients_is_the_same(seed):
    """The loop over what is on, which is taken where nothing is differentiated."""
    params = np.ones((OPTIONS, 5), np.float32)
    inputs = [np.full((GROUPS, 3, 5), 0.1 * j, np.float32) for j in range(OPTIONS)]
    out = {how: values(how, params, inputs, random_weights(seed)) for how in ("switch", "masked")}
    np.testing.assert_allclose(out["switch"], out["masked"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", execution.NAMES)
def test_weights_are_constants(how):
    """In all of them, since `switch` cannot afford to keep every option's output."""
    params, inputs = np.ones((OPTIONS, 5)), [np.ones((GROUPS, 3, 5))] * OPTIONS
    gradient = jax.jit(jax.grad(lambda weights: weighted(how, params, inputs, weights).sum()))
    np.testing.assert_array_equal(gradient(random_weights(0)), 0)


@pytest.mark.parametrize("how", execution.NAMES)
@pytest.mark.parametrize("kind", ["op", "concat"])
def test_masks_are_constants(kind, how):
    """Those of a module's sum of ops, and those of the inputs of a concat."""
    x = normal(np.random.default_rng(0), 1, 2, 4, 4, 3)
    if kind == "op":
        module, given = masked.MixedOp([layers.partial(layers.Conv, 3, (3, 3))] * 2, (0, 1), how), x
    else:
        module = masked.MaskedConcat(3, (0, 1), execution=how)
        given = [(x, jax.jit(kernels.moments)(x))] * 2
    variables = random_variables(module, given, np.ones((1, 2)))

    @jax.jit
    @jax.value_and_grad
    def loss(mask):
        return jnp.sum(jnp.sin(module.apply(variables, given, mask)))

    value, gradient = loss(np.ones((1, 2), np.float32))
    assert value != loss(np.float32([[1, 0]]))[0]  # the mask counts
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("how", ["switch", "dispatch"])
def test_an_option_that_is_off_is_not_run(how):
    """Its not-a-number does not reach the sum, as it does when it is multiplied by zero."""
    functions, params = [lambda p, x: x, lambda p, x: x / 0 - x / 0], [{}] * 2
    inputs, weights = [np.ones((1, 2))] * 2, np.asarray([[2.0, 0.0]])
    if how == "dispatch":  # one group of two uses the second option: it runs for that one alone
        inputs, weights = [np.ones((2, 2))] * 2, np.asarray([[2.0, 0.0], [0.0, 1.0]])

    def first(how):
        run = functools.partial(execution.weighted_sum, how, functions, params)
        return jax.jit(run)(inputs, weights)[0]

    np.testing.assert_array_equal(first(how), [2, 2])
    assert np.isnan(first("masked")).all()


def test_switch_takes_one_group():
    with pytest.raises(ValueError, match="one group at a time, not 2"):
        execution.weighted_sum(
            "switch", [lambda p, x: x], [{}], [jnp.ones((2, 1))], jnp.ones((2, 1))
        )


def test_auto_is_switch_on_cpu():
    assert execution.resolve("auto", "cpu") == "switch"
    assert execution.resolve("auto", "tpu") == "masked"
    assert execution.resolve("dispatch", "cpu") == "dispatch"


# -- the supernet ---------------------------------------------------------------------------------

SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3"))


@pytest.fixture(scope="module")
def nets():
    return {how: SPACE.supernet(num_classes=3, filters=4, execution=how) for how in execution.NAMES}


@pytest.fixture(scope="module")
def variables(nets):
    """Batch norm is not the identity."""
    drawn = random_variables(nets["masked"], np.zeros((1, 8, 8, 3)), SPACE.all_on())
    return jax.tree.map(lambda w: 2 * w, drawn)


def test_all_executions_have_the_same_parameters(nets):
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    shapes = [
        jax.eval_shape(net.init, jax.random.key(0), images, SPACE.all_on()) for net in nets.values()
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_candidates_score_the_same(nets, variables):
    """Logits of eight candidates on the same images, and so their accuracies."""
    images = normal(np.random.default_rng(3), 4, 8, 8, 3)
    archs = SPACE.sample(jax.random.key(2), (8,))
    logits = {
        how: jax.jit(net.logits_of_each)(variables, images, archs) for how, net in nets.items()
    }
    assert np.ptp(logits["masked"], 0).max() > 0.1  # candidates differ
    for how in ("switch", "dispatch"):
        np.testing.assert_allclose(logits[how], logits["masked"], rtol=1e-5, atol=1e-5)


def test_ghost_batches_one_by_one_are_the_same_step(nets, variables):
    """Gradients, loss and metrics of four ghost batches at once, two at once, or one by one."""
    rng = np.random.default_rng(0)
    masks = jax.tree.map(
        lambda m: (rng.random((4, *m.shape)) < 0.6).astype(np.float32), SPACE.all_on()
    )
    after = {
        (how, at_once): _one_step(nets[how], variables, masks, at_once)
        for how, at_once in (("masked", 4), ("masked", 2), ("switch", 1))
    }
    expected = after.pop(("masked", 4))
    for found in after.values():
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def _one_step(net: nn.Module, variables, masks, at_once):
    step = train_step.TrainStep(
        net,
        num_groups=4,
        groups_at_once=at_once,
        prepare=lambda keys, x: x / 255.0,
        sampler=lambda *_: masks,
        space=SPACE,
        nesterov=False,
    )
    hyper = HyperParameters(*map(np.float32, (0.1, 0, 0, 0.1, 0, 0, 0)))
    run = distributed.pmap(step, split={"batch"}, split_out=False, devices=jax.devices()[:1])
    batch = {"image": noise(16, 8, 8)[None], "label": np.arange(16, dtype=np.int32)[None] % 3}
    state, metrics = run(train_step.create(variables), batch, jax.random.key(0), hyper)
    return jax.device_get((state.params, metrics))
