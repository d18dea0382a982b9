"""Stand-alone networks in the program of their supernet equal those of a program of their own."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from nas_jax import build
from nas_jax.nn import init as init_lib
from nas_jax.runtime import environment
from nas_jax.standalone import retrain, together
from nas_jax.storage import json_files
from nas_jax.training.metrics import Diverged
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

ARCHS = (  # inputs of one to three, ops alone and in pairs, one without parameters
    "0>identity|2>sep3x3",
    "0,1>sep3x3,maxpool|0,1,2>identity,sep3x3",
    "1>maxpool|0,2>sep3x3,maxpool",
)


def _built(**fields):
    config = tiny.get_config()
    config.space.num_cells = 1
    # L2 could fall on scales of batch norms, and on what a ghost batch leaves out: on nothing that
    # a network does not have.
    options = {"l2_norm_params": True, "l2_unused": True, "clip_norm": 0.1}
    for name in ("short", "final"):  # at this rate rounding grows slowly
        config.retrain[name].train.update({"base_lr": 0.32, **options})
    config.update_from_flattened_dict(fields)
    return trainings.build(config)


def _trained(built, directory, how, archs=ARCHS, protocol="short", wrap=lambda data: data):
    """Train the networks of both seeds; {(architecture, seed): folder}."""
    config, space, data = built
    run = trainings.run_of(config, space, wrap(data), directory)
    settings, root = config.retrain[protocol], directory / "retrain" / protocol
    jobs = retrain.jobs(settings, root, {"random": archs})
    trainer = retrain.trainer_of(run, protocol, jobs, how)
    for lot in retrain.lots(jobs, trainer.size):
        trainer.train(root, lot)
    return {(text, seed): path for path, (text, _, seed) in jobs.items()}


def _metrics(path):
    rows = json_files.read_jsonl(path / "metrics.jsonl")
    return [[row[name] for name in ("step", "loss", "l2", "learning_rate")] for row in rows]


def _result(path):
    return {**json_files.read_json(path / "result.json"), "seconds": 0}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    built = _built(**{"retrain.short.num_seeds": 2})
    folder = tmp_path_factory.mktemp("networks")
    return [_trained(built, folder / how, how) for how in ("each", "together")]


def test_losses_are_those_of_networks_alone(both):
    """Over all 20 steps, L2 on what the network has included."""
    each, in_lots = both
    assert len(each) == 2 * len(ARCHS)
    for network, path in each.items():
        np.testing.assert_allclose(_metrics(in_lots[network]), _metrics(path), rtol=1e-5)


def test_results_are_those_of_networks_alone(both):
    """Parameters and multiply-adds exactly; running statistics decide the accuracy."""
    each, in_lots = both
    for network, path in each.items():
        assert _result(in_lots[network]) == _result(path)
        there, here = (sorted(p.name for p in x.iterdir()) for x in (path, in_lots[network]))
        assert there == here == ["checkpoints", "metrics.jsonl", "result.json"]


def test_a_network_of_a_lot_is_read_as_one_that_was_trained_alone(both, tmp_path):
    """Its checkpoint is that of a finished training, which only evaluates again."""
    (text, seed), path = next(iter(both[1].items()))
    copy = shutil.copytree(path, tmp_path / "network")
    (copy / "result.json").unlink()
    run = trainings.run_of(*_built(), tmp_path)
    retrain.train_one(run, "short", copy, text, 4, seed)
    assert _result(copy) == _result(path)
    assert _metrics(copy) == _metrics(path)


def test_lanes_of_an_accelerator_and_copies_that_fill_a_lot(both, tmp_path):
    """Masked, 3 networks as 2 devices of 2 lanes; the fourth is a copy, which leaves nothing."""
    built = _built(**{"supernet.execution": "masked"})
    run, root = trainings.run_of(*built, tmp_path), tmp_path / "retrain"
    jobs = retrain.jobs(run.config.retrain.short, root, {"random": ARCHS})
    devices = jax.devices()[:2]
    lots = together.Together(run, "short", retrain.SPLITS["short"], len(jobs), devices)
    assert lots.size == 4
    lots.train(root, jobs)
    assert sorted(root.glob("F4/*/seed0")) == sorted(jobs)
    for path, (text, _, seed) in jobs.items():
        alone = both[0][text, seed]
        np.testing.assert_allclose(_metrics(path), _metrics(alone), rtol=1e-5)
        assert _result(path)["flops"] == _result(alone)["flops"]


def test_a_lot_resumes_bit_for_bit(both, tmp_path):
    """Stopped after 17 steps, it goes on from the checkpoint of step 10."""
    built = _built()
    with pytest.raises(trainings.Stop):
        _trained(built, tmp_path, "together", wrap=trainings.Stopping)
    assert len(list(tmp_path.glob("retrain/short/lots/*/checkpoints/10"))) == 1
    for network, path in _trained(built, tmp_path, "together").items():
        assert _metrics(path) == _metrics(both[1][network])
        assert _result(path) == _result(both[1][network])
    assert not list(tmp_path.glob("retrain/short/lots/*"))


def test_a_lot_that_was_killed_between_its_results_trains_nothing_again(
    both, tmp_path, monkeypatch
):
    """What has a result keeps it; the others get theirs from the lot's last checkpoint."""
    built, write, written = _built(), together.evaluation.write_result, []

    def stopping(*args, **kwargs):
        if written:
            raise trainings.Stop
        written.append(args[2])
        write(*args, **kwargs)

    monkeypatch.setattr(together.evaluation, "write_result", stopping)
    with pytest.raises(trainings.Stop):
        _trained(built, tmp_path, "together")
    monkeypatch.setattr(together.evaluation, "write_result", write)
    [first] = tmp_path.glob("retrain/short/F4/*/seed0/result.json")
    assert first.parent == written[0]
    before = first.stat().st_mtime_ns
    networks = _trained(built, tmp_path, "together", wrap=_NoBatches)
    assert first.stat().st_mtime_ns == before
    for network, path in networks.items():
        assert _metrics(path) == _metrics(both[1][network])
        assert _result(path) == _result(both[1][network])


class _NoBatches(trainings.Stopping):
    """The same data, of which no batch for training may be read."""

    def batches(self, *args, **kwargs):
        raise AssertionError("a network is trained again")


def test_the_folder_of_a_lot_names_all_that_its_checkpoints_depend_on(tmp_path):
    """Widths, and sizes: a killed run may go on with more cores."""
    names = {
        together._name({tmp_path / "x": (text, filters, seed)}, size, restarts)
        for text in ARCHS
        for filters in (4, 8)
        for seed in (0, 1)
        for size in (1, 2)
        for restarts in (0, 1)
    }
    assert len(names) == len(ARCHS) * 2**4


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_network_that_diverges_does_not_disturb_the_others(both, tmp_path, monkeypatch, restarts):
    """Its first weights are NaN once: it begins again with a tenth of the rate, or is named."""
    built, drawn = _built(**{"retrain.short.train.restarts": restarts}), []
    space, draw = built[1], init_lib.StandaloneInit.__call__

    def broken(self, key, arch):
        drawn.append(space.to_str(arch))
        first = drawn.count(ARCHS[0]) == 1 and drawn[-1] == ARCHS[0]
        return jax.tree.map(lambda x: x * np.nan if first else x, draw(self, key, arch))

    monkeypatch.setattr(init_lib.StandaloneInit, "__call__", broken)
    if restarts:
        networks = _trained(built, tmp_path, "together")
    else:
        with pytest.raises(Diverged, match=f"training of {re.escape(ARCHS[0])} .* diverged"):
            _trained(built, tmp_path, "together")
        networks = _trained(built, tmp_path, "together", ARCHS[1:])  # they are there
    for (text, seed), path in networks.items():
        rates = [row[-1] for row in _metrics(path)]
        usual = [row[-1] for row in _metrics(both[1][text, seed])]
        if text == ARCHS[0]:
            np.testing.assert_allclose(rates, np.divide(usual, 10), rtol=1e-6)
            assert np.isfinite(_metrics(path)).all()
        else:
            assert _metrics(path) == _metrics(both[1][text, seed])
            assert _result(path) == _result(both[1][text, seed])


@pytest.mark.parametrize(
    ("most", "devices", "lanes", "size"),
    [(1, 8, 1, 1), (5, 8, 8, 5), (8, 8, 1, 8), (25, 2, 1, 2), (5, 2, 8, 6), (25, 1, 8, 8)],
)
def test_lots_are_as_large_as_devices_and_lanes(most, devices, lanes, size):
    assert together.size_of_lot(most, devices, lanes) == size


@pytest.mark.parametrize(
    ("given", "backend", "execution", "filters", "how"),
    [
        ("auto", "cpu", "auto", (64,), "together"),
        ("auto", "cpu", "masked", (4,), "each"),
        ("auto", "tpu", "auto", (4, 16), "together"),
        ("auto", "gpu", "auto", (16, 32), "each"),
        ("auto", "gpu", "dispatch", (4,), "each"),
        ("each", "cpu", "auto", (4,), "each"),
        ("together", "gpu", "auto", (64,), "together"),
    ],
)
def test_auto_depends_on_device_and_width(monkeypatch, given, backend, execution, filters, how):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = tiny.get_config()
    config.retrain.compile, config.supernet.execution = given, execution
    config.retrain.short.filters = filters
    assert together.choose(config, "short") == how
    config.retrain.short.groups.tuned = 1  # a program for each width
    assert together.choose(config, "short") == "each"


def test_networks_with_widths_are_not_trained_together():
    config = tiny.get_config()
    config.retrain.compile, config.retrain.final.groups.tuned = "together", 1
    with pytest.raises(ValueError, match=r"'together', but retrain\.final\.groups\.tuned=1"):
        trainings.build(config)


def test_what_auto_chose_is_kept(tmp_path):
    """Where a run goes on on another device, its networks are trained as the first ones were."""
    path, config = tmp_path / "compile.json", tiny.get_config()
    assert retrain.keep_or_choose(path, config, "short") == "together"
    assert json.loads(path.read_text()) == {"compile": "together"}
    path.write_text('{"compile": "each"}')
    assert retrain.keep_or_choose(path, config, "short") == "each"
    path.write_text('{"compile": "both"}')
    with pytest.raises(ValueError, match=r"compile\.json is damaged.*together or each"):
        retrain.keep_or_choose(path, config, "short")


@pytest.mark.parametrize(
    ("fields", "cores", "devices"),
    [
        ({}, 1, 1),
        ({}, 2, 2),
        ({}, 3, 2),  # 8 ghost batches, 8 candidates
        ({}, 64, 8),
        ({"sweep.candidates_per_batch": 10}, 64, 2),
        ({"retrain.short.train.ghost_batch_size": 32}, 64, 8),  # a network of a lot has one device
        ({"retrain.short.train.ghost_batch_size": 32, "sweep.score": "trained"}, 64, 1),
    ],
)
def test_a_cpu_has_as_many_devices_as_batches_divide_among(monkeypatch, fields, cores, devices):
    monkeypatch.setattr(environment, "num_cores", lambda: cores)
    config = tiny.get_config()
    config.update_from_flattened_dict(fields)
    assert build.num_cpu_devices(config) == devices
