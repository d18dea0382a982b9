"""Five training steps and eight one-shot values of each space are those of `golden.json`.

A change that moves these numbers changes what runs compute. If it is meant to, write them anew with
the oldest supported jax, and let the commit say why they moved:

  python -m tests.test_golden
"""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from nas_jax import spaces
from nas_jax.candidates import evaluators
from nas_jax.data import augment
from nas_jax.runtime import rng
from nas_jax.training import restoration
from tests import trainings
from tests.configs import tiny

GOLDEN = Path(__file__).with_name("golden.json")
JAX = ".".join(jax.__version__.split(".")[:2])  # other versions may round in another order
SPACES = {
    "cell": {"num_cells": 1, "num_blocks": 2, "ops": ("identity", "sep3x3", "maxpool")},
    "nasbench201": {"num_cells": 1, "num_stages": 1},
    "nasbench_macro": {"stages": (2,), "head": 2},
}
EXECUTIONS = {"nasbench_macro": "masked"}  # that of accelerators; the others have that of CPUs
NUM_ARCHS, NUM_IMAGES = 8, 64
CURVES, VALUES = ("loss", "l2"), ("mean_largest_logit", "accuracy")  # of steps; of architectures


def config_of(name):
    """Five steps with path dropout, whose rate rises to r^(1/k); values of 64 images.

    At a high rate: a change of a hyper-parameter by a hundredth is then seen after five steps.
    """
    config = tiny.get_config()
    config.space = ConfigDict(spaces.defaults(name) | {"name": name, **SPACES[name]})
    config.supernet.execution = EXECUTIONS.get(name, "switch")
    train = config.supernet.train
    train.num_steps, train.log_every, train.checkpoint_every = 5, 1, 0
    train.base_lr, train.schedule = 12.8, "constant"
    config.sweep.num_images = config.sweep.batch_size = NUM_IMAGES
    return config


def numbers(config, directory, texts=None):
    """Curves of the steps, and {string: value}, of `texts` or of a few architectures."""
    built = trainings.build(config)
    _, rows = trainings.fit(built, directory)
    run = trainings.run_of(*built, directory)
    archs = run.space.from_strs(texts or few(run.space))
    texts = run.space.to_strs(archs)
    accuracies = evaluators.make(run, directory).evaluator(archs)
    logits = mean_largest_logits(run, directory, archs)
    curves = {curve: [row[curve] for row in rows] for curve in CURVES}
    values = (dict(zip(texts, of_each.tolist())) for of_each in (logits, accuracies))
    return curves | dict(zip(VALUES, values))


def few(space):
    """The strings of the first architectures that a fixed seed draws."""
    drawn = space.to_strs(jax.device_get(space.sample(rng.key(0), (4 * NUM_ARCHS,))))
    return list(dict.fromkeys(drawn))[:NUM_ARCHS]


def mean_largest_logits(run, directory, archs):
    """Float [N], of the logits that one-shot accuracy counts in steps of an image."""
    images, _ = run.data.fixed("valid", NUM_IMAGES)
    images = augment.standardiser(run.data)(images)
    (weights,) = restoration.restore(run, directory)
    logits = jax.jit(run.supernet().logits_of_each)({"params": weights.params}, images, archs)
    return np.asarray(logits).max(-1).mean(-1)


@pytest.mark.parametrize("name", SPACES)
def test_numbers_are_those_of_the_file(name, tmp_path):
    golden = json.loads(GOLDEN.read_text())
    if golden["jax"] != JAX:
        pytest.skip(f"golden.json was made with jax {golden['jax']}, here is jax {JAX}")
    if jax.default_backend() != "cpu":
        pytest.skip(f"golden.json was made on a CPU, here is a {jax.default_backend()}")
    expected = golden[name]
    found = numbers(config_of(name), tmp_path, list(expected["accuracy"]))
    assert found.keys() == expected.keys()
    for kind, theirs in expected.items():
        tolerance = {"rtol": 1e-3}
        if kind == "accuracy":  # an image may lie between two classes
            tolerance = {"rtol": 0, "atol": 1.01 / NUM_IMAGES}
        ours, theirs = (jax.tree.leaves(these) for these in (found[kind], theirs))
        np.testing.assert_allclose(ours, theirs, **tolerance, err_msg=f"{name}: {kind}")


def write():
    """Write `golden.json`."""
    jax.config.update("jax_platforms", "cpu")
    golden = {"jax": JAX}
    for name in SPACES:
        with tempfile.TemporaryDirectory() as directory:
            found = numbers(config_of(name), Path(directory))
        golden[name] = jax.tree.map(lambda value: round(value, 6), found)
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write()
