"""Optimisers, losses, augmentation and moving means: by hand, and in whole trainings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from nas_jax.data import augment, dataset
from nas_jax.runtime import rng
from nas_jax.storage.checkpoints import Checkpoints
from nas_jax.training import losses, optim, supernet, train_step
from tests import trainings
from tests.configs import tiny

MINE = """
import jax, jax.numpy as jnp, optax

def rms(learning_rate, *, decay: float = 0.9):
    return optax.chain(optax.scale_by_rms(decay), optax.scale(-learning_rate))
def heavy(learning_rate, *, momentum):
    return optax.sgd(learning_rate, momentum)
def deaf(learning_rate):
    return optax.sgd(0.1)
def injected(learning_rate):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)
def no_optimizer(learning_rate):
    return 1
def raises(learning_rate):
    return {}["x"]

def squares(logits, targets, *, scale: float = 1.0):
    return scale * jnp.sum((jax.nn.softmax(logits) - targets) ** 2, -1)
def mean_loss(logits, targets):
    return jnp.mean(squares(logits, targets))
def bad_loss(logits, targets):
    return {}["x"]

def darker(keys, images):
    return images * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
def smaller(keys, images):
    return images[:, 1:]
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def train(**fields):
    """Some fields of a `train` section."""
    given = {"optimizer": "sgd", "optimizer_options": (), "loss": "cross_entropy"}
    return ConfigDict(given | {"loss_options": (), "class_weights": ()} | fields)


# -- optimisers -----------------------------------------------------------------------------------


def _updates(name, gradients, options=(), learning_rate=0.1, weights=1.0):
    found = optim.of(train(optimizer=name, optimizer_options=options))
    made = found.at(learning_rate, momentum=0.9, nesterov=True, clip_norm=None)
    weights, path = jnp.float32(weights), []
    state = found.first_state(weights)
    for gradient in gradients:
        update, state = made.update(jnp.float32(gradient), state, weights)
        weights = optax.apply_updates(weights, update)
        path.append(float(update))
    return path


def test_adamw_by_hand():
    """The first step is the sign of the gradient, whatever its size; the decay is of the weight."""
    options = (("weight_decay", 0.5), ("eps", 0.0))
    np.testing.assert_allclose(_updates("adamw", [7.0], options), [-0.1 - 0.1 * 0.5], rtol=1e-4)
    # m = .1 * 1 + .09 * 1 and v = .001 + .000999, both over 1 - b^2: again 1.
    options = (("weight_decay", 0.0), ("eps", 0.0))
    np.testing.assert_allclose(_updates("adamw", [1.0, 1.0], options), [-0.1, -0.1], rtol=1e-4)


def test_an_optimizer_of_a_file_by_hand():
    # v = .5 * 4: the step is -.1 * 2 / sqrt(2)
    found = _updates("mine.py:rms", [2.0], (("decay", 0.5),))
    np.testing.assert_allclose(found, [-0.1 * 2**0.5], rtol=1e-5)
    np.testing.assert_allclose(_updates("mine.py:heavy", [1.0, 1.0]), [-0.1, -0.19], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "mine.py:deaf"}, "'mine.py:deaf' makes the same update at any learning"),
        ({"optimizer": "mine.py:injected"}, "makes the same update at any learning rate"),
        ({"optimizer": "mine.py:no_optimizer"}, "made a int, not an optax.GradientTransformation"),
        ({"optimizer": "mine.py:raises"}, r"KeyError in .*mine.py, line \d+: 'x'"),
        (
            {"optimizer": "adm"},
            "train.optimizer='adm' is none of sgd, adam, adamw; nearest: 'adam'",
        ),
        (
            {"optimizer": "adamw", "optimizer_options": (("weightdecay", 0.1),)},
            "'weightdecay' is no option of adamw, .*nearest: weight_decay",
        ),
        (
            {"optimizer": "sgd", "optimizer_options": (("momentum", 0.1),)},
            "'momentum' is no option of sgd, which has none",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        optim.of(train(**fields))


# -- losses ---------------------------------------------------------------------------------------

LOGITS = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
CLASSES = jnp.asarray([[1.0, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("fields", "weights", "expected"),
    [
        ({}, (), (np.log(2) - np.log(0.6)) / 2),
        ({"loss": "focal"}, (), (0.25 * np.log(2) - 0.16 * np.log(0.6)) / 2),
        ({"loss": "focal", "loss_options": (("gamma", 0.0),)}, (), np.log(2 / 0.6) / 2),
        ({}, (2.0, 1.0, 3.0), (2 * np.log(2) - 3 * np.log(0.6)) / 2),
        (
            {"loss": "mine.py:squares", "loss_options": (("scale", 2.0),)},
            (),
            0.25 + 2 * 0.0625 + 2 * 0.04 + 0.16,
        ),
    ],
)
def test_losses_by_hand(fields, weights, expected):
    found = losses.named(train(**fields))
    found = losses.Loss(found.name, found.function, found.options, weights)
    np.testing.assert_allclose(found(LOGITS, CLASSES, 0.0), expected, rtol=1e-6)


def test_the_focal_loss_has_finite_gradients_where_an_image_is_sure():
    logits = jnp.asarray([[200.0, 0, 0], [0, 200, 0]])
    for gamma in (0.5, 2.0):
        found = losses.Loss("focal", losses.focal, (("gamma", gamma),))
        assert np.isfinite(jax.grad(lambda x, f=found: f(x, CLASSES, 0.0))(logits)).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:mean_loss", r"gave losses \[\] for logits \[2, 3\]; they must be \[2\]"),
        ("mine.py:bad_loss", r"train.loss='mine.py:bad_loss': KeyError in .*mine.py, line"),
        ("focl", "nearest: 'focal'"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        losses.named(train(loss=name))(LOGITS, CLASSES, 0.0)


def test_balanced_weights_by_hand():
    labels, images = np.asarray([0, 0, 0, 1, 2, 2, 0, 0, 1, 2]), np.zeros((10, 4, 4, 1), np.uint8)
    data = dataset.in_memory("some", "abc", (6, 2, 2), 0, images, labels)
    balanced = train(class_weights=("balanced",))
    assert losses.class_weights(balanced, data, "train") == (6 / 9, 2.0, 1.0)
    assert losses.class_weights(balanced, data, "train+valid") == (8 / 15, 8 / 3, 8 / 6)
    with pytest.raises(ValueError, match=r"=\('balanced',\), but test has no image of class 'a'"):
        losses.class_weights(balanced, data, "test")


# -- augmentation ---------------------------------------------------------------------------------

PLAIN = {"flip": False, "crop_padding": 0, "cutout": 0}


class _Pixels:
    mean, std = (0.5,), (0.25,)


def test_a_function_of_a_file_changes_images_before_all_else():
    keys = jax.random.split(jax.random.key(0), 4)
    images = np.full((4, 2, 2, 1), 255, np.uint8)
    found = augment.preparation(_Pixels, fn="mine.py:darker", **PLAIN)(keys, images)
    seen = 0.5 + 0.25 * np.asarray(found)[:, 0, 0, 0]  # shares of white, one for each key
    assert len({*seen.tolist()}) == 4
    assert seen.min() >= 0
    assert seen.max() <= 1
    one = augment.preparation(_Pixels, fn="mine.py:darker", **PLAIN)(keys[2:], images[2:])
    np.testing.assert_array_equal(one, found[2:])
    with pytest.raises(ValueError, match=r"made images \[4, 1, 2, 1\] of images \[4, 2, 2, 1\]"):
        augment.preparation(_Pixels, fn="mine.py:smaller", **PLAIN)(keys, images)


def test_a_function_of_a_user_draws_from_keys_of_its_own():
    """`augment` splits an image's key; JAX makes split(key)[i] of fold_in(key, i)."""
    key = jax.random.key(7)
    mine = jax.random.key_data(rng.named(key, augment.FIELD))
    for others in (jax.random.split(key, 3), jax.random.split(key, 8)):
        assert not (jax.random.key_data(others) == mine).all(-1).any()


def test_mixup_by_hand():
    """Each image with the one before, of the same ghost batch; its own share is the larger."""
    values = jnp.asarray([[1.0, 2.0], [10.0, 20.0]])
    shares = jnp.asarray([[1.0, 0.75], [0.5, 1.0]])
    np.testing.assert_allclose(augment.mixed(values, shares), [[1, 1.75], [15, 20]])
    drawn = augment.mixup_shares(jax.random.split(jax.random.key(0), 2000), 1.0)
    assert drawn.min() >= 0.5
    np.testing.assert_allclose(drawn.mean(), 0.75, atol=0.01)  # of a uniform one, folded


# -- whole trainings ------------------------------------------------------------------------------


def _built(**fields):
    fields = {f"supernet.train.{name}": value for name, value in fields.items()}
    return trainings.built_with(tiny.get_config(), trainings.SMALL | fields)


RECIPES = [
    {"optimizer": "adamw", "base_lr": 0.1, "ema": 0.9, "augment.mixup": 0.4},
    {
        "optimizer": "mine.py:rms",
        "base_lr": 0.1,
        "augment.fn": "mine.py:darker",
        "loss": "focal",
        "class_weights": ("balanced",),
    },
]


@pytest.mark.system
@pytest.mark.parametrize("recipe", RECIPES, ids=["own", "files"])
def test_a_recipe_learns_and_resumes_to_the_bit(tmp_path, recipe):
    built = _built(**recipe)
    state, rows = trainings.fit(built, tmp_path / "whole")
    assert rows[-1]["loss"] < rows[0]["loss"]
    trainings.assert_resumes(built, tmp_path / "killed", state, rows)


@pytest.mark.system
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_population_learns_with_adamw_and_moving_means_and_resumes(tmp_path, metric):
    fields = {"supernet.variant": "pbt", "supernet.variant_options": (("population", 2),)}
    recipe = {"optimizer": "adamw", "base_lr": 0.1, "ema": 0.9}
    fields |= {f"supernet.train.{name}": value for name, value in recipe.items()}
    fields |= trainings.SMALL | {"metric": metric}
    built = trainings.built_with(tiny.get_config(), fields)
    state, rows = trainings.fit(built, tmp_path / "whole")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert np.isfinite(state.sampler_state["score"]).all()
    trainings.assert_resumes(built, tmp_path / "killed", state, rows)


@pytest.mark.system
def test_moving_means_are_what_is_evaluated(tmp_path):
    """By hand from the weights of each step: the decay begins with (1 + t) / (10 + t)."""
    built = _built(ema=0.15, num_steps=3, log_every=1, checkpoint_every=1, keep_checkpoints=3)
    run = trainings.run_of(*built, tmp_path)
    training = supernet.training(run, jax.devices()[:1])
    state = training.fit(tmp_path, seed=0)
    with Checkpoints(tmp_path / "checkpoints") as kept:
        steps = [kept.restore(number, training._state_shape) for number in (1, 2, 3)]
    average = training._first_state(0, None, None).params
    for number, step in enumerate(steps):
        decay = min(0.15, (1 + number) / (10 + number))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, step.params)
    read = training.trained(tmp_path).last()[0].params
    for found in (state.variables["params"], read):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, average)
    assert not np.array_equal(*map(lambda t: jax.tree.leaves(t)[0], (read, steps[-1].params)))


def test_without_moving_means_the_state_has_none():
    state = train_step.create({"params": {"a": np.ones(2)}})
    assert state.average == {}
    assert state.variables["params"] is state.params


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_weights": (1.0, 2.0)}, r"train.class_weights=\(1.0, 2.0\) must be 10 numbers"),
        ({"class_weights": (0.0,) * 10}, "must be positive numbers, or 'balanced' alone"),
        ({"class_weights": ("balance",)}, "must be positive numbers, or 'balanced' alone"),
        ({"class_weights": ("balanced", 1.0)}, "must be positive numbers, or 'balanced' alone"),
        ({"ema": 1.0}, "ema=1.0 must be at least 0 and below 1"),
        ({"augment.mixup": -1.0}, "mixup=-1.0 must be 0 or more"),
        ({"augment.fn": "nun"}, "augment.fn='nun' is none of none; nearest: 'none'"),
        ({"augment.fn": "mine.py:dark"}, "mine.py has no 'dark'; nearest: 'darker'"),
        ({"augment.fn": "mine.py:smaller"}, "config.supernet.train.augment.fn='mine.py:smaller' m"),
        ({"loss": "mine.py:bad_loss"}, "config.supernet.train.loss='mine.py:bad_loss': KeyError"),
        ({"loss": "mine.py:mean_loss"}, r"train.loss='mine.py:mean_loss' gave losses \[\] for log"),
        ({"optimizer": "mine.py:deaf"}, "config.supernet.train.optimizer='mine.py:deaf' makes the"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_before_training(fields, message):
    with pytest.raises(ValueError, match=message):
        _built(**fields)
