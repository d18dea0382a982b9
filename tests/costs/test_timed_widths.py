"""Channels priced by latency: milliseconds by hand, sums as estimated, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from nas_jax import pipeline, spaces
from nas_jax.costs import latency_table, params_flops, widths
from nas_jax.spaces import params as params_lib
from nas_jax.storage import decided
from nas_jax.training import variants
from tests import trainings
from tests.configs import tiny

ONE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity", "sep3x3", "conv7x7"))
TWO = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1, ops=("identity", "sep3x3"))
UNTIED = dataclasses.replace(TWO, tied=False)
CHAIN = spaces.make("nasbench_macro", stages=(2, 2), head=5)
INPUTS, OPS = (choice.name for choice in jax.tree.leaves(ONE.choices))
MS = {None: np.asarray(3.0), INPUTS: np.asarray([0.5, 7]), OPS: np.asarray([0.25, 2, 9])}


def _widths(space, text, latencies, filters=2):
    net = space.standalone(text, num_classes=10, filters=filters)
    shapes = params_lib.shapes_by_path(params_lib.params_shape(net, (8, 8, 3)))
    given = {"image_size": 8, "resource": "latency_ms", "latencies": latencies}
    return widths.Widths(space, text, shapes, **given)


def test_milliseconds_of_a_channel_by_hand():
    """F = 2; multiply-adds a pixel: 4 of the input's kernel, 44 of sep3x3 (18 + 4, twice)."""
    found = _widths(ONE, "0>sep3x3", MS)
    assert found.cost(found.full) == pytest.approx(3 + 0.5 + 2)
    price = dict(zip(found.names, np.asarray(found.marginal(found.full))))
    assert price["cell0/block0_ops/1"] == pytest.approx((2 + 9 + 2) * 2 / 44)
    assert price["cell0/block0_inputs"] == pytest.approx(2 * 0.5 / 4 + (9 + 2) * 2 / 44)
    halved = found.full.copy()
    halved[found.names.index("cell0/block0_ops/1")] = 1  # of two channels: 13 of 44 less
    assert found.cost(halved) == pytest.approx(5.5 - 13 * 2 / 44)
    slower = _widths(ONE, "0>sep3x3", MS | {OPS: np.asarray([0.25, 20, 9])})
    price = dict(zip(slower.names, np.asarray(slower.marginal(slower.full))))
    assert price["cell0/block0_ops/1"] == pytest.approx(10 * (2 + 9 + 2) * 2 / 44)


def test_an_option_without_kernels_takes_its_time_at_any_width():
    found = _widths(ONE, "0>identity", MS)
    assert found.cost(found.full) == pytest.approx(3 + 0.5 + 0.25)
    assert found.cost(np.zeros(len(found.names))) == pytest.approx(0.25)
    own = found.scaled(found.full * 3, 0.5 * found.cost(found.full))
    assert found.cost(own) <= 0.5 * 3.75 < found.cost(np.asarray(own) + 1)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (TWO, "0,1>sep3x3|0,2>identity,sep3x3"),
        (TWO, TWO.to_str(TWO.all_on())),
        (UNTIED, "0>sep3x3|1,2>identity/0,1>identity|1>sep3x3"),
        (CHAIN, "2110"),
    ],
)
def test_a_network_takes_what_the_search_estimates(space, text):
    generator = np.random.default_rng(0)
    latencies = {None: generator.random()}
    for choice in jax.tree.leaves(space.choices):
        latencies[choice.name] = generator.random(choice.num_options)
    found = _widths(space, text, latencies, filters=4)
    estimate = params_flops.total(space, latencies, space.from_str(text))
    assert found.cost(found.full) == pytest.approx(float(estimate))


def test_what_has_no_price_is_refused():
    with pytest.raises(ValueError, match="resource='latency_ms' needs the latencies"):
        _widths(ONE, "0>sep3x3", None)
    nothing = {name: 0 * row for name, row in MS.items()}
    with pytest.raises(ValueError, match=r"no kernel takes any time, .* resource='flops'"):
        _widths(ONE, "0>identity", nothing | {OPS: MS[OPS]})
    with pytest.raises(ValueError, match=r"costs \d\.\d+ ms already, more than the 0\.1 ms that"):
        _widths(ONE, "0>sep3x3", MS).scaled((1,) * 8, 0.1)


def test_the_supernets_penalty_follows_the_latencies():
    """Where sep3x3 takes ten times as long, each of its inner channels is pushed ten times."""
    net = ONE.standalone(ONE.all_on(), num_classes=10, filters=2)
    shapes = params_lib.params_shape(net, (8, 8, 3))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)

    def push(ms):
        options = (("resource", "latency_ms"), ("strength", 1.0))
        latencies = MS | {OPS: np.asarray([0.25, ms, 9])}
        made = variants.make("morphnet", ONE, options, latencies=latencies)
        grads = jax.jit(jax.grad(made.penalty))(params, None)
        whole = 3 + 0.5 + 7 + 0.25 + ms + 9  # the penalty is a share of all
        return whole * grads["cell0"]["block0_ops"]["1"]["unit1"]["norm"]["scale"]

    np.testing.assert_allclose(push(2.0), 2 * (2 + 9 + 2) / 44, rtol=1e-5)
    np.testing.assert_allclose(push(20.0), 20 * (2 + 9 + 2) / 44, rtol=1e-5)
    with pytest.raises(ValueError, match=r"latency_ms' needs config\.sweep\.latency\.table"):
        variants.make("morphnet", ONE, (("resource", "latency_ms"),))


MEASURED = {
    "num_archs": 100,
    "error_percent": 5.0,
    "spearman": 0.9,
    "base_ms": 3.0,
    "options_ms": {INPUTS: [0.5, 7], OPS: [0.25, 2, 9]},
    "image_size": [8, 8],
    "filters": 4,
    "batch_size": 1,
    "device": "cpu",
}


def test_the_latencies_of_a_run_are_a_table(tmp_path):
    """But of networks of another size they are none."""
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(MEASURED))
    found = latency_table.read(ONE, str(path), filters=4, image_size=(8, 8))
    assert found.keys() == MS.keys()
    for name, row in MS.items():
        np.testing.assert_array_equal(found[name], row)
    assert latency_table.read(ONE, "") is None
    with pytest.raises(ValueError, match=r"latency\.json has .* filters=4, not 8; measure them"):
        latency_table.read(ONE, str(path), filters=8, image_size=8)
    with pytest.raises(ValueError, match=r"image_size=\[8, 8\], not \[16, 8\]"):
        latency_table.read(ONE, str(path), filters=4, image_size=(16, 8))
    path.write_text(json.dumps({**MEASURED, "filters": 0}))
    with pytest.raises(ValueError, match=r"latency\.json\.filters is 0, not a whole number"):
        latency_table.read(ONE, str(path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"^config\.retrain\.widths\.resource='latency_ms' needs sweep\.latency\.num_archs"),
        (
            {"sweep.latency.num_archs": 20, "supernet.filters": 8},
            r"^config\.retrain\.final\.filters=\(4,\), but .* supernet\.filters=8: set both alike",
        ),
    ],
)
def test_widths_are_tuned_by_the_latencies_of_their_networks(fields, message):
    config = tiny.get_config()
    config.retrain.final.groups.tuned = 1
    config.retrain.widths.resource = "latency_ms"
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        pipeline.check_fields(config)


def test_a_supernet_that_latencies_have_shaped_keeps_to_them(tmp_path):
    config = tiny.get_config()
    (tmp_path / "checkpoints").mkdir()
    config.supernet.variant_options = (("resource", "flops"),)
    assert decided.Decided(tmp_path, config.to_dict(), False).may_be("sweep.latency.table", "x")
    config.supernet.variant_options = (("resource", "latency_ms"),)
    assert not decided.Decided(tmp_path, config.to_dict(), False).may_be("sweep.latency.table", "x")


@pytest.mark.parametrize("group", ["tuned", "narrowed"])
def test_networks_whose_widths_latencies_have_decided_keep_to_them(tmp_path, group):
    """Without such networks the cost of widths decides nothing."""
    config = tiny.get_config()
    (tmp_path / "retrain" / "short").mkdir(parents=True)
    changed = {"sweep.latency.table": "x", "supernet.filters": 8}

    def may_change():
        used = decided.Decided(tmp_path, config.to_dict(), False)
        return [used.may_be(name, value) for name, value in changed.items()]

    config.retrain.widths.resource = "latency_ms"
    assert may_change() == [True, True]
    config.retrain.short.groups[group] = 1
    assert may_change() == [False, False]
    config.retrain.widths.resource = "params"
    assert may_change() == [True, True]


def test_a_run_gives_its_table_to_the_variant(tmp_path):
    """And refuses the variant before data are read, where there is none."""
    fields = {
        **trainings.SMALL,
        "supernet.variant": "morphnet",
        "supernet.variant_options": (("resource", "latency_ms"),),
    }
    with pytest.raises(ValueError, match=r"needs config\.sweep\.latency\.table, such as"):
        trainings.built_with(tiny.get_config(), fields)
    path = tmp_path / "latency.json"
    options = {INPUTS: [0.5, 7], OPS: [0.25, 2]}
    path.write_text(json.dumps(MEASURED | {"options_ms": options}))
    config, space, data = trainings.built_with(
        tiny.get_config(), {**fields, "sweep.latency.table": str(path)}
    )
    run = trainings.run_of(config, space, data, tmp_path)
    assert run.constraints.latency_per_option()[OPS].tolist() == [0.25, 2]
    assert run.variant.penalty is not None
