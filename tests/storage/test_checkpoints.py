"""Checkpoints: a state comes back bit for bit, and one of another network is refused."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax.storage import checkpoints


class State(NamedTuple):
    params: Any
    step: Any


def make_state(seed, width=3):
    values = np.random.default_rng(seed).normal(size=(2, width))
    params = {
        "dense": {"kernel": jnp.asarray(values, jnp.float32)},
        "half": jnp.asarray(values[0], jnp.bfloat16),
        "key": jax.random.key_data(jax.random.key(seed)),
    }
    return State(params, jnp.int32(seed))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder to which the steps 10, 20 and 30 were saved."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoints.Checkpoints(folder, keep=2) as made:
        assert made.latest is None
        for step in (10, 20, 30):
            made.save(step, make_state(step))
    return folder


def test_the_latest_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["20", "30"]
    with checkpoints.Checkpoints(saved) as made:
        assert made.latest == 30


@pytest.mark.parametrize("step", [20, 30])
def test_a_state_comes_back_bit_for_bit(saved, step):
    with checkpoints.Checkpoints(saved) as made:
        restored = made.restore(step, jax.eval_shape(lambda: make_state(0)))
    expected = make_state(step)
    assert isinstance(restored, State)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_all_are_kept_where_none_is_to_go(tmp_path):
    with checkpoints.Checkpoints(tmp_path / "c") as made:
        for step in (1, 2, 3):
            made.save(step, make_state(step))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("wider", "params.dense.kernel is float32[2, 3] there and float32[2, 4] here"),
        ("one more", "params.bias is absent there and float32[2] here"),
        ("one less", "params.half is bfloat16[3] there and absent here"),
        ("another dtype", "params.half is bfloat16[3] there and float32[3] here"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(saved, change, message):
    state = make_state(0, width=4 if change == "wider" else 3)
    if change == "one more":
        state.params["bias"] = jnp.zeros(2)
    if change == "one less":
        del state.params["half"]
    if change == "another dtype":
        state.params["half"] = jnp.zeros(3)
    with (
        checkpoints.Checkpoints(saved) as made,
        pytest.raises(
            ValueError, match=f"checkpoint {saved}/30 does not fit.*{re.escape(message)}"
        ),
    ):
        made.restore(30, state)
