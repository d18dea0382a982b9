"""Several architectures on the images of one step: their gradients, and in-place distillation."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from nas_jax.runtime import distributed
from nas_jax.training import losses, train_step
from nas_jax.training.hyperparameters import HyperParameters
from tests import trainings
from tests.configs import tiny

PIXELS = np.asarray([1, 2, -1, 3, 0.5, -2, 4, 1.5], np.float32)  # an image is one pixel
LABELS = np.asarray([0, 1, 0, 0, 1, 1, 1, 0], np.int32)
WEIGHTS = np.asarray([0.3, -0.8], np.float32)
ARCHS = np.asarray([[1, 1], [1, 0], [0, 1]], np.float32)  # the largest first
SMOOTHING = 0.2


class Net(nn.Module):
    """Logits (s x, 0) of a pixel x, where s is the sum of the weights that are on."""

    num_classes: int = 2
    execution: str = "masked"

    @nn.compact
    def __call__(self, images, masks):
        weights = self.param("weights", lambda key: jnp.asarray(WEIGHTS))
        pixels = images[..., 0, 0, 0] * (masks @ weights)[:, None]
        return jnp.stack([pixels, jnp.zeros_like(pixels)], -1)


def sampled(key, step, groups, state, hyper):
    """Each group its architecture, by its number."""
    return jnp.asarray(ARCHS)[groups % len(ARCHS)]


@functools.cache
def stepped(at_once=1, devices=1, distils=False, archs_per_step=3, **options):
    """How far the weights move in a step of rate 1 without momentum, and the metrics."""
    step = train_step.TrainStep(
        Net(),
        prepare=lambda keys, images: images,
        num_groups=4 // devices,
        groups_at_once=at_once,
        sampler=sampled,
        nesterov=False,
        archs_per_step=archs_per_step,
        distils=distils,
        **options,
    )
    hyper = HyperParameters(*map(np.float32, (1, 0, 0, 0, SMOOTHING, 0, 0)))
    batch = {"image": PIXELS.reshape(8, 1, 1, 1), "label": LABELS}
    batch = distributed.shard(batch, devices)
    state = train_step.create({"params": {"weights": WEIGHTS}})
    devices = jax.devices()[:devices]
    run = distributed.pmap(step, split={"batch"}, split_out=False, devices=devices)
    after, metrics = jax.device_get(run(state, batch, jax.random.key(0), hyper))
    return after.params["weights"] - WEIGHTS, metrics


def by_hand(distils):
    """The sum over architectures of mean gradients: (p - target) x for each weight that is on."""
    labels = (1 - SMOOTHING) * (LABELS == 0) + SMOOTHING / 2
    predictions = [special.expit(PIXELS * (arch @ WEIGHTS)) for arch in ARCHS]
    targets = [labels, *[predictions[0] if distils else labels] * 2]
    move, loss = np.zeros(2), []
    for arch, p, target in zip(ARCHS, predictions, targets):
        move -= np.mean((p - target) * PIXELS) * arch
        loss.append(np.mean(-target * np.log(p) - (1 - target) * np.log(1 - p)))
    return move, np.mean(loss)


@pytest.mark.parametrize("distils", [False, True])
@pytest.mark.parametrize(("at_once", "devices"), [(1, 1), (2, 1), (4, 1), (1, 4), (2, 2)])
def test_gradients_of_all_architectures_are_added_up(at_once, devices, distils):
    """Whatever the number of devices and of ghost batches at a time; the loss is a mean."""
    moved, metrics = stepped(at_once, devices, distils)
    move, loss = by_hand(distils)
    np.testing.assert_allclose(moved, move, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert metrics.keys() == {"loss", "accuracy", "l2"}


def test_a_teacher_changes_what_the_others_learn():
    taught, untaught = (stepped(distils=distils)[0] for distils in (True, False))
    assert np.abs(taught - untaught).min() > 0.1


def test_predictions_are_targets_without_class_weights_or_another_loss():
    """Labels are weighted by class, a teacher's predictions are not."""
    weighted = losses.Loss(class_weights=(3.0, 3.0))
    moved, _ = stepped(distils=True, loss=weighted)
    plain, _ = stepped(distils=True)
    labels = 0.8 * (LABELS == 0) + 0.1
    of_largest = -np.mean((special.expit(PIXELS * WEIGHTS.sum()) - labels) * PIXELS)
    np.testing.assert_allclose(moved - plain, 2 * of_largest, rtol=1e-4)


def test_without_it_each_ghost_batch_has_its_own_architecture():
    """Four ghost batches of two images: the architectures 0, 1, 2, 0, a mean over all."""
    moved, _ = stepped(archs_per_step=0)
    labels, move = (1 - SMOOTHING) * (LABELS == 0) + SMOOTHING / 2, np.zeros(2)
    for group, number in enumerate((0, 1, 2, 0)):
        images = slice(2 * group, 2 * group + 2)
        p = special.expit(PIXELS[images] * (ARCHS[number] @ WEIGHTS))
        move -= np.mean((p - labels[images]) * PIXELS[images]) * ARCHS[number] / 4
    np.testing.assert_allclose(moved, move, rtol=1e-5)


# -- the fields -----------------------------------------------------------------------------------


def test_a_round_of_fair_is_whole():
    fields = trainings.SMALL | {"supernet.sampler": "fair", "supernet.archs_per_step": 4}
    message = r"^config\.supernet\.archs_per_step=4, .* takes 3 architectures here or a multiple"
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny.get_config(), fields)
    trainings.built_with(tiny.get_config(), fields | {"supernet.archs_per_step": 6})
    fields |= {"space.num_blocks": 5, "space.ops": ("identity", "sep3x3")}
    with pytest.raises(ValueError, match=r"takes 9,765 architectures here, more than the 1,000"):
        trainings.built_with(tiny.get_config(), fields)
