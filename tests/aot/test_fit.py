"""Programs of a run are the run's own, lowered for devices; and what a target makes of them."""

import json
import math
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from nas_jax import build, pipeline
from nas_jax import config as config_lib
from nas_jax.aot import fit, footprint, programs, targets
from nas_jax.aot.counts import Counts
from nas_jax.aot.footprint import Footprint
from nas_jax.aot.targets import Target
from nas_jax.training import supernet
from tests import launching
from tests.trainings import SMALL

CPU = Target("cpu", {}, "CPU", 2**30, 1e10, 1e11)
TINY = {
    **SMALL,
    "supernet.filters": 4,
    "supernet.train.batch_size": 32,
    "supernet.train.ghost_batch_size": 4,
    "supernet.train.num_steps": 3,
    "supernet.strategy_every": 1,
    "sweep.num_candidates": 64,
    "sweep.num_images": 32,
    "sweep.batch_size": 16,
    "sweep.candidates_per_batch": 8,
    "sweep.calibration_images": 32,
    "retrain.short.groups.random": 8,
    "retrain.short.filters": (4,),
    "retrain.final.filters": (4,),
}


def config_of(**fields):
    config = config_lib.load("digits")
    config.update_from_flattened_dict(TINY | fields)
    return config


@pytest.fixture(scope="module")
def data():
    return build.load_data(config_of().data)


@pytest.fixture(scope="module")
def run(data):
    return build.build_run(config_of(), "unused", data=data)


@pytest.mark.system
def test_the_lowered_step_is_the_one_that_a_training_takes(run):
    training = supernet.training(run)
    compiled, layout = training.lowered().compile(), training._layout
    state, root = layout.place(training._first_state(0, None, None), 0)
    batch = next(layout.batches(run.data, "train", 32, 0, 0))
    hyper = layout.hyper(training._schedule(1.0).at(0))
    wanted, metrics = compiled(state, batch, root, hyper)
    state, root = layout.place(training._first_state(0, None, None), 0)
    again, same = training._step(state, batch, root, hyper)
    assert jax.tree.all(jax.tree.map(np.array_equal, wanted.params, again.params))
    assert float(metrics["loss"]) == float(same["loss"]) > 0


@pytest.mark.system
@pytest.mark.parametrize("bn", ["batch", "running", "recalibrate"])
def test_every_program_of_a_search_compiles(data, bn):
    config = config_of(**{"sweep.bn": bn})
    run = build.build_run(config, "unused", data=data)
    found = {one.name: footprint.of(one, CPU) for one in programs.of(run, jax.devices())}
    assert all(one.fits and one.counts.bytes > 0 for one in found.values())
    assert ("calibration of a round" in found) == (bn == "recalibrate")
    step = found["training step of the supernet"].counts
    parameters = sum(
        leaf.size for leaf in jax.tree.leaves(supernet.training(run)._state_shape.params)
    )
    many, size = step.collectives["all-reduce"]
    assert many >= 1
    assert size >= 4 * parameters  # the gradients, float32


@pytest.mark.system
def test_a_population_compiles_on_its_grid_of_devices(data):
    pbt = {"supernet.variant": "pbt", "supernet.variant_options": (("population", 4),)}
    run = build.build_run(config_of(**pbt), "unused", data=data)
    step = next(programs.of(run, jax.devices()))
    assert (step.name, step.work) == ("training step of the population", "4 supernets, 32 images")
    assert step.images == 4 * 32 / 8
    assert step.multiple == 4 * 2  # ghost batches, of two devices for each member
    assert footprint.of(step, CPU).fits


@pytest.mark.system
def test_so_does_a_population_of_one_network(data):
    """Of four members on eight devices, two of which share the ghost batches of a member."""
    pbt = {"retrain.final.pbt": (("population", 4),), "retrain.final.pbt_every": 1}
    run = build.build_run(config_of(**pbt), "unused", data=data)
    steps = [one for one in programs.of(run, jax.devices()) if one.stage == "retrain.final"]
    assert [one.work for one in steps] == ["4 members, 64 images, F = 4"]
    assert steps[0].images == 4 * 64 / 8
    assert steps[0].multiple == run.config.retrain.final.train.ghost_batch_size * 2
    assert footprint.of(steps[0], CPU).fits


@pytest.mark.system
def test_a_round_moves_less_by_an_execution_that_skips(data):
    """Of two options each network has one or both, so about a quarter is off."""

    def of(execution):
        run = build.build_run(config_of(**{"supernet.execution": execution}), "unused", data=data)
        round_of = next(one for one in programs.of(run, jax.devices()[:1]) if one.stage == "sweep")
        return footprint.of(round_of, CPU).counts

    assert of("switch").flops < of("masked").flops


# -- the largest that fits ------------------------------------------------------------------------


def sized(each, limit=1000):
    """(a compiler of programs that need 100 bytes and `each(size)`, the sizes it was asked for)."""
    asked = []

    def compiled(size):
        asked.append(size)
        return Footprint(100 + each(size), limit, each(size), 0, Counts(), 0.0)

    return compiled, asked


@pytest.mark.parametrize(
    ("each", "first", "multiple", "most", "found"),
    [
        (lambda size: 2 * size, 8, 8, 10**6, (448, True)),  # of (1000 - 100) / 2 = 450
        (lambda size: 500 + 2 * size, 8, 8, 10**6, (200, True)),  # much is there at any size
        (lambda size: (2 if size < 100 else 2.2) * size, 8, 8, 10**6, (408, True)),
        (lambda size: 2 * size, 8, 8, 100, (96, True)),  # there are no more images
        (lambda size: 2 * size, 600, 8, 10**6, (448, True)),  # the first does not fit
        (lambda size: 2 * size, 600, 512, 10**6, (0, True)),
        (lambda size: 0, 8, 8, 1000, (1000, True)),
        (lambda size: 2 * size if size <= 64 else math.inf, 8, 8, 1000, (56, False)),
        (lambda size: math.inf, 64, 8, 1000, (0, True)),
    ],
)
def test_the_largest_size_is_found(each, first, multiple, most, found):
    compiled, asked = sized(each)
    assert fit.largest(compiled, first, multiple, most, compiled(first)) == found
    assert len(asked) <= 1 + fit.TRIES
    assert not found[0] or found[0] in asked


# -- the command ----------------------------------------------------------------------------------


def test_auto_is_what_the_target_would_choose():
    made = fit.made_for(config_of(), targets.TARGETS["v5e-4"])
    assert (made.supernet.execution, made.network.dtype) == ("masked", "bfloat16")
    given = config_of(**{"supernet.execution": "switch", "network.dtype": "float32"})
    made = fit.made_for(given, targets.TARGETS["v5e-4"])
    assert (made.supernet.execution, made.network.dtype) == ("switch", "float32")


def test_unknown_targets_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="v5e-16"):
        pipeline.check(config_of(), "unused", target="v5e-15")


@pytest.mark.parametrize("name", ["v5e-4", "h100"])
def test_a_missing_compiler_is_named(name, monkeypatch):
    monkeypatch.setattr(targets, "is_installed", lambda platform: False)
    with pytest.raises(ValueError, match=f"--target={name}: .*pip install"):
        pipeline.check(config_of(), "unused", target=name)


def test_what_has_no_program_is_said(data):
    config = config_of(**{"sweep.score": "kl", "retrain.archs": ("0,1>sep3x3",)})
    config.retrain.short.groups.random = config.retrain.final.groups.top = 0
    run = build.build_run(config, "unused", data=data)
    assert [what for _, what in programs.left_out(run)] == ["the evaluation of candidates by 'kl'"]
    names = [one.name for one in programs.of(run, jax.devices())]
    assert "training step of a network of retrain.archs" in names


@pytest.mark.system
def test_candidates_that_are_alike_need_the_most_room(data):
    config = config_of(**{"supernet.execution": "dispatch", "sweep.candidates_per_batch": 64})
    config.space.ops = ("identity", "sep3x3", "sep5x5", "maxpool", "avgpool")
    run = build.build_run(config, "unused", data=data)
    rounds = [one for one in programs.of(run, jax.devices()[:1]) if one.stage == "sweep"]
    assert "alike" in rounds[1].work
    random, alike = (footprint.of(one, CPU) for one in rounds)
    assert random.counts.flops < alike.counts.flops


@pytest.mark.system
def test_a_check_says_what_fits_and_the_largest_that_does(data, monkeypatch):
    """The step takes 0.3 MiB for 32 images, and 1.1 for 4,096."""
    monkeypatch.setitem(targets.TARGETS, "here", CPU._replace(memory=0.9 * 2**20))
    monkeypatch.setattr(targets, "devices", lambda name: jax.devices())  # of one host
    config = config_of()
    for protocol in (config.retrain.short, config.retrain.final):
        protocol.groups.update(dict.fromkeys(protocol.groups, 0))
    text = fit.text(config, "unused", "here", data=data)
    assert "here: 8 x CPU" in text
    assert "supernet: training step of the supernet, 32 images: fits" in text
    assert "all-reduce: " in text
    (largest,) = re.findall(r"  training step of the supernet: (?:at least )?([\d,]+) images", text)
    assert 32 < int(largest.replace(",", "")) < 4096
    assert "  a round of candidates: 64 candidates on 16 images" in text  # all there are


def test_networks_alone_are_compiled_for_one_host(data):
    """Of a slice of four hosts, eight devices here, each host has four."""
    run = build.build_run(config_of(**{"retrain.compile": "each"}), "unused", data=data)
    every = programs.of(run, jax.devices(), jax.devices()[:4])
    images = {one.stage: one.images for one in every}
    # 16 ghost batches of 4 images divide among four devices; those of the supernet among eight.
    assert (images["supernet"], images["retrain.short"]) == (32 / 8, 64 / 4)


def test_a_target_of_several_hosts_names_one_of_them():
    target = targets.TARGETS["v5e-16"]
    assert target.host == "v5e-4"
    assert targets.TARGETS[target.host].kind == target.kind


def test_a_target_is_of_the_mode_check_alone(tmp_path):
    given = "--config=digits", f"--workdir={tmp_path}", "--target=v5e-4"
    code, errors = launching.main(*given, "--mode=supernet")
    assert code == 2
    assert "--target is no flag of --mode=supernet" in errors


def test_bytes_that_a_compiler_refuses_are_read():
    said = (
        "RESOURCE_EXHAUSTED: .. for HLO temporaries (20.10G) exceeds available HBM (15.75G). HLO .."
    )
    assert footprint._said(said, CPU) == (20.1 * 2**30, 15.75 * 2**30)
    assert footprint._said("RESOURCE_EXHAUSTED", CPU) == (float("inf"), CPU.memory)


def test_the_roofline_is_the_longer_of_traffic_and_products():
    assert footprint.roofline(Counts(bytes=2e10, flops=1e11), CPU) == (2, "memory")
    assert footprint.roofline(Counts(bytes=1e10, flops=3e11), CPU) == (3, "products")


# -- compiled for targets: a process each, since a compiler of a platform cannot be unloaded ------


def needs(target):
    """Marks what needs the compiler of a target."""
    missing = not targets.is_installed(targets.TARGETS[target].platform)
    reason = "libtpu is missing: extra [aot]" if target != "h100" else "jax[cuda12] is missing"
    return pytest.mark.skipif(missing, reason=reason)


STEP = """
import json, sys
from nas_jax import build
from nas_jax.aot import fit, footprint, programs, targets
from tests.aot.test_fit import config_of
target = targets.TARGETS[sys.argv[1]]
with targets.compiling():
    devices = targets.devices(sys.argv[1])
    run = build.build_run(fit.made_for(config_of(), target), "unused", num_devices=len(devices))
    found = footprint.of(next(programs.of(run, devices)), target)
print(json.dumps([len(devices), found.fits, found.counts.bytes, found.counts.collectives]))
"""


@pytest.mark.parametrize(
    ("target", "count"),
    [
        pytest.param(*pair, marks=needs(pair[0]))
        for pair in (("v5e-4", 4), ("v4-8", 4), ("h100", 1))
    ],
)
def test_a_tiny_step_is_compiled_for_a_target(run, target, count):
    out = subprocess.run(
        [sys.executable, "-c", STEP, target], capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    devices, fits, moved, collectives = json.loads(out.stdout)
    assert (devices, fits) == (count, True)
    assert moved > 0
    if count > 1:  # the gradients are float32
        params = supernet.training(run)._state_shape.params
        assert collectives["all-reduce"][1] >= 4 * sum(x.size for x in jax.tree.leaves(params))


# Twice what a v5e has.
TOO_MUCH = """
import jax, jax.numpy as jnp
from nas_jax.aot import footprint, programs, targets
with targets.compiling():
    x = jax.ShapeDtypeStruct((1, 2**26, 128), jnp.float32)
    mapped = jax.pmap(lambda x: jnp.cumsum(x, 0), devices=targets.devices("v5e-4")[:1])
    program = programs.Program("a sum", "sweep", "", lambda: mapped.lower(x), 1)
    found = footprint.of(program, targets.TARGETS["v5e-4"])
print(found.fits, found.needs > found.limit, found.limit == targets.TARGETS["v5e-4"].memory)
"""


@needs("v5e-4")
def test_a_tpus_compiler_says_what_does_not_fit():
    run = subprocess.run([sys.executable, "-c", TOO_MUCH], capture_output=True, text=True)
    assert run.stdout == "False True True\n", run.stderr
