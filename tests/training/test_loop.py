"""The training step and loop: what a step does, and that devices and kills change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from nas_jax import spaces
from nas_jax.nn import masked
from nas_jax.oneshot import path_dropout
from nas_jax.runtime import distributed, rng
from nas_jax.training import loop, supernet, train_step
from nas_jax.training.hyperparameters import HyperParameters
from nas_jax.training.metrics import Diverged
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def setup():
    config = tiny.get_config()
    config, space, data = trainings.build(config)
    return config, space, data


def test_diverging_run_names_step_and_checkpoint(setup, tmp_path):
    config, *rest = setup
    config = config.copy_and_resolve_references()
    config.supernet.train.update({"base_lr": 1e12, "warmup_share": 0.0, "clip_norm": 0.0})
    with pytest.raises(Diverged, match=r"by step \d+; last good checkpoint"):
        trainings.fit((config, *rest), tmp_path)


@pytest.mark.parametrize(("checkpoint_every", "saves"), [(10, 2), (0, 1)])
def test_too_few_checkpoints_are_seen_before_training(setup, tmp_path, checkpoint_every, saves):
    """Of 15 steps: after 10 and at the end; at the end alone."""
    config, space, data = setup
    config = config.copy_and_resolve_references()
    config.supernet.train.update({"num_steps": 15, "checkpoint_every": checkpoint_every})
    config.sweep.num_checkpoints = saves + 1
    message = rf"num_checkpoints={saves + 1}, but a training of 15 steps .* saves {saves}; lower"
    with pytest.raises(ValueError, match=message):
        supernet.check(trainings.run_of(config, space, data, tmp_path))


# -- one step, by hand ----------------------------------------------------------------------------


def _step(space, sample_masks, *, l2, lr=0.0, **options):
    """One step of SGD on zeros-free random images; returns params before, after and metrics."""
    net = space.supernet(num_classes=3, filters=4)
    images = jnp.zeros((1, 8, 8, 1))
    variables = masked.init(jax.random.key(0), net, images, space.all_on())
    state = train_step.create(variables)
    step = train_step.TrainStep(
        net,
        num_groups=2,
        groups_at_once=2,
        prepare=lambda keys, x: x.astype(jnp.float32) / 255,
        sampler=sample_masks,
        space=space,
        nesterov=False,
        **options,
    )
    hyper = HyperParameters(lr, *map(np.float32, (0, 0, l2, 0, 0, 0)))
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (1, 8, 8, 8, 1), np.uint8),
        "label": np.arange(8, dtype=np.int32)[None] % 3,
    }
    run = distributed.pmap(step, split={"batch"}, split_out=False, devices=jax.devices()[:1])
    after, metrics = run(state, batch, jax.random.key(0), hyper)
    return state.params, after.params, metrics


@pytest.fixture(scope="module")
def small_space():
    return spaces.make(
        "cell", num_cells=1, num_blocks=1, cells_per_stage=1, ops=("identity", "sep3x3", "conv7x7")
    )


def test_dropped_paths_do_not_move(small_space):
    """Both ghost batches drop sep3x3: no gradient and no L2, while conv7x7 moves."""
    masks = {"inputs": jnp.ones((2, 2)), "ops": jnp.asarray([[1.0, 0, 1]] * 2)}
    before, after, _ = _step(small_space, lambda *_: (masks,), l2=0.1, lr=0.1)
    ops_before, ops_after = (p["cell0"]["block0_ops"] for p in (before, after))
    for a, b in zip(jax.tree.leaves(ops_before["1"]), jax.tree.leaves(ops_after["1"])):
        np.testing.assert_array_equal(a, b)
    assert np.abs(ops_before["2"]["unit0"]["kernel"] - ops_after["2"]["unit0"]["kernel"]).max() > 0


def test_l2_is_the_mean_over_ghost_batches_of_what_each_uses(small_space):
    """conv7x7 is on in one of two ghost batches: half of its squares count."""
    masks = {"inputs": jnp.ones((2, 2)), "ops": jnp.asarray([[1.0, 0, 1], [1, 0, 0]])}
    params, _, metrics = _step(small_space, lambda *_: (masks,), l2=0.5)

    def squares(tree):
        return sum(float(np.sum(np.square(w))) for w in jax.tree.leaves(tree) if w.ndim > 1)

    ops = params["cell0"]["block0_ops"]
    expected = squares(params) - squares(ops["1"]) - 0.5 * squares(ops["2"])
    np.testing.assert_allclose(metrics["l2"], 0.5 * expected, rtol=1e-5)
    _, _, metrics = _step(small_space, lambda *_: (masks,), l2=0.5, l2_unused=True)
    np.testing.assert_allclose(metrics["l2"], 0.5 * squares(params), rtol=1e-5)


def test_gradients_per_use_are_means_over_the_ghost_batches_that_use(small_space):
    """conv7x7 is on in one of two ghost batches and moves twice as far; others as before."""
    masks = {"inputs": jnp.ones((2, 2)), "ops": jnp.asarray([[1.0, 0, 1], [1, 0, 0]])}
    moved = []
    for per_use in (False, True):
        before, after, _ = _step(small_space, lambda *_: (masks,), l2=0.1, lr=0.1, per_use=per_use)
        moved.append(flatten_dict(jax.tree.map(np.subtract, after, before)))
    for path, slow in moved[0].items():
        factor = {"1": 0, "2": 2}.get(path[2], 1) if path[1] == "block0_ops" else 1
        np.testing.assert_allclose(moved[1][path], factor * slow, rtol=1e-3, atol=1e-7)


def test_ghost_batches_of_a_standalone_network_one_by_one_or_together(setup, tmp_path):
    """What "switch" does on a CPU: the same step, running statistics included."""
    config, space, data = setup
    after = []
    for execution in ("masked", "switch"):
        config = config.copy_and_resolve_references()
        config.supernet.execution = execution
        run = trainings.run_of(config, space, data, tmp_path)
        net = run.standalone("0>sep3x3|0>identity,maxpool", filters=4, bn="recorded")
        task = loop.Task(name="alone", net=net, split="train")
        train = config.retrain.short.train.copy_and_resolve_references()
        train.num_steps = 3
        training = loop.Training(task, train, data, jax.devices()[:1])
        state = training.fit(tmp_path / execution, seed=0)
        after.append(jax.device_get((state.params, state.batch_stats)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *after)


def test_masks_and_augmentation_do_not_depend_on_the_number_of_devices():
    """Groups 0..7 drawn at once, and groups 4..7 by a second device, are the same rows."""
    space = spaces.make("cell", num_cells=1, num_blocks=2)
    draw = functools.partial(path_dropout.sample, jax.random.key(3), space.choices, r=0.3, share=1)
    everything, half = draw(jnp.arange(8)), draw(jnp.arange(4, 8))
    for a, b in zip(jax.tree.leaves(everything), jax.tree.leaves(half)):
        np.testing.assert_array_equal(a[4:], b)
    keys = rng.each(jax.random.key(1), jnp.arange(8))
    assert (keys[4:] == rng.each(jax.random.key(1), jnp.arange(4, 8))).all()
