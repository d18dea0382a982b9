"""Populations of one stand-alone network: what a member is, what is kept, and what is refused."""

import json

import jax
import numpy as np
import pytest

from nas_jax.data import augment
from nas_jax.report import page
from nas_jax.standalone import evaluation, populations, retrain
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import lineage
from nas_jax.training.hyperparameters import HyperParameters
from tests import trainings
from tests.configs import tiny
from tests.trainings import Stop, Stopping

pytestmark = pytest.mark.system

TEXT = "1>sep3x3"
OPTIONS = (("population", 4), ("tunes", ("base_lr", "l2", "label_smoothing")))
FIELDS = trainings.SMALL | {
    "retrain.archs": (TEXT,),
    "retrain.short.groups.random": 0,
    "retrain.short.groups.stratified": 0,
    "retrain.final.groups.top": 0,
    "retrain.final.pbt": OPTIONS,
    "retrain.final.pbt_every": 5,
    "retrain.final.train.label_smoothing": 0.05,
    "retrain.final.train.checkpoint_every": 10,
}
PLACE = f"retrain/final/F4/{retrain.arch_id(TEXT)}/named0"


def _run(directory, wrap=lambda data: data, **fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    config, space, data = trainings.built_with(tiny.get_config(), FIELDS | fields)
    return trainings.run_of(config, space, wrap(data), directory)


def _training(run, devices=1, seed=0):
    return retrain.training_of(run, "final", TEXT, 4, jax.devices()[:devices], seed)


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with one network, the best of four."""
    directory = tmp_path_factory.mktemp("run")
    retrain.retrain(_run(directory))
    return directory


def test_the_network_is_the_best_of_its_population(trained):
    """By validation images; its weights are where those of a network alone would be."""
    folder = trained / PLACE
    rows = lineage.read(folder / "population" / "lineage.jsonl")
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20]
    assert lineage.hyperparameters(rows) == ["learning_rate", "l2", "label_smoothing"]
    assert rows[-1]["parents"] == [0, 1, 2, 3]
    result = json.loads((folder / "result.json").read_text())
    assert result["population"] == 4
    assert result["epochs"] == 20 * 32 / 512  # of the training split alone
    assert not (folder / "population" / "checkpoints").exists()
    run = _run(trained)
    training = _training(run, len(jax.local_devices()))
    states = jax.device_get(training.fit(trained / "again", seed=0))
    best = int(np.argmax(rows[-1]["scores"]))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest == 20
        one = jax.tree.map(lambda leaf: leaf[best], states._replace(sampler_state={}))
        trainings.assert_equal(checkpoints.restore(20, one), one)
    accuracy = _on_validation_images(run, training.task.net, one.variables)
    assert rows[-1]["scores"][best] == pytest.approx(accuracy)


def _on_validation_images(run, net, variables):
    batches = run.data.in_order("valid", 50)
    net, prepare = net.clone(bn="running"), augment.standardiser(run.data)
    return evaluation.accuracy(net, variables, batches, prepare=prepare)


def test_what_a_kill_left_of_a_population_is_removed(trained):
    """It came after result.json; the network is not trained again."""
    folder = trained / PLACE
    before = (folder / "result.json").read_bytes()
    left = folder / "population" / "checkpoints"
    (left / "20").mkdir(parents=True)
    retrain.retrain(_run(trained))
    assert not left.exists()
    assert (folder / "population" / "lineage.jsonl").exists()
    assert (folder / "result.json").read_bytes() == before


def test_the_report_has_its_schedule(trained):
    run = _run(trained)
    (trained / "config.json").write_text(run.config.to_json())
    text = page.write(trained, run.space).read_text()
    assert "## Found schedule" in text
    assert "Each network is the best of a population (retrain.final.pbt)" in text
    assert "4 trainings of the final network F4/" in text
    assert "| from step | learning rate | L2 | label smoothing |" in text
    assert len([*(trained / "report").glob("schedule_F4_*_named0.png")]) == 1


def test_a_member_is_a_training_of_its_own(tmp_path):
    """With halved rate and smoothing, and ten times the L2: its config's, set to that."""
    run = _run(tmp_path, wrap=trainings.SameOrder)
    training = _training(run)
    own = {"learning_rate": 0.5, "l2": 10.0, "label_smoothing": 0.5}
    first = training.task.turn.first_sampler_state
    assert {*own} == {*first} & {*HyperParameters._fields}
    first |= {name: np.asarray([1, factor, 1, 1], np.float32) for name, factor in own.items()}
    state, roots = _stepped(training, tmp_path)
    train = {"base_lr": 1.6, "l2": 1e-3, "label_smoothing": 0.025}
    fields = {f"retrain__final__train__{name}": value for name, value in train.items()}
    alone = _run(tmp_path, wrap=trainings.SameOrder, retrain__final__pbt=(), **fields)
    other = _training(alone)
    assert other.task.turn is None
    assert other.task.split == "train+valid"
    one, _ = _stepped(other, tmp_path, seed=1)
    trainings.assert_equal(jax.tree.map(lambda x: x[1], state.params), one.params, atol=1e-5)
    assert len(roots) == 4


def _stepped(training, directory, seed=0):
    """The state after a step on the same images, and the root keys."""
    layout, schedule = training._layout, training._schedule(1.0)
    first = training._first_state(seed, None, None)
    layout.begin(directory / "stepped", 0, first, schedule)
    state, root = layout.place(first, seed)
    batch = next(layout.batches(training._data, "train", 32, 0, 0))
    state, _ = training._step(state, batch, root, layout.hyper(schedule.at(0)))
    return jax.device_get(state), np.atleast_1d(jax.random.key_data(root))


def test_resumed_equals_uninterrupted_bit_for_bit(trained, tmp_path):
    """Stopped after step 17, resumed from step 10; also what is said of it."""
    with pytest.raises(Stop):
        retrain.retrain(_run(tmp_path, wrap=Stopping))
    assert not (tmp_path / PLACE / "result.json").exists()
    retrain.retrain(_run(tmp_path))
    results = [json.loads((d / PLACE / "result.json").read_text()) for d in (trained, tmp_path)]
    assert results[0] | {"seconds": 0} == results[1] | {"seconds": 0}
    name = f"{PLACE}/population/lineage.jsonl"
    assert _rows(tmp_path / name) == _rows(trained / name)


def test_one_device_equals_eight(tmp_path):
    """A member on each two of them: half of its ghost batches each."""
    run = _run(tmp_path, retrain__final__train__num_steps=4, retrain__final__pbt_every=2)
    one, many = (jax.device_get(_training(run, n).fit(tmp_path / str(n), seed=1)) for n in (1, 8))
    trainings.assert_equal(one.params, many.params, atol=1e-4)
    rows = [_rows(tmp_path / str(n) / "lineage.jsonl") for n in (1, 8)]
    assert [row["parents"] for row in rows[0]] == [row["parents"] for row in rows[1]]


def test_a_member_that_diverges_is_never_the_network(tmp_path):
    """Nor does it leave a number that is none."""
    run = _run(tmp_path)
    training = _training(run)
    rates = np.asarray([1e30, 1, 1, 1e30], np.float32)
    training.task.turn.first_sampler_state["learning_rate"] = rates
    state = populations.train(run, tmp_path / "network", training, seed=0)
    rows = _rows(tmp_path / "network" / "population" / "lineage.jsonl")
    assert rows[1]["scores"][0] is rows[1]["scores"][3] is None
    assert {*rows[1]["parents"]} == {1, 2}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"retrain.final.pbt": (("populatoin", 4),)},
            "config.retrain.final.pbt: 'populatoin' is no option of pbt, .*nearest: population",
        ),
        (
            {"retrain.final.pbt": (("tunes", ("l3",)),)},
            "config.retrain.final.pbt: tunes='l3' .*nearest: 'l2'",
        ),
        (
            {"retrain.final.pbt": (("tunes", ("r",)),)},
            "'r' cannot be tuned: no path is dropped",
        ),
        (
            {"retrain.final.train.label_smoothing": 0.0},
            "retrain.final.train.label_smoothing=0.0 cannot be tuned: a factor leaves it at 0",
        ),
        ({"retrain.compile": "together"}, "config.retrain.compile='together', but .*final.pbt"),
        ({"retrain.final.pbt_every": 21}, "pbt_every=21, but there are only 20 steps"),
        (
            {"retrain.final.train.batch_size": 640, "retrain.final.train.ghost_batch_size": 64},
            "batch_size=640 is more than the 512 images of train",
        ),
        ({"retrain.final.pbt_every": 0}, "pbt_every=0 must be 1 or more"),
    ],
)
def test_what_cannot_be_is_said(fields, message):
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny.get_config(), FIELDS | fields)
