"""A checkpoint says what it is of, and is not taken for something else of the same shapes."""

import dataclasses
import json
import logging
import shutil
from typing import Any, NamedTuple

import numpy as np
import pytest

from nas_jax import pipeline, spaces
from nas_jax.config import variants
from nas_jax.storage import compatibility, identity
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import restoration
from tests import trainings
from tests.configs import tiny

OPS = ("identity", "sep3x3", "maxpool")
REVERSED = ("maxpool", "sep3x3", "identity")  # parameters have the same names and shapes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, its data, a folder with the checkpoints of its supernet)."""
    config = tiny.get_config()
    config.space.num_cells = config.space.num_blocks = 1
    config.supernet.train.num_steps = 10
    config, space, data = trainings.build(config)
    directory = tmp_path_factory.mktemp("trained")
    trainings.fit((config, space, data), directory)
    return config, data, directory


def _restore(trained, *fields, **of_data):
    """Restore the checkpoints with a config that differs in fields, and data in attributes."""
    config, data, directory = trained
    config = variants.changed(config, "", fields)
    space = spaces.make(**config.space.to_dict())
    data = dataclasses.replace(data, **of_data)
    return restoration.restore(trainings.run_of(config, space, data, directory), directory)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("space.ops", REVERSED, r"space\.ops is \['identity', .* there and \['maxpool', .* here"),
        ("space.ops", ("identity", "sep3x3", "avgpool"), r"space\.ops is"),
        ("network.relu_before_bn", True, r"network\.relu_before_bn is False there and True here"),
        ("network.bn_epsilon", 1e-5, r"network\.bn_epsilon is 0\.001 there and 1e-05 here"),
    ],
)
def test_another_network_of_the_same_shapes_is_refused(trained, field, value, said):
    with pytest.raises(ValueError, match=f"checkpoint .* is of another network: {said}"):
        _restore(trained, (field, value))


def test_other_classes_are_refused(trained):
    names = tuple("abcdefghij")
    with pytest.raises(ValueError, match=r"names of classes is \['0', .* there and \['a', "):
        _restore(trained, class_names=names)


def test_other_images_are_refused_unless_they_are_meant(trained):
    _, data, _ = trained
    images = data.images.copy()
    images[0, 0, 0, 0] ^= 1
    with pytest.raises(ValueError, match=r"other images.*supernet\.other_data=True"):
        _restore(trained, images=images)
    (state,) = _restore(trained, ("supernet.other_data", True), images=images)
    assert state.step == 10


@pytest.mark.parametrize(
    "fields",
    [
        [("supernet.execution", "masked")],
        [("network.dtype", "bfloat16")],
        [("network.bn_momentum", 0.5)],  # of running statistics, which a supernet has not
        [("supernet.train.base_lr", 9.0), ("seed", 5)],
    ],
)
def test_how_it_is_computed_or_was_trained_does_not_count(trained, caplog, fields):
    (state,) = _restore(trained, *fields)
    assert state.step == 10
    assert not caplog.records


def test_another_sampler_is_a_note(trained, caplog):
    with caplog.at_level(logging.WARNING):
        _restore(trained, ("supernet.sampler", "single_path"))
    assert "was trained with supernet.sampler='path_dropout', not 'single_path'" in caplog.text


def test_a_checkpoint_that_does_not_say_is_read_with_a_warning(trained, tmp_path, caplog):
    config, data, directory = trained
    shutil.copytree(directory, tmp_path / "old")
    (path,) = (tmp_path / "old").glob("checkpoints/10/_CHECKPOINT_METADATA")
    content = json.loads(path.read_text())
    del content["custom_metadata"]["of"]
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        (state,) = _restore((config, data, tmp_path / "old"))
    assert state.step == 10
    assert "does not say what it is of" in caplog.text


def test_of_many_classes_the_first_that_differs_is_named():
    there = identity.Identity({"names of classes": [f"a{i}" for i in range(1000)]}, "").to_json()
    here = identity.Identity({"names of classes": [f"a{i % 700}" for i in range(1000)]}, "")
    message = r"number 700 of names of classes is 'a700' there and 'a0' here"
    with pytest.raises(ValueError, match=message) as error:
        here.check("path", there)
    assert len(str(error.value)) < 300


def test_the_last_checkpoint_is_not_passed_over_for_an_older_one_that_does_not_say(tmp_path):
    state = State(np.int32(1), {"kernel": np.ones(3, np.float32)})
    first, other = (identity.Identity({"space.ops": ops}, "") for ops in (OPS, REVERSED))
    for step, saved_as in ((1, None), (2, first)):
        with Checkpoints(tmp_path / "checkpoints", identity=saved_as) as checkpoints:
            checkpoints.save(step, state)
    with (
        Checkpoints(tmp_path / "checkpoints", identity=other) as checkpoints,
        pytest.raises(ValueError, match=r"is of another network: space\.ops"),
    ):
        checkpoints.resume(state)
    with Checkpoints(tmp_path / "checkpoints", identity=first) as checkpoints:
        assert checkpoints.resume(state).step == 2


class State(NamedTuple):
    """A small train state."""

    step: Any
    params: Any


def test_copied_checkpoints_are_swept_by_their_own_network_alone(trained, tmp_path):
    """The checkpoints in a new workdir, as one does to score them in another way."""
    config, _, directory = trained
    shutil.copytree(directory / "checkpoints", tmp_path / "run" / "checkpoints")
    config = variants.changed(config, "", [("space.ops", REVERSED)])
    with pytest.raises(ValueError, match=r"space\.ops"):
        pipeline.run(config, "sweep", tmp_path / "run")
    assert not (tmp_path / "run" / "trials.jsonl").exists()


def test_a_field_that_did_not_exist_had_the_value_of_then(monkeypatch):
    monkeypatch.setattr(compatibility, "ABSENT", {"network.new": 1})
    there = {"network": {}, "images": "", "notes": {}}
    identity.Identity({"network.new": 1}, "").check("path", there)
    with pytest.raises(ValueError, match=r"network\.new is 1 there and 2 here"):
        identity.Identity({"network.new": 2}, "").check("path", there)
