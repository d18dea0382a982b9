"""Sweeps by training-free proxies: on few and many devices, resumed, with smaller networks."""

import jax
import numpy as np
import pytest

from nas_jax import pipeline
from nas_jax.candidates import training_free
from nas_jax.nn import observed
from nas_jax.proxies import PROXIES
from nas_jax.runtime import rng
from nas_jax.storage import json_files
from tests import trainings
from tests.configs import tiny_macro

EVERY = ["000", "012", "100", "120", "201", "210", "221", "222"]


def _run(tmp_path, fields):
    config, space, data = trainings.built_with(tiny_macro.get_config(), fields)
    return trainings.run_of(config, space, data, tmp_path)


def test_values_do_not_depend_on_the_number_of_devices(tmp_path):
    run = _run(tmp_path, {"sweep.score": "naswot", "sweep.proxy.num_images": 8})
    archs = run.space.from_strs(EVERY)
    one, eight = (
        training_free.TrainingFree(run, "naswot", jax.devices()[:n])(archs) for n in (1, 8)
    )
    assert len(set(one)) == len(EVERY)
    np.testing.assert_allclose(one, eight, rtol=1e-6)


def test_values_are_means_over_the_draws_of_the_weights(tmp_path):
    fields = {"sweep.score": "naswot", "sweep.proxy.num_images": 8, "sweep.proxy.num_draws": 2}
    run, proxy = _run(tmp_path, fields), PROXIES["naswot"]
    evaluator = training_free.TrainingFree(run, "naswot")
    archs = run.space.from_strs(EVERY)
    first, second = (
        proxy.value(
            [proxy.measure(evaluator._net, *draw, jax.tree.map(lambda m: m[i], archs))]  # noqa: B023
        )[0]
        for draw in jax.device_get(evaluator._draws)
        for i in [3]
    )
    assert first != second
    assert evaluator(archs)[3] == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.system
def test_a_sweep_needs_no_supernet_and_is_resumed(tmp_path):
    """Of smaller networks on smaller images; a failed candidate has no value."""
    fields = {
        "sweep.score": "synflow",
        "sweep.num_candidates": 27,
        "sweep.proxy.num_images": 4,
        "sweep.proxy.image_size": 8,
        "sweep.proxy.filters": 2,
        "sweep.proxy.space": (("head", 1),),
    }
    config, space, data = trainings.built_with(tiny_macro.get_config(), fields)
    path = tmp_path / "whole" / "trials.jsonl"
    for name in ("whole", "resumed"):
        run = trainings.run_of(config, space, data, tmp_path / name)
        if name == "resumed":
            run.workdir.mkdir()
            lines = path.read_text().splitlines(keepends=True)
            (run.workdir / "trials.jsonl").write_text("".join(lines[:11]))
        pipeline.sweep.search(run)
    rows = json_files.read_trials(path)
    assert rows == json_files.read_trials(tmp_path / "resumed" / "trials.jsonl")
    by_arch = {row["arch"]: row["value"] for row in rows}
    assert by_arch["222"] == max(by_arch.values())  # the most weights, the most flow
    assert {row["num_images"] for row in rows} == {4}
    assert not (tmp_path / "whole" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 3}, r"image_size=3 does not divide images of 8x8 pixels"),
        ({"image_size": 2}, r"images of 2x2 pixels.*multiples of 4"),
        ({"space": (("stages", (1, 1)),)}, r"proxy\.space=.* changes what can be chosen"),
        ({"space": (("haed", 3),)}, r"'haed' is no option of .*nearest: head"),
        ({"space": ("head", 3)}, r"'head' is no \(option, value\)"),
        ({"space": (("head", 0),)}, r"space\.head=0 must be"),
        ({"num_images": 513}, r"proxy\.num_images=513, but data\.train has 512"),
    ],
)
def test_networks_that_cannot_be_are_refused(tmp_path, fields, message):
    fields = {f"sweep.proxy.{name}": value for name, value in fields.items()}
    with pytest.raises(ValueError, match=message):
        _run(tmp_path, {"sweep.score": "naswot", **fields})


def test_fused_kernels_are_refused(tmp_path, monkeypatch):
    run = _run(tmp_path, {"sweep.score": "zen"})
    monkeypatch.setenv("NAS_JAX_FUSED_KERNELS", "1")
    with pytest.raises(ValueError, match="unset"):
        training_free.TrainingFree(run, "zen")


def test_what_networks_do_not_show_is_refused(tmp_path, monkeypatch):
    """As of a space whose layers apply ReLUs of their own."""
    run = _run(tmp_path, {"sweep.score": "naswot", "sweep.proxy.num_images": 4})
    monkeypatch.setattr(observed, "relus", lambda module, outputs: None)
    monkeypatch.setattr(observed, "parted", lambda module, kind, whole, option: option())
    with pytest.raises(ValueError, match=r"MacroNetwork show no ReLU.*observed\.relu"):
        training_free.TrainingFree(run, "naswot")(run.space.from_strs(EVERY))


def test_unit_variance_leaves_scales_as_they_are():
    variables = {"kernel": np.full((64, 64), 9.0, np.float32), "scale": np.ones(3, np.float32)}
    drawn = training_free._of_unit_variance(rng.key(0), variables)
    assert np.std(drawn["kernel"]) == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(drawn["scale"], 1)
