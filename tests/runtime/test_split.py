"""What `pmap` and `spread` split is named by the arguments of the function."""

import jax
import numpy as np
import pytest

from nas_jax.runtime import distributed


def scaled(state, batch, factor):
    return state + distributed.mean(batch) * factor, batch * factor


def test_pmap_splits_the_arguments_that_are_named():
    run = distributed.pmap(
        scaled,
        split={"batch"},
        split_out=(False, True),
        donate={"state"},
        devices=jax.devices()[:1],
    )
    state, out = run(np.ones(3, np.float32), np.arange(3, dtype=np.float32)[None], np.float32(2))
    np.testing.assert_array_equal(state, [1, 3, 5])
    np.testing.assert_array_equal(out, [[0, 2, 4]])


def test_spread_splits_the_arguments_that_are_named():
    members = distributed.MEMBER
    run = distributed.spread(
        lambda states, factor: states * factor,
        distributed.grid(4),
        split={"states": members},
        split_out=members,
    )
    np.testing.assert_array_equal(run(np.arange(4), np.int32(3)), [0, 3, 6, 9])


def test_names_of_no_argument_are_refused():
    with pytest.raises(ValueError, match="no argument batches; there are state, batch, factor"):
        distributed.pmap(scaled, split={"batches"}, split_out=False)
    with pytest.raises(ValueError, match="no argument states"):
        distributed.spread(scaled, distributed.grid(1), split={}, split_out="", donate={"states"})
