"""Whole searches: constraints, latencies, fronts, every strategy resumed, scores by training."""

import itertools
import json
import shutil

import jax
import numpy as np
import pytest

from nas_jax import spaces, strategies
from nas_jax.candidates import short_training, sweep
from nas_jax.costs import latency, params_flops
from nas_jax.data import augment
from nas_jax.nn import masked
from nas_jax.report import analysis
from nas_jax.runtime import rng
from nas_jax.spaces import choices
from nas_jax.training import loop, supernet
from tests import trainings
from tests.configs import tiny, tiny_macro

pytestmark = pytest.mark.system

MACRO = spaces.make("nasbench_macro", stages=(1, 2), head=2)  # 27 architectures
OPTIONS = {"evolution": {"sweep.options": (("population", 10),)}}  # soon full
EVERY = ["".join(digits) for digits in itertools.product("012", repeat=3)]


@pytest.fixture
def table(tmp_path):
    """A table of 26 of the 27 architectures, by parameters; 000 is not in it."""
    lines = [
        f"{text},{float(params_flops.of(MACRO, MACRO.from_str(text)).params) / 1e4}"
        for text in EVERY
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["arch,digits_test_accuracy", *lines[1:]]) + "\n")
    return str(path)


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- Pareto fronts --------------------------------------------------------------------------------


def _is_beaten(i, values, costs):
    """By brute force: whether another has at least the value at no more cost, or is equal and
    before it."""
    return any(
        (values[j] >= values[i] and costs[j] <= costs[i])
        and ((values[j], costs[j]) != (values[i], costs[i]) or j < i)
        for j in range(len(values))
        if j != i
    )


@pytest.mark.parametrize("seed", range(5))
def test_front_equals_a_brute_force_one(seed):
    """Of all 27 architectures, their costs and random scores with ties."""
    costs = params_flops.of(MACRO, MACRO.from_strs(EVERY)).flops.tolist()
    values = np.random.default_rng(seed).integers(6, size=27).tolist()
    front = analysis.pareto_front(values, costs)
    assert sorted(front) == [i for i in range(27) if not _is_beaten(i, values, costs)]
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


# -- constraints and latencies --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_every_strategy_keeps_to_the_constraints_and_to_the_table(tmp_path, table, strategy):
    params = sorted(params_flops.of(MACRO, MACRO.from_strs(EVERY), filters=4, image_size=8).params)
    flops = sorted(params_flops.of(MACRO, MACRO.from_strs(EVERY), filters=4, image_size=8).flops)
    fields = {
        "table": table,
        "sweep.score": "table",
        "sweep.strategy": strategy,
        "sweep.num_candidates": 8 if strategy == "exhaustive" else 40,
        "sweep.constraints.max_params": int(params[18]),
        "sweep.constraints.max_flops": int(flops[20]),
    } | OPTIONS.get(strategy, {})
    config, space, data = trainings.built_with(tiny_macro.get_config(), fields)
    rows = trainings.swept(config, space, data, tmp_path / "run")
    assert len(rows) == config.sweep.num_candidates
    assert all(row["params"] <= params[18] and row["flops"] <= flops[20] for row in rows)
    assert all(row["arch"] != "000" and row["value"] is not None for row in rows)
    assert len({row["arch"] for row in rows}) > 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sweep.constraints.max_params": 10}, "max_params=10, but the smallest .* has 4"),
        ({"sweep.constraints.max_latency": 5.0}, r"max_latency=5\.0 needs sweep\.latency"),
        ({"sweep.latency.num_archs": 3}, "num_archs=3 must be 0 or 20 or more"),
        ({"sweep.inherit": True}, "inherit is for sweep.score='trained', not 'accuracy'"),
        ({"supernet.sampler": "strategy", "sweep.score": "kl"}, "sweep.score='kl'; it must be"),
        ({"supernet.sampler": "strategy", "sweep.strategy": "optuna"}, "cannot be compiled"),
        ({"supernet.sampler": "strategy"}, "'exhaustive' asks for all in order"),
        ({"sweep.strategy": "enas", "sweep.options": (("hidden", 0),)}, "hidden=0 must be 1"),
        (
            {"sweep.score": "trained", "sweep.constraints.max_params": 900},
            "only .* architectures keep to config.sweep.constraints",
        ),
    ],
)
def test_what_cannot_be_is_said(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        sweep.search(
            trainings.run_of(*trainings.built_with(tiny_macro.get_config(), fields), tmp_path)
        )


def test_latencies_add_up():
    """Of options that take 1, 2 and 4 ms and of 2 ms for all: least squares finds them again."""
    archs = MACRO.sample(jax.random.key(0), (40,))
    slow = np.asarray([1.0, 2, 4])
    times = 2 + sum(np.asarray(mask) @ slow for mask in jax.tree.leaves(archs))
    found = latency._estimate(MACRO, archs, times)
    assert found["error_percent"] < 1e-6
    assert found["spearman"] > 0.98  # equal latencies tie
    per_option = {None: found["base_ms"]} | {
        name: np.asarray(row) for name, row in found["options_ms"].items()
    }
    np.testing.assert_allclose(params_flops.total(MACRO, per_option, archs), times, rtol=1e-6)
    assert params_flops.least(MACRO, per_option) == pytest.approx(2 + 3 * 1)


def test_a_limit_of_latency_is_kept(tmp_path):
    """Of networks that are timed in truth; later searches read the file."""
    config, space, data = trainings.built_with(
        tiny_macro.get_config(), {"sweep.latency.num_archs": 20}
    )
    path, size = tmp_path / "latency.json", {"filters": 4, **params_flops.image_options(data)}
    latency.per_option(space, path, num_archs=6, batch_size=2, **size)
    file = path.read_text()
    assert set(json.loads(file)) >= {"device", "batch_size", "error_percent", "num_archs"}
    measured = trainings.run_of(config, space, data, tmp_path).constraints.costs(
        space.from_strs(EVERY)
    )
    assert 0 < min(measured["latency_ms"]) < max(measured["latency_ms"])
    limit = float(np.median(measured["latency_ms"]))
    config.sweep.constraints.max_latency = limit
    allowed = trainings.run_of(config, space, data, tmp_path).constraints.allows(
        space.from_strs(EVERY)
    )
    assert (allowed == (np.asarray(measured["latency_ms"]) <= limit)).all()
    assert 0 < allowed.sum() < 27
    assert path.read_text() == file


# -- resumed searches -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_a_search_that_was_cut_off_goes_on_the_same(tmp_path, table, strategy, caplog):
    """After a whole round, in the middle of one, and in the middle of a line."""
    fields = {"table": table, "sweep.score": "table", "sweep.strategy": strategy}
    fields |= {"sweep.num_candidates": 26 if strategy == "exhaustive" else 60}
    fields |= OPTIONS.get(strategy, {})
    run = *trainings.built_with(tiny_macro.get_config(), fields), tmp_path
    rows = trainings.swept(*run)
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (b"".join(lines[:16]), b"".join(lines[:19]), b"".join(lines[:21]) + lines[21][:9]):
        path.write_bytes(cut)
        if not cut.endswith(b"\n"):
            assert trainings.swept(*run) == rows
            assert "cut short" in caplog.text
        assert trainings.swept(*run) == rows
        assert path.read_bytes() == whole


# -- a supernet that a strategy trains ------------------------------------------------------------


def test_a_sweep_goes_on_with_the_controller_that_learned_from_the_supernet(tmp_path):
    fields = {
        "supernet.sampler": "strategy",
        "supernet.strategy_every": 2,
        "supernet.train.num_steps": 20,
        "supernet.train.checkpoint_every": 10,
        "sweep.strategy": "enas",
        "sweep.options": (("learning_rate", 0.1), ("hidden", 8)),
        "sweep.num_candidates": 8,
    }
    config, space, data = trainings.built_with(tiny.get_config(), trainings.SMALL | fields)
    state, _ = trainings.fit((config, space, data), tmp_path)
    trials = trainings.swept(config, space, data, tmp_path)
    made = trainings.run_of(config, space, data, tmp_path)
    strategy, fresh = made.strategy, made.first_strategy_state()
    key = rng.stream(jax.random.key(config.sweep.seed), "ask", 0)
    asked = [space.to_strs(strategy.ask(key, known, 8)) for known in (state.sampler_state, fresh)]
    assert [row["arch"] for row in trials[:8]] == asked[0] != asked[1]
    assert len(trials) == 8


# -- scores by training ---------------------------------------------------------------------------


def test_the_nearest_candidate_is_the_parent():
    trials = [{"arch": "000", "value": 0.9}, {"arch": "011", "value": 0.3}]
    trials += [{"arch": "210", "value": 0.5}, {"arch": "212", "value": 0.5}]
    assert short_training.nearest(MACRO, MACRO.from_str("011"), trials) == "011"
    assert (
        short_training.nearest(MACRO, MACRO.from_str("211"), trials) == "210"
    )  # the better, then first
    assert short_training.nearest(MACRO, MACRO.from_str("002"), trials) == "000"


@pytest.fixture(scope="module")
def by_training(tmp_path_factory):
    """{inherit: (folder, trials)} of evolution whose candidates are trained for 10 steps each."""
    found = {}
    for inherit in (False, True):
        fields = {
            "sweep.score": "trained",
            "sweep.inherit": inherit,
            "sweep.strategy": "evolution",
            "sweep.options": (("population", 8), ("tournament", 4)),
            "sweep.num_candidates": 12,
            "retrain.short.train.num_steps": 10,
        }
        run = trainings.built_with(tiny_macro.get_config(), fields)
        directory = tmp_path_factory.mktemp("trained")
        supernet.train(trainings.run_of(*run, directory))
        assert not (directory / "checkpoints").exists()  # there is no supernet to train
        found[inherit] = run, directory, trainings.swept(*run, directory)
    return found


def test_a_candidate_is_its_stand_alone_network(by_training):
    """The first candidate's accuracy is that of its stand-alone network, trained as `fit` does."""
    (config, space, data), _, rows = by_training[False]
    directory = by_training[False][1].with_name("alone")
    text = rows[0]["arch"]
    made = trainings.run_of(config, space, data, directory)
    net = made.standalone(text, filters=4, bn="batch")
    task = loop.Task(name="alone", net=net, split="train")
    training = loop.Training(task, config.retrain.short.train, data)
    mine = made.supernet()
    images = np.zeros((1, *data.image_shape), np.float32)
    whole = masked.init(jax.random.key(0), mine, images, space.all_on())
    params = space.subnet(whole["params"], text)
    state = training.fit(directory, seed=config.seed, params=params)
    images, labels = data.fixed("valid", 128)
    right, apply = 0, jax.jit(net.apply)
    for part in (slice(0, 64), slice(64, 128)):
        x = augment.standardise(images[part], data.mean, data.std)
        logits = apply({"params": jax.device_get(state.params)}, x)
        right += int((np.argmax(logits, -1) == labels[part]).sum())
    assert abs(right / 128 - rows[0]["value"]) <= 2 / 128


def test_children_inherit(by_training):
    """The first round is as without; later ones start from what was learnt, with a lower loss."""
    (_, alone), (_, heirs) = (by_training[inherit][1:] for inherit in (False, True))
    assert [row["value"] for row in alone[:8]] == [row["value"] for row in heirs[:8]]
    assert {row["score"] for row in heirs} == {"trained"}
    assert all(row["one_shot_accuracy"] is None for row in heirs)

    def first_losses(inherit):
        _, directory, rows = by_training[inherit]
        new = {row["arch"] for row in rows[8:]} - {row["arch"] for row in rows[:8]}
        folders = [directory / "candidates" / spaces.arch_id(text) for text in new]
        return [_rows(folder / "metrics.jsonl")[0]["loss"] for folder in folders]

    assert np.mean(first_losses(True)) < np.mean(first_losses(False))


def test_a_search_by_training_that_was_cut_off_goes_on_the_same(by_training):
    run, directory, rows = by_training[True]
    path = directory / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]))
    last = directory / "candidates" / spaces.arch_id(rows[-1]["arch"])
    shutil.rmtree(last / "checkpoints" / "10")  # its training was cut off, too
    assert trainings.swept(*run, directory) == rows


def test_unstacked_masks_are_those_of_each():
    archs = MACRO.from_strs(EVERY[:3])
    assert [MACRO.to_str(arch) for arch in choices.unstack(archs)] == EVERY[:3]
