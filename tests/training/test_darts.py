"""DARTS and GDAS: a step of the alphas by hand, what is selected, and what is refused."""

import dataclasses
import itertools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from nas_jax import preview
from nas_jax.aot import programs
from nas_jax.oneshot.relaxation import RelaxedSampler
from nas_jax.report import page
from nas_jax.report.sections import selected
from nas_jax.runtime import distributed
from nas_jax.spaces.choices import Choice
from nas_jax.training import (
    alpha_turn,
    ranking_metrics,
    restoration,
    supernet,
    train_step,
    variants,
)
from nas_jax.training.loop import Trial
from nas_jax.training.variants import darts
from tests import trainings
from tests.configs import tiny

PIXELS = np.asarray([1, 2, -1, 3, 0.5, -2, 4, 1.5], np.float32)  # an image is one pixel
START = "The largest of the learnt alphas are this architecture"  # of the report
LABELS = np.asarray([0, 1, 0, 0, 1, 1, 1, 0], np.int32)
WEIGHTS = np.asarray([0.3, -0.8], np.float32)
ALPHAS = np.asarray([0.4, -0.1], np.float32)


@dataclasses.dataclass(frozen=True)
class Space:
    """One op of two."""

    choices: Choice = Choice("op", 2, 1, 1)


SPACE = Space()


class Net(nn.Module):
    """Logits (s x, 0) of a pixel x, where s is the sum of weights times masks."""

    num_classes: int = 2
    execution: str = "relaxed"

    @nn.compact
    def __call__(self, images, masks):
        weights = self.param("weights", lambda key: jnp.asarray(WEIGHTS))
        pixels = images[..., 0, 0, 0] * (masks @ weights)[:, None]
        return jnp.stack([pixels, jnp.zeros_like(pixels)], -1)


def stepped(pixels=PIXELS, at_once=4, devices=1, sample="softmax", temperature=10, **options):
    """(state before, state after, metrics) of a step of the alphas."""
    defaults = dict(weight_decay=0.1, temperatures=(10.0, 0.1), learning_rate=0.01, every=1)
    learnt = darts.Darts(SPACE, sample, **defaults | options)
    step = alpha_turn.AlphaStep(
        Net(),
        prepare=lambda keys, images: images,
        num_groups=4 // devices,
        groups_at_once=min(at_once, 4 // devices),
        sampler=RelaxedSampler(SPACE, sample),
        relaxation=learnt,
    )
    first = jax.device_get(learnt.init(jax.random.key(0)))
    first |= {"alphas": ALPHAS, "temperature": np.float32(temperature)}
    state = train_step.create({"params": {"weights": WEIGHTS}}, first)
    batch = {"image": pixels.reshape(8, 1, 1, 1), "label": LABELS}
    batch = distributed.shard(batch, devices)
    devices = jax.devices()[:devices]
    run = distributed.pmap(step, split={"batch"}, split_out=False, devices=devices)
    return state, *jax.device_get(run(state, batch, jax.random.key(0), np.float32(0.25)))


@pytest.mark.parametrize(("at_once", "devices"), [(4, 1), (1, 1), (1, 4)])
def test_a_step_of_the_alphas_by_hand(at_once, devices):
    """The gradient of the cross-entropy by alpha j is m_j (g_j - m . g), g_j = mean((p - y) x) w_j.

    Adam's first moment is (1 - 0.5) of it, with the decay of 0.1 alpha; its first step is the rate.
    """
    _, after, metrics = stepped(at_once=at_once, devices=devices)
    masks = special.softmax(ALPHAS)
    p = special.expit(PIXELS * (masks @ WEIGHTS))
    by_mask = np.mean((p - (LABELS == 0)) * PIXELS) * WEIGHTS
    by_alpha = masks * (by_mask - masks @ by_mask) + 0.1 * ALPHAS
    moments = after.sampler_state["adam"][1][0].mu
    np.testing.assert_allclose(moments, 0.5 * by_alpha, rtol=1e-4)
    moved = after.sampler_state["alphas"] - ALPHAS
    np.testing.assert_allclose(moved, -0.01 * np.sign(by_alpha), rtol=1e-3)
    np.testing.assert_array_equal(after.params["weights"], WEIGHTS)
    y = LABELS == 0
    np.testing.assert_allclose(
        metrics["valid_loss"], -np.mean(y * np.log(p) + ~y * np.log(1 - p)), rtol=1e-5
    )


def test_the_temperature_falls_with_the_share_that_is_done():
    _, after, _ = stepped()
    assert after.sampler_state["temperature"] == pytest.approx(10 - 0.25 * 9.9)


def test_the_gradient_of_draws_is_at_the_temperature_of_the_state():
    """It has p (1 - p) / T; p is 1/2 where T is far above the noise, and the draws are the same."""

    def moments(temperature):
        options = {"sample": "gumbel", "temperature": temperature, "weight_decay": 0.0}
        return stepped(**options)[1].sampler_state["adam"][1][0].mu

    one, two = moments(1000), moments(2000)
    assert np.abs(one).min() > 1e-6
    np.testing.assert_allclose(one, 2 * two, rtol=1e-3)


def test_a_gradient_that_is_not_finite_changes_no_alpha():
    before, after, metrics = stepped(np.where(np.arange(8) == 3, np.nan, PIXELS))
    assert not np.isfinite(metrics["valid_loss"])
    for name in ("alphas", "adam"):
        pairs = zip(*(jax.tree.leaves(s.sampler_state[name]) for s in (before, after)))
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_defaults_are_the_papers():
    """DARTS, section 3.1; GDAS, section 4.1."""
    made = variants.make("darts", SPACE).relaxation
    assert darts.BETAS == (0.5, 0.999)
    assert (made.learning_rate, made.weight_decay, made.every) == (3e-4, 1e-3, 1)
    assert made.temperatures == (10, 0.1)
    assert made == variants.make("darts", SPACE).relaxation  # so that trainings share programs


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("sample", "gumbl"), "sample.*gumbl.*nearest: 'gumbel'"),
        (("order", "second"), "order.*second"),
        (("every", 0), "every=0 must be 1 or more"),
        (("learning_rate", -1.0), "learning_rate=-1.0 must be 0 or more"),
        (("temperatures", (1.0, 0.0)), "temperatures=0.0 must be 0.001 or more"),
        (("temperatures", (5.0, 1.0, 2.0)), r"temperatures=\(5.0, 1.0, 2.0\) must be two numbers"),
        (("temperatures", 5.0), "temperatures=5.0 must be "),
    ],
)
def test_bad_options_are_refused(option, message):
    with pytest.raises(ValueError, match=f"config.supernet.variant_options: {message}"):
        variants.make("darts", SPACE, (option,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("supernet.sampler", "single_path"),
        ("supernet.archs_per_step", 3),
        ("sweep.score", "trained"),
        ("sweep.score", "own.py:sizes"),
        ("sweep.bn", "running"),
        ("sweep.strategy", "exhaustive"),
        ("sweep.constraints.max_flops", 10**9),
    ],
)
def test_fields_that_it_would_not_heed_are_refused(field, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def sizes(run):\n    return lambda archs: None\n")
    fields = trainings.SMALL | {"supernet.variant": "darts", field: value}
    fields |= {"sweep.calibration_images": 64}
    with pytest.raises(ValueError, match=rf"config\.{field}=.* does not go with supernet.variant"):
        trainings.built_with(tiny.get_config(), fields)


def test_more_images_than_there_are_to_validate_on_are_refused():
    fields = trainings.SMALL | {"supernet.variant": "darts", "supernet.train.batch_size": 256}
    with pytest.raises(ValueError, match=r"batch_size=256, .* data\.valid has 128; lower it"):
        trainings.built_with(tiny.get_config(), fields)


def test_alphas_that_no_step_would_come_to_are_refused():
    fields = trainings.SMALL | {"supernet.variant": "darts"}
    options = "supernet.variant_options"
    trainings.built_with(tiny.get_config(), fields | {options: (("every", 40),)})
    with pytest.raises(ValueError, match=rf"config\.{options}: every=41, but there are only 40"):
        trainings.built_with(tiny.get_config(), fields | {options: (("every", 41),)})


OWN = """
from nas_jax.training import variants

def both(space, *, other="wrap"):
    given = {"wrap": lambda net: net, "selection": variants.make("pbt", space).selection}
    return variants.make("darts", space)._replace(**{other: given[other]})
"""


@pytest.mark.parametrize("other", ["wrap", "selection"])
def test_what_would_lose_the_alphas_is_refused(other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    fields = {"supernet.variant": "own.py:both", "supernet.variant_options": (("other", other),)}
    with pytest.raises(ValueError, match=f"has a relaxation and also a {other}, .* leave out one"):
        trainings.built_with(tiny.get_config(), trainings.SMALL | fields)


@pytest.mark.parametrize(("score", "same"), [("accuracy", True), ("kl", False)])
def test_the_report_says_which_scores_the_alphas_have_seen(score, same):
    row = {"arch": "0>sep3x3", "value": 0.5, "params": 7, "flops": 7, "score": score}
    shown = types.SimpleNamespace(
        selected=row, ranked=[row], ranking_metric=ranking_metrics.ranking_metric(score)
    )
    text = selected.write(shown)
    assert START in text
    assert ("no estimate of the accuracy on others" in text) is same


# -- whole ----------------------------------------------------------------------------------------


def _run(directory, **fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    given = trainings.SMALL | {"supernet.variant": "darts", "sweep.num_candidates": 8} | fields
    return trainings.run_of(*trainings.built_with(tiny.get_config(), given), directory)


def test_equal_steps_of_alphas_are_compiled_once(tmp_path):
    def compiled(**fields):
        return supernet.training(_run(tmp_path, **fields), jax.devices()[:1]).task.turn._step

    first = compiled()
    assert compiled(seed=3, supernet__train__base_lr=0.1, supernet__train__num_steps=7) is first
    assert compiled(supernet__variant_options=(("sample", "gumbel"),)) is not first


def test_the_first_alphas_are_of_the_seed_not_of_the_sweep_s(tmp_path):
    def first(**fields):
        state = supernet.training(_run(tmp_path, **fields), jax.devices()[:1]).task.sampler_state
        return np.concatenate(jax.tree.leaves(state["alphas"]))

    np.testing.assert_array_equal(first(), first(sweep__seed=1))
    assert not np.isclose(first(), first(seed=1)).any()


def test_turns_take_validation_images_in_order_and_end_with_the_last_temperature(tmp_path):
    """Four steps of the weights, the first before any turn: 0, 1/3, 2/3 and all is done."""
    run = _run(tmp_path, supernet__train__num_steps=4)
    turn, seen = supernet.training(run, jax.devices()[:1]).task.turn, []
    turn._step = lambda state, batch, root, share: seen.append((batch["label"][0], share))
    for step in (1, 2, 3, 4, 3):  # and one that does not follow
        turn(step, None, None)
    labels, shares = zip(*seen)
    batches = run.data.batches("valid", 32, seed=run.config.seed, start=0)
    expected = [batch["label"] for batch in itertools.islice(batches, 4)]
    np.testing.assert_array_equal(labels, [*expected, expected[2]])
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 1, 1, 1], rtol=1e-6)


def test_estimates_count_steps_of_alphas_as_steps(tmp_path, monkeypatch):
    """40 steps of 1 s, and 40 or 10 of the alphas; other parts take as long with either."""
    monkeypatch.setattr(preview, "_measured", lambda run: {"supernet": Trial(1.0, 0.0, None)})

    def times(every):
        run = _run(tmp_path, supernet__variant_options=(("every", every),))
        assert ("supernet", "the step of the alphas") in programs.left_out(run)
        lines = preview.text(run, "search").partition("\nTime:\n")[2].splitlines()
        return dict(line.strip().split(maxsplit=1) for line in lines)

    each, fourth = times(1), times(4)
    assert each["supernet"].startswith("about 80 s: ")
    assert fourth["supernet"].startswith("about 50 s: ")
    assert each["retrain.final"] == fourth["retrain.final"] != "no networks"


@pytest.mark.system
@pytest.mark.parametrize("sample", darts.relaxation.SAMPLES)
def test_the_first_candidate_is_what_was_selected(tmp_path, monkeypatch, sample):
    """Each program is traced once; the sweep, stopped and started again, is the same."""
    traced, call = [], alpha_turn.AlphaStep.__call__

    def counted(self, state, batch, root, hyper):
        traced.append(0)
        return call(self, state, batch, root, hyper)

    monkeypatch.setattr(alpha_turn.AlphaStep, "__call__", counted)
    options = (("sample", sample), ("learning_rate", 0.1))
    run = _run(tmp_path, supernet__variant_options=options, supernet__filters=5)
    supernet.training(run, jax.devices()[:1]).fit(tmp_path, seed=run.config.seed)
    assert len(traced) == 1
    state = restoration.restore(run, tmp_path)[0].sampler_state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert state["temperature"] == pytest.approx(0.1, rel=1e-4)
    found = run.space.to_str(jax.device_get(run.variant.relaxation.select(state)))
    trials = trainings.swept(run.config, run.space, run.data, tmp_path)
    assert trials[0]["arch"] == found
    assert [row.get("selected") for row in trials] == [True, *[None] * 7]
    assert len({row["arch"] for row in trials}) > 1
    path = tmp_path / "trials.jsonl"
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:3]))
    trainings.swept(run.config, run.space, run.data, tmp_path)
    assert path.read_text() == text
    (tmp_path / "config.json").write_text(run.config.to_json())
    report = page.write(tmp_path, run.space).read_text()
    assert f"## The selected architecture\n\n{START}" in report
    assert found.replace("|", "\\|") in report.partition("## Scores")[0]
