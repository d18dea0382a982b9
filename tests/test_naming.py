"""Names that nobody knows: refused where they are given, with the nearest."""

import functools

import jax
import jax.numpy as jnp
import pytest

from nas_jax import naming, spaces
from nas_jax.config import defaults
from nas_jax.costs import widths
from nas_jax.nn import execution, layers, network
from nas_jax.oneshot import path_dropout, path_samplers
from nas_jax.spaces import params as params_lib
from nas_jax.storage import schemas
from nas_jax.training import evaluator_names, optim, ranking_metrics, variants

SPACE = spaces.make("cell", num_cells=1, num_blocks=1, ops=("identity",))
RATES = {"base_lr": 1.0, "batch_size": 1, "num_steps": 2, "warmup_share": 0.0}


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("CIFAR10", ("stl10", "cifar10", "cifar100"), "cifar10"),
        ("swich", ("masked", "switch"), "switch"),
        ("qqq", ("a",), "a"),  # nothing in common
        (3, ("float32", "int"), "float32"),
        ("batch", ("Batch", "running"), "Batch"),
    ],
)
def test_nearest(name, names, expected):
    assert naming.nearest(name, names) == expected


def _weighted_sum(name):
    x = jnp.ones((1, 2))
    return execution.weighted_sum(name, [lambda p, x: x], [{}], [x], jnp.ones((1, 1)))


def _batch_norm(statistics):
    return layers.BatchNorm(statistics).init(jax.random.key(0), jnp.ones((1, 1, 2, 2, 3)))


def _sampler(name):
    return path_samplers.make(name, SPACE, num_groups=1)


def _widths(resource):
    text, shapes = SPACE.to_str(SPACE.all_on()), params_lib.param_shapes(SPACE, 4, 10)
    return widths.Widths(SPACE, text, shapes, image_size=8, resource=resource)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda name: optim.schedule(name, **RATES), "Cosine", "schedule='Cosine'.*'cosine'"),
        (lambda name: path_dropout.ramp(0, 2, name), "linar", "schedule='linar'.*'linear'"),
        (_sampler, "path-dropout", "sampler='path-dropout'.*nearest: 'path_dropout'"),
        (_widths, "flop", "resource='flop' is none of flops, params, latency_ms; nearest: 'flops'"),
        (_weighted_sum, "swich", "execution='swich'.*nearest: 'switch'"),
        (
            functools.partial(execution.resolve, platform="cpu"),
            "Auto",
            "execution='Auto' is none of auto, .*nearest: 'auto'",
        ),
        (
            _batch_norm,
            "Batch",
            "statistics='Batch' is none of batch, running, recorded, off; nearest: 'batch'",
        ),
    ],
)
def test_an_unknown_name_is_refused(make, name, message):
    with pytest.raises(ValueError, match=message):
        make(name)


@pytest.mark.parametrize("space", spaces.SPACES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bn": "Batch"}, "bn='Batch' is none of batch, running, recorded, off; nearest: 'batch'"),
        ({"bn": None}, "bn=None is none of batch, running, recorded"),
        ({"execution": "swich"}, "execution='swich' is none of masked, .*nearest: 'switch'"),
        ({"execution": "auto"}, "execution='auto' is none of masked, switch, dispatch"),
        ({"dtype": "bfloat"}, "dtype='bfloat' is none of float32, .*nearest: 'bfloat16'"),
        ({"dtype": jnp.int8}, "dtype='int8' is none of float32, bfloat16, float16"),
        ({"relu_before_bn": "False"}, "relu_before_bn='False' must be True or False"),
        ({"bn_momentum": 9}, "bn_momentum=9 must be at least 0 and below 1"),
        ({"bn_epsilon": 0}, "bn_epsilon=0 must be above 0"),
    ],
)
def test_an_option_of_a_network_is_refused_when_it_is_made(space, options, message):
    space = spaces.make(space)
    for make in (space.supernet, lambda **given: space.standalone(space.all_on(), **given)):
        with pytest.raises(ValueError, match=message):
            make(num_classes=10, filters=4, **options)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_a_dtype_may_be_given_in_any_form(dtype):
    net = SPACE.supernet(num_classes=10, filters=4, dtype=dtype)
    logits = jax.eval_shape(
        net.init_with_output, jax.random.key(0), jnp.ones((2, 8, 8, 3)), SPACE.all_on()
    )[0]
    assert logits.shape == (2, 10)


def test_a_config_allows_what_the_code_knows():
    """A config is checked before anything is imported, so its names stand there once more."""
    names = {field: rule.names for field, rule in defaults.RULES.items()}
    assert names["supernet.sampler"] == (*path_samplers.SAMPLERS, "strategy")
    assert names["sweep.score"] == (*ranking_metrics.RANKING_METRICS,)
    assert names["sweep.score"] == (*evaluator_names.EVALUATORS, evaluator_names.ENSEMBLE)
    assert names["supernet.variant"] == (*variants.VARIANTS,)
    assert names["sweep.bn"] == ("batch", "recalibrate", "running")
    assert names["supernet.execution"] == ("auto", *execution.NAMES)
    assert names["supernet.path_dropout.schedule"] == path_dropout.SCHEDULES
    assert names["supernet.train.schedule"] == optim.SCHEDULES
    assert names["retrain.widths.resource"] == schemas.RESOURCES
    assert names["network.dtype"] == ("auto", *network.DTYPES)
