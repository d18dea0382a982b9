"""The first weights of candidates that are trained: those of their stand-alone networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from nas_jax import spaces
from nas_jax.candidates.short_training import ShortTraining
from nas_jax.nn import layers
from nas_jax.nn import masked as masked_lib
from tests import trainings
from tests.configs import tiny

pytestmark = pytest.mark.system

UNTIED = spaces.make("cell", num_cells=2, num_blocks=1, cells_per_stage=1, tied=False)
NB201 = spaces.make("nasbench201", num_cells=1, num_stages=1)
SKIPS = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


@pytest.fixture(scope="module")
def built():
    """Candidates whose training is one step that moves nothing that can be seen."""
    config = tiny.get_config()
    config.space.num_cells, config.sweep.score = 1, "trained"
    config.retrain.short.train.update({"num_steps": 1, "base_lr": 1e-12})
    return trainings.build(config)


def _deviations(net, *archs):
    """By path the standard deviation of each number of a kernel, and constants elsewhere."""
    net = net.clone(kernel_init=layers.he_scale)
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((2, 8, 8, 3)), *archs)
    return flatten_dict(variables["params"])


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (UNTIED, "0,1>sep3x3/1>identity,conv7x7"),
        (UNTIED, UNTIED.to_str(UNTIED.all_on())),
        (NB201, SKIPS),
        (spaces.make("nasbench_macro", stages=(1, 1), head=2), "12"),
    ],
)
def test_a_masked_network_begins_as_its_stand_alone_network(space, text):
    """Where its masks are given: a 1x1 convolution has the fan-in of the inputs that are on."""
    options = {"num_classes": 10, "filters": 4}
    alone = _deviations(space.standalone(text, **options))
    masked = _deviations(space.supernet(**options), space.from_str(text))
    for path, deviation in alone.items():
        np.testing.assert_allclose(masked[path], deviation, rtol=1e-6, err_msg=str(path))


def test_of_several_groups_an_input_counts_that_one_of_them_has():
    masks = UNTIED.from_strs(["0>sep3x3/0>sep3x3", "1>sep3x3/0>sep3x3"])
    found = _deviations(UNTIED.supernet(num_classes=10, filters=4), masks)
    for cell, fan_in in ((0, 4 + 4), (1, 8)):
        kernel = found[f"cell{cell}", f"cell{cell}_block0_inputs", "0", "kernel"]
        np.testing.assert_allclose(kernel, math.sqrt(2 / fan_in), rtol=1e-6)


def test_a_candidate_is_trained_from_there(built, tmp_path):
    """Of one draw for all; block 1 has one of its three inputs, so sqrt(3) times the supernet's."""
    config, space, data = built
    text = "0,1>sep3x3|2>identity,maxpool"
    trained = ShortTraining(trainings.run_of(config, space, data, tmp_path), tmp_path)
    trained(space.from_strs([text]))
    [state] = trained._training.trained(trained._folder(text)).last()
    net = space.supernet(num_classes=10, filters=4)
    images = jnp.zeros((1, *data.image_shape))
    drawn = masked_lib.init(jax.random.key(config.seed), net, images, space.all_on())["params"]
    for path, kernel in flatten_dict(space.subnet(state.params, text)).items():
        factor = math.sqrt(3) if "block1_inputs" in path and kernel.ndim > 1 else 1
        expected = factor * flatten_dict(drawn)[path]
        np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6, err_msg=str(path))
