"""Landmark regularisation: its pairs, its gradient, one device as many, what is refused."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax.data import augment
from nas_jax.oneshot.accuracy import OneShotAccuracy
from nas_jax.spaces import tabular
from nas_jax.training import landmarks, restoration, supernet
from tests import trainings
from tests.configs import tiny_macro

ARCHS = [f"{i // 9}{i // 3 % 3}{i % 3}" for i in range(27)]


@pytest.fixture
def table(tmp_path):
    """A file in which the architecture with more of the last op is the better one."""
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("arch", "digits_test_accuracy"))
        rows.writerows((arch, 50 + sum(map(int, arch))) for arch in ARCHS)
    return str(path)


def _built(file, **fields):
    given = {"table": file, "supernet.landmarks.count": 6, "supernet.landmarks.every": 1}
    return trainings.built_with(tiny_macro.get_config(), given | fields)


def test_landmarks_are_of_the_first_half(table):
    run = trainings.run_of(*_built(table), "unused")
    chosen = tabular.drawn(run.table, "first", 6)
    assert {tabular.half(arch) for arch in chosen} == {"first"}
    marks = landmarks.of(run)
    better, worse, weights = marks.pairs(jax.random.key(0), jnp.arange(50))
    order = run.space.to_strs(marks.archs)
    assert sorted(order) == sorted(chosen)
    values = [sum(map(int, arch)) for arch in order]
    assert values == sorted(values, reverse=True)
    pairs = list(zip(run.space.to_strs(better), run.space.to_strs(worse)))
    assert all(order.index(b) < order.index(w) for b, w in pairs)
    assert len(set(pairs)) > 10
    ties = [values[order.index(b)] == values[order.index(w)] for b, w in pairs]
    assert any(ties)
    assert weights.tolist() == [0.0 if tie else 1.0 for tie in ties]
    again, *_ = marks.pairs(jax.random.key(0), jnp.asarray([7]))
    assert run.space.to_strs(again)[0] == pairs[7][0]  # a ghost batch's pair is its own


@pytest.mark.system
def test_one_device_ranks_as_four(table, tmp_path):
    built = _built(table, **{"supernet.train.num_steps": 4, "supernet.landmarks.every": 2})
    states = []
    for count in (1, 4):
        state, rows = trainings.fit(built, tmp_path / f"{count}", count)
        states.append(jax.tree.map(lambda x: np.asarray(x), state.params))
    first = jax.tree.leaves(states[0])
    for a, b in zip(first, jax.tree.leaves(states[1]), strict=True):
        np.testing.assert_allclose(a, b.reshape(a.shape), rtol=2e-4, atol=2e-5)
    assert "ranking" in rows[-1]


@pytest.mark.system
def test_losses_come_to_have_the_order_of_landmarks(table, tmp_path):
    """With a large weight, landmarks rank by their losses as the table has them, alone not."""
    taus = {}
    for name, count in (("with", 8), ("without", 0)):
        fields = {"supernet.landmarks.count": count, "supernet.landmarks.weight": 4.0}
        run = trainings.run_of(*_built(table, **fields), tmp_path / name)
        supernet.train(run)
        chosen = tabular.drawn(run.table, "first", 8)
        params = restoration.restore(run, run.workdir)[0].params
        images = run.data.fixed("train", 128)
        given = run.supernet(), {"params": params}, *images
        options = {"batch_size": 64, "prepare": augment.standardiser(run.data)}
        values = OneShotAccuracy(*given, **options, metric="minus_loss")(
            run.space.from_strs(chosen)
        )
        truth = np.asarray([run.table.rows[arch].accuracy for arch in chosen])
        agree = np.sign(values[:, None] - values) * np.sign(truth[:, None] - truth)
        taus[name] = agree.sum() / (truth[:, None] != truth).sum()
    assert taus["with"] > taus["without"] + 0.2, taus


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"supernet.landmarks.count": 1}, r"count=1 must be 0, or 2 or more"),
        ({"supernet.landmarks.count": 26}, r"count=26, but the first half of config.table has \d"),
        ({"supernet.variant": "pbt"}, r"count=6 does not go with supernet\.variant='pbt'"),
        ({"table": ""}, r"count=6 needs config\.table"),
    ],
)
def test_landmarks_that_cannot_be_are_refused(table, fields, message):
    with pytest.raises(ValueError, match=message):
        _built(table, **fields)
