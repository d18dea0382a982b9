"""Scoring, batched and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.oneshot import batch_statistics, schedule
from nas_jax.oneshot.accuracy import OneShotAccuracy
from nas_jax.oneshot.divergence import KLDivergence
from nas_jax.standalone import evaluation
from tests.spaces.test_cell import random_variables


@pytest.fixture(scope="module")
def scored():
    """(space, net, variables, images, labels, masks of 16 architectures)."""
    ops = ("identity", "sep3x3", "avgpool")
    space = spaces.make("cell", num_cells=1, num_blocks=1, ops=ops)
    net = space.supernet(num_classes=10, filters=4)
    generator = np.random.default_rng(0)
    brightness = generator.integers(1, 256, (32, 1, 1, 1))  # so that predictions differ
    images = (brightness * generator.uniform(0, 1, (32, 8, 8, 1))).astype(np.uint8)
    labels = generator.integers(0, 10, 32, np.int32)
    variables = random_variables(net, np.zeros((1, 8, 8, 1)), space.all_on())
    archs = jax.device_get(space.sample(jax.random.key(1), (16,)))
    return space, net, variables, images, labels, archs


@functools.cache
def _apply(net, mutable=False):
    return jax.jit(functools.partial(net.apply, mutable=mutable))


def _prepare(images):
    return images.astype(np.float32) / 255


def _scores(scored, devices, variables=None, batch_size=16):
    _, net, own, images, labels, archs = scored
    scorer = OneShotAccuracy(
        net,
        own if variables is None else variables,
        images,
        labels,
        batch_size=batch_size,
        prepare=_prepare,
        devices=devices,
    )
    return scorer(archs)


def test_minus_the_loss_is_that_of_the_logits(scored):
    """The cross-entropy in nats, of each batch with its statistics."""
    _, net, variables, images, labels, archs = scored
    given = net, variables, images, labels
    scorer = OneShotAccuracy(*given, batch_size=16, prepare=_prepare, metric="minus_loss")
    ours, apply = scorer(archs), _apply(net)
    for i in range(0, 16, 5):
        masks = jax.tree.map(lambda m, i=i: m[i], archs)
        halves = images.reshape(2, 16, *images.shape[1:])
        logits = np.concatenate([apply(variables, _prepare(half), masks) for half in halves])
        odds = logits - logits[np.arange(32), labels][:, None]
        assert ours[i] == pytest.approx(-np.log(np.exp(odds).sum(-1)).mean(), rel=1e-5)


def test_batched_scores_are_those_of_one_architecture_at_a_time(scored):
    """Statistics are per batch of 16 images and per architecture."""
    _, net, variables, images, labels, archs = scored
    expected = []
    for i in range(16):
        arch = jax.tree.map(lambda mask, i=i: mask[i], archs)
        logits = [_apply(net)(variables, _prepare(images[j : j + 16]), arch) for j in (0, 16)]
        expected.append(np.mean(np.argmax(np.concatenate(logits), -1) == labels))
    np.testing.assert_allclose(_scores(scored, jax.devices()[:1]), expected, atol=1e-6)


def test_candidates_split_over_devices_score_the_same(scored):
    one, eight = (_scores(scored, jax.devices()[:n]) for n in (1, 8))
    np.testing.assert_array_equal(one, eight)
    assert len(set(one.tolist())) > 1


def test_logits_that_are_nan_score_nan(scored):
    broken = jax.tree.map(lambda w: np.full_like(w, np.nan), scored[2])
    assert np.isnan(_scores(scored, jax.devices()[:1], variables=broken)).all()


def test_the_divergence_is_the_mean_of_both_directions_summed(scored):
    """Worked out from the logits of one architecture at a time; zero from itself."""
    space, net, variables, images, _, archs = scored
    references = space.from_strs(["0>identity", space.to_str(space.all_on())])
    arguments = {"prepare": _prepare, "devices": jax.devices()[:2]}
    found = KLDivergence(net, variables, images, references, **arguments)(archs)

    def log_predictions(masks, i):
        arch = jax.tree.map(lambda mask: mask[i], masks)
        return jax.nn.log_softmax(_apply(net)(variables, _prepare(images), arch))

    targets = [log_predictions(references, i) for i in range(2)]
    for i in range(3):
        log_p = log_predictions(archs, i)
        both = [
            np.sum(np.exp(log_p) * (log_p - log_q) + np.exp(log_q) * (log_q - log_p), -1).mean()
            for log_q in targets
        ]
        np.testing.assert_allclose(found[i], np.mean(both), rtol=1e-3, atol=1e-6)
    assert np.ptp(found) > 0
    itself = jax.tree.map(lambda mask: mask[:1], archs)
    scorer = KLDivergence(net, variables, images, itself, **arguments)
    np.testing.assert_allclose(scorer(archs)[0], 0, atol=1e-6)


def test_a_batch_that_does_not_divide_the_images_is_refused(scored):
    with pytest.raises(ValueError, match=r"num_images=32 is not a multiple of .*batch_size=10"):
        _scores(scored, None, batch_size=10)


def test_standalone_accuracy_does_not_depend_on_the_batch(scored):
    """Running statistics: the padded last batch changes nothing."""
    space, _, _, images, labels, _ = scored
    net = space.standalone(space.all_on(), num_classes=10, filters=4, bn="running")
    variables = random_variables(net, np.zeros((1, 8, 8, 1)))
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    found = [
        evaluation.accuracy(
            net,
            variables,
            [(images[i : i + size], labels[i : i + size]) for i in range(0, 32, size)],
            prepare=_prepare,
        )
        for size in (32, 20, 7)
    ]
    assert found[0] == found[1] == found[2]


# -- whose statistics -----------------------------------------------------------------------------


def _logits(scored, stats, i):
    """Of architecture i on all images, normalised by these running statistics."""
    _, net, variables, images, _, archs = scored
    arch = jax.tree.map(lambda mask: mask[i], archs)
    fixed = net.clone(bn="running")
    return _apply(fixed)({**variables, "batch_stats": stats}, _prepare(images), arch)


def _hit_rate(scored, logits):
    return np.mean(np.argmax(logits, -1) == scored[4])


def _momentless(scored, batches, archs):
    """Means over batches of what each batch leaves in running averages without memory."""
    _, net, variables, *_ = scored
    updated = net.clone(bn="running", bn_momentum=0.0)
    shapes = jax.eval_shape(updated.init, jax.random.key(0), _prepare(batches[0]), archs[0])
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["batch_stats"])
    given, found = {**variables, "batch_stats": empty}, []
    for batch, arch in zip(batches, archs):
        _, changed = _apply(updated, "batch_stats")(given, _prepare(batch), arch)
        found.append(changed["batch_stats"])
    return jax.tree.map(lambda *leaves: np.mean(leaves, 0), *found)


def test_recalibrated_statistics_are_each_candidate_s_own(scored):
    _, net, variables, images, labels, archs = scored
    batches = images[::-1].reshape(2, 16, *images.shape[1:])  # stand for training images
    scorer = OneShotAccuracy(
        net,
        variables,
        images,
        labels,
        batch_size=8,
        prepare=_prepare,
        calibration=batches,
        devices=jax.devices()[:2],
    )
    found = scorer(archs)
    for i in (0, 11):
        arch = jax.tree.map(lambda mask, i=i: mask[i], archs)
        stats = _momentless(scored, batches, [arch, arch])
        assert found[i] == pytest.approx(_hit_rate(scored, _logits(scored, stats, i)))


@pytest.mark.parametrize("execution", ["masked", "switch"])
def test_running_statistics_are_one_for_all(scored, execution):
    """Gathered over a path of its own for each batch."""
    _, net, variables, images, labels, archs = scored
    net = net.clone(execution=execution)
    batches = images.reshape(4, 8, *images.shape[1:])
    four = jax.tree.map(lambda mask: mask[:4], archs)
    gather = jax.jit(lambda params, *args: batch_statistics.gather(net, params, *args, _prepare))
    stats = gather(variables["params"], batches, four)
    each = [jax.tree.map(lambda mask, i=i: mask[i], archs) for i in range(4)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        stats,
        _momentless(scored, batches, each),
    )
    given = {**variables, "batch_stats": stats}
    one = jax.devices()[:1]
    found = OneShotAccuracy(
        net, given, images, labels, batch_size=16, prepare=_prepare, devices=one
    )(archs)
    for i in (0, 7):
        assert found[i] == pytest.approx(_hit_rate(scored, _logits(scored, stats, i)))


def test_candidates_are_evaluated_sorted_and_keep_their_places():
    """By the first Choice, then by the second; of equal ones the first comes first."""
    first = np.asarray([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    second = np.asarray([[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
    seen = []

    def evaluate(archs):
        seen.append(np.concatenate(jax.tree.leaves(archs), -1) @ [0, 10, 2, 1, 0])
        return seen[0] + [0.1, 0.2, 0.3, 0.4]

    values = schedule.evaluate_sorted(evaluate, (first, {"a": jnp.asarray(second)}))
    assert seen[0].tolist() == [11, 12, 12, 0]
    np.testing.assert_allclose(values, [12.2, 0.4, 11.1, 12.3])
