"""Search a space of your own: python own_space.py

The same by the command: nas-jax --config=mine.py, where mine.py sets
c.space = ConfigDict({"name": "own_space.py:Blocks", "depth": 2})
"""

import dataclasses
import functools

import flax.linen as nn

import nas_jax
from nas_jax import spaces
from nas_jax.nn import layers, masked, network
from nas_jax.spaces.choices import Choice

# Few steps and candidates, no stand-alone networks. Leave this out for the whole search.
QUICK = {
    "supernet.train.num_steps": 50,
    "supernet.train.base_lr": 1.6,  # shortcuts add up
    "sweep.num_candidates": 32,
    "sweep.candidates_per_batch": 16,
    "retrain.short.num_seeds": 0,
    "retrain.final.num_seeds": 0,
}
SIZES = (1, 3, 5)


class Net(network.Network):
    """A stem, and a shortcut around one or two convolutions in each block."""

    @nn.compact
    def __call__(self, images, arch=None):
        """Map images [B, H, W, C] to logits [B, K]; see `nas_jax.spaces.base.Space.supernet`."""
        images, masks, leading = masked.to_groups(images.astype(self.dtype), arch)
        x = layers.Stem(self.filters, 2, self.kernel_init, name="stem")(images)
        builders = [
            functools.partial(layers.Conv, self.filters, (size, size), **self.unit)
            for size in SIZES
        ]
        for i, choice in enumerate(self.space.choices):
            op = masked.MixedOp(builders, self.on[i], self.execution, name=choice.name)
            x = x + op(x, None if masks is None else masks[i])
        return self.logits(x).reshape(*leading, -1)


@dataclasses.dataclass(frozen=True)
class Blocks(spaces.Space):
    """`depth` blocks, each the sum of one or two convolutions of 1x1, 3x3 or 5x5."""

    depth: int = 2

    @functools.cached_property
    def choices(self):
        """One Choice for each block; its shortcut remains if path dropout drops all."""
        return tuple(
            Choice(f"block{i}", len(SIZES), min_on=1, max_on=2, may_lose_all=True)
            for i in range(self.depth)
        )

    def option_names(self, choice):
        """Name the options in strings and reports."""
        return tuple(f"conv{size}" for size in SIZES)

    def network(self, *, num_classes, filters, arch, **options):
        """Make the supernet, or the network of one architecture."""
        return Net(self, num_classes, filters, arch, **options)


if __name__ == "__main__":
    space = Blocks(depth=3)
    print(spaces.check(space))
    found = nas_jax.search("digits", space, workdir="runs/own_space", fields=QUICK)
    print(repr(found.best), found.paths["report"], sep="\n")
