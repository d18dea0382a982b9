"""How images and masks meet in groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas_jax import spaces
from nas_jax.nn import masked

SPACE = spaces.make("cell", num_cells=2, num_blocks=2, cells_per_stage=1)


def _repeated(arch, groups):
    return jax.tree.map(lambda mask: np.stack([mask] * groups), arch)


@pytest.mark.parametrize(
    ("shape", "groups", "message"),
    [
        ((10, 8, 8, 3), 4, "10 images do not divide into 4 groups"),
        ((3, 2, 8, 8, 3), 2, "3 groups of images, but 2 groups of masks"),
    ],
)
def test_groups_that_do_not_fit(shape, groups, message):
    arch = _repeated(SPACE.all_on(), groups)
    with pytest.raises(ValueError, match=message):
        masked.to_groups(np.zeros(shape), arch)


@pytest.mark.parametrize(
    ("shape", "groups", "inside", "masks", "leading"),
    [
        ((8, 8, 8, 3), None, (1, 8, 8, 8, 3), 1, (8,)),
        ((8, 8, 8, 3), 4, (4, 2, 8, 8, 3), 4, (8,)),
        ((1, 8, 8, 8, 3), 4, (1, 8, 8, 8, 3), 4, (4, 8)),
        ((4, 8, 8, 8, 3), None, (4, 8, 8, 8, 3), 1, (4, 8)),
        ((4, 8, 8, 8, 3), 4, (4, 8, 8, 8, 3), 4, (4, 8)),
    ],
)
def test_to_groups(shape, groups, inside, masks, leading):
    arch = _repeated(SPACE.all_on(), groups) if groups else SPACE.all_on()
    images, arch, axes = masked.to_groups(jnp.zeros(shape), arch)
    assert images.shape == inside
    assert {mask.shape[0] for mask in jax.tree.leaves(arch)} == {masks}
    assert axes == leading
