"""How far an accuracy may differ, and at which dtype."""

import dataclasses

import jax.numpy as jnp
import pytest

from nas_jax.exports import forms, verification
from nas_jax.exports.workdirs import Workdir
from tests.exports import finished

pytestmark = pytest.mark.system

NUM_IMAGES = 500  # of which 0.2 % is one image, and 1 % are five


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Compare a network with its accuracy moved by so many images, and another dtype's name."""
    directory = tmp_path_factory.mktemp("judged") / "run"
    finished.make(directory, {"final": [finished.CELL]}, data__test=f"test[:{NUM_IMAGES}]")
    source = Workdir(directory)
    (one,) = source.finished
    assert one.result["dtype"] == "float32"  # as a CPU evaluates
    net = source.network(one)
    rest = source.config, net, source.variables(one, net), source.read_data[0]

    def judge(dtype, accuracy=None, off=0):
        accuracy = one.accuracy if accuracy is None else accuracy
        result = {**one.result, "dtype": dtype, "test_accuracy": accuracy + off / NUM_IMAGES}
        changed = dataclasses.replace(one, result=result)
        return verification.reproduced(*rest, changed)

    return judge


@pytest.mark.parametrize("dtype", ["float32", None])
@pytest.mark.parametrize(("off", "equal"), [(0, True), (1, True), (2, False), (3, False)])
def test_float32_may_differ_by_two_images_of_a_thousand(dtype, off, equal, judged):
    """Also where a former result.json names no dtype, and bfloat16 is tried after it."""
    found = judged(dtype, off=off)
    assert (found["equal"], found["may_differ_by_images"]) == (equal, 1)
    if dtype:
        assert (found["dtype"], found["differs_by_images"]) == (dtype, off)


@pytest.mark.parametrize(("off", "equal"), [(0, True), (5, True), (6, False)])
def test_bfloat16_is_tried_where_result_json_names_it(off, equal, judged):
    accuracy = judged("bfloat16")["accuracy"]
    found = judged("bfloat16", accuracy, off)
    assert (found["dtype"], found["may_differ_by_images"]) == ("bfloat16", 5)
    assert found["equal"] == equal


def test_a_dtype_of_no_network_is_named(judged):
    with pytest.raises(ValueError, match=r"^dtype of .*/result\.json='float8' is none of float32"):
        judged("float8")


@pytest.mark.skipif(not forms.has_onnx(), reason="the extra [onnx] is not installed")
def test_writing_onnx_leaves_jax_numpy_as_it_was(tmp_path):
    """The converter replaces `cumsum` by one that takes no axis."""
    before = dict(vars(jnp))
    forms.save_onnx(tmp_path / "a.onnx", lambda x: jnp.tanh(x * 0.1)[:, 0, 0], (2, 2, 3))
    assert {name for name, value in before.items() if vars(jnp)[name] is not value} == set()
