"""What changes nothing in the training of a supernet, whatever it trains: kills and devices."""

import jax
import numpy as np
import pytest

from configs import enas as enas_config
from nas_jax.oneshot import path_samplers
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

# With a learning rate by which few steps move its parameters.
PUBLISHED = dict(enas_config.PAPER + enas_config.CODE) | {"hidden": 8, "learning_rate": 0.1}
KINDS = {
    # A gradient per use: a ghost batch's weight depends on those of other devices.
    "path_dropout": {"supernet.per_use_gradients": True},
    "controller": trainings.SMALL
    | {
        "supernet.sampler": "strategy",
        "supernet.strategy_every": 2,
        "sweep.num_candidates": 8,
        "sweep.strategy": "enas",
        "sweep.options": (("learning_rate", 0.1), ("hidden", 8)),
    },
    # A turn has as many rounds as there are batches of 64 in 128 images: two.
    "published controller": trainings.SMALL
    | {
        "supernet.sampler": "strategy",
        "supernet.strategy_every": 6,
        "supernet.strategy_rounds": 0,
        "supernet.strategy_images": 128,
        "sweep.num_images": 64,
        "sweep.num_candidates": 8,
        "sweep.strategy": "enas",
        "sweep.options": tuple(PUBLISHED.items()),
    },
    # And its recipe. With seed 0 rounding errors grow to 4e-4 at step 7, on some CPUs.
    "smash": trainings.SMALL | {"supernet.variant": "smash", "seed": 1},
    "basis": trainings.SMALL
    | {
        "supernet.train.base_lr": 0.3,  # larger ones let rounding errors grow
        "supernet.sampler": "single_path",
        "supernet.variant": "smash",
        "supernet.variant_options": (("hidden", 8), ("basis", 3)),
    },
    "distillation": trainings.SMALL
    | {
        "supernet.train.base_lr": 0.3,  # the sum of four gradients
        "supernet.sampler": "sandwich",
        "supernet.archs_per_step": 4,
        "supernet.distillation": True,
    },
    "darts": trainings.SMALL
    | {"supernet.variant": "darts", "supernet.variant_options": (("learning_rate", 0.1),)},
    "gdas": trainings.SMALL
    | {
        "supernet.train.base_lr": 0.3,
        "supernet.variant": "darts",
        "supernet.variant_options": (("sample", "gumbel"), ("learning_rate", 0.01), ("every", 2)),
    },
    # Which ghost batches use an op weighs its scales: those of all devices.
    "morphnet": trainings.SMALL
    | {"supernet.variant": "morphnet", "supernet.variant_options": (("strength", 8.0),)},
}
CONTROLLERS = {"controller": (10, 1), "published controller": (3, 2)}  # turns, rounds of each
NUMBERS = {"loss", "accuracy", "l2", "penalty", "asked_accuracy", "valid_loss", "alpha_entropy"}


def _built(kind, num_steps):
    config = tiny.get_config()
    config.supernet.train.update({"num_steps": num_steps, "checkpoint_every": 10, "log_every": 1})
    return trainings.chosen(config, KINDS[kind])


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """(kind, last state, metrics) of 20 steps on one device."""
    directory = tmp_path_factory.mktemp("whole")
    return request.param, *trainings.fit(_built(request.param, 20), directory)


def test_resumed_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    """Stopped after step 17, resumed from step 10: weights, optimiser, controller and metrics."""
    kind, state, rows = whole
    trainings.assert_resumes(_built(kind, 20), tmp_path, state, rows)


def test_one_device_equals_eight(whole, tmp_path):
    """Over twelve steps: later, rounding errors have grown to 1e-4."""
    kind, *_ = whole
    built = _built(kind, 12)
    (one, rows), (eight, again) = (trainings.fit(built, tmp_path / str(n), n) for n in (1, 8))
    assert [row["step"] for row in rows] == list(range(1, 13))
    atol = 1e-5 if kind == "path_dropout" else 1e-4
    for ours, theirs in zip(rows, again, strict=True):
        assert ours.keys() == theirs.keys() > {"loss", "accuracy", "l2"}
        for name in NUMBERS & ours.keys():
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=atol)
    if kind in CONTROLLERS:
        baselines = (float(state.sampler_state["baseline"]) for state in (one, eight))
        np.testing.assert_allclose(*baselines, atol=1e-3)
    if kind == "path_dropout":
        assert (rows[0]["drop_share"], rows[-1]["drop_share"]) == (0, 1)  # of the final rate
        assert "drop_rate" not in rows[0]  # it is none


def test_what_each_kind_logs_and_that_controllers_learn(whole, tmp_path):
    kind, state, rows = whole
    asked = [row["asked_accuracy"] for row in rows if "asked_accuracy" in row]
    if kind in CONTROLLERS:
        turns, rounds = CONTROLLERS[kind]
        assert len(asked) == turns
        assert int(state.sampler_state["told"]) == turns * rounds
        assert all(0 <= accuracy <= 1 for accuracy in asked)
        first = trainings.run_of(*_built(kind, 20), tmp_path).first_strategy_state()["params"]
        moves = jax.tree.map(lambda a, b: abs(a - b).max(), state.sampler_state["params"], first)
        assert max(jax.tree.leaves(moves)) > 0.05
    else:
        assert not asked
    assert ("penalty" in rows[0]) == (kind == "morphnet")


def test_masks_that_all_ghost_batches_share_are_drawn_once(tmp_path, monkeypatch):
    """On two devices, as if each drew them: outputs, the L2 of paths, and gradients per use."""
    config = tiny.get_config()
    config.supernet.train.update({"num_steps": 4, "checkpoint_every": 0, "log_every": 1})
    fields = {"supernet.sampler": "shared_path", "supernet.per_use_gradients": True}
    fields |= {"supernet.train.l2": 0.01, "supernet.train.base_lr": 0.3}
    built = trainings.built_with(config, trainings.SMALL | fields)
    once, rows = trainings.fit(built, tmp_path / "once", 2)
    monkeypatch.setattr(path_samplers, "shares_masks", lambda sampler: False)
    each, again = trainings.fit(built, tmp_path / "each", 2)
    for ours, theirs in zip(jax.tree.leaves(once), jax.tree.leaves(each), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    for ours, theirs in zip(rows, again, strict=True):
        for name in ("loss", "l2"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
