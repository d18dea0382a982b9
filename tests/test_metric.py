"""Balanced accuracy and macro F1: as scikit-learn's, of candidates and of networks, in reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as theirs

from nas_jax import pipeline, spaces
from nas_jax.oneshot import accuracy, class_metrics
from nas_jax.report import results
from nas_jax.standalone import evaluation
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny

THEIRS = {
    "accuracy": theirs.accuracy_score,
    "balanced_accuracy": theirs.balanced_accuracy_score,
    "macro_f1": lambda labels, predicted: theirs.f1_score(labels, predicted, average="macro"),
}
SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3"))


def _drawn(seed):
    """(predicted [2, 40], labels [40]) of 6 classes: some without images, some never predicted."""
    generator = np.random.default_rng(seed)
    predicted = generator.integers(0, generator.integers(2, 7), (2, 40))
    labels = np.minimum(generator.integers(0, 8, 40), generator.integers(1, 6))
    return predicted, labels


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("metric", class_metrics.METRICS)
def test_metrics_are_those_of_scikit_learn(metric, seed):
    predicted, labels = _drawn(seed)
    expected = [THEIRS[metric](labels, row) for row in predicted]
    counts = class_metrics.class_counts(jnp.asarray(predicted), jnp.asarray(labels), 6)
    np.testing.assert_allclose(class_metrics.of_counts(metric, counts), expected, rtol=1e-6)
    batches = [(np.arange(i, min(i + 16, 40)), labels[i : i + 16]) for i in (0, 16, 32)]
    whole = evaluation.counts_of_each(lambda images: predicted[:, images], batches, 6)
    np.testing.assert_array_equal(whole, counts)
    np.testing.assert_allclose(class_metrics.of_counts(metric, whole), expected, rtol=1e-12)


def test_metrics_by_hand():
    """Of classes 0 0 0 1, predicted 0 0 1 2: recalls 2/3 and 0; F1 of 0 is 4/5, of 1 and 2 is 0."""
    counts = class_metrics.class_counts(jnp.asarray([0, 0, 1, 2]), jnp.asarray([0, 0, 0, 1]), 4)
    np.testing.assert_array_equal(counts, [[2, 0, 0, 0], [2, 1, 1, 0], [3, 1, 0, 0]])
    found = [float(class_metrics.of_counts(metric, counts)) for metric in class_metrics.METRICS]
    np.testing.assert_allclose(found, [1 / 2, 1 / 3, 4 / 15], rtol=1e-6)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_a_failure_stays_nan(metric):
    counts = np.full((2, 3, 4), np.nan)
    counts[0] = 1
    assert np.isnan(class_metrics.of_counts(metric, counts)).tolist() == [False, True]


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("metric", class_metrics.METRICS)
def test_candidates_are_judged_over_all_batches(metric, devices):
    """The metric of all images, not the mean over batches; broken weights give NaN."""
    net = SPACE.supernet(num_classes=3, filters=4)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (24, 8, 8, 1), np.uint8)
    labels = np.minimum(generator.integers(0, 5, 24, np.int32), 2)
    archs = jax.device_get(SPACE.sample(jax.random.key(1), (4,)))
    variables = net.init(jax.random.key(0), images[:1] / 255, SPACE.all_on())

    def prepare(images):
        return images.astype(jnp.float32) / 255

    given = {"batch_size": 12, "prepare": prepare, "devices": jax.devices()[:devices]}
    found = accuracy.OneShotAccuracy(net, variables, images, labels, metric=metric, **given)(archs)
    predicted = np.concatenate(
        [
            np.argmax(net.logits_of_each(variables, prepare(images[i : i + 12]), archs), -1)
            for i in (0, 12)
        ],
        -1,
    )
    expected = [THEIRS[metric](labels, row) for row in predicted]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    broken = jax.tree.map(lambda x: x * np.nan, variables)
    found = accuracy.OneShotAccuracy(net, broken, images, labels, metric=metric, **given)(archs)
    assert np.isnan(found).all()


@pytest.mark.system
@pytest.mark.parametrize("how", ["together", "each"])
def test_a_search_by_macro_f1_is_reported_as_one(tmp_path, how):
    config = tiny.get_config()
    fields = trainings.SMALL | {"metric": "macro_f1", "sweep.num_candidates": 8}
    fields |= {"retrain.compile": how, "retrain.short.train.optimizer": "adamw"}
    fields |= {"retrain.short.train.base_lr": 0.3, "retrain.short.train.ema": 0.5}
    config.update_from_flattened_dict(fields)
    pipeline.run(config, "search", tmp_path)
    rows = json_files.read_trials(tmp_path / "trials.jsonl")
    assert all(row["value"] is not None and row["one_shot_accuracy"] is None for row in rows)
    for protocol, field in (("short", "valid"), ("final", "test")):
        for path in (tmp_path / "retrain" / protocol).glob("F*/*/*/result.json"):
            row = results.read_result(path)
            assert 0 < row[f"{field}_macro_f1"] < 1
            assert row[f"{field}_macro_f1"] != row[f"{field}_accuracy"]
    text = (tmp_path / "report" / "report.md").read_text()
    for words in ("one-shot macro F1", "test macro F1 (%)", "accuracy below is the macro F1"):
        assert words in text
    assert "one-shot accuracy" not in text


def test_an_unknown_metric_is_refused():
    message = "config.metric='f1' is none of accuracy, .*nearest: 'macro_f1'"
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny.get_config(), {"metric": "f1"})
