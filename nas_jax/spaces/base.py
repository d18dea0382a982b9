"""The base of all search spaces: what follows from a space's Choices and its parameter scopes.

A space is a frozen dataclass (hashable). Its file defines `choices` and `network`, and may override
`allows`, and the other members before the line "The rest is final". How its architectures are
drawn, changed and counted is in `spaces.combinations`.
"""

import abc
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax import naming
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces import params as params_lib
from nas_jax.spaces import strings, wiring
from nas_jax.spaces.combinations import Combinations
from nas_jax.spaces.image_size import ImageSize, height_and_width

Arch = choices_lib.Arch
Path = params_lib.Path


class Layer(NamedTuple):
    """Kernels, and their batch norm, if there is one.

    A tensor is named by the layer that makes it. Outputs that are summed or passed on are one
    tensor.
    """

    scope: Path  # of the parameters; those of the batch norm are in its scope `norm`
    inputs: tuple[str, ...]  # tensors whose concat the layer takes; () for the images
    output: str | None  # tensor; None for the logits
    normed: tuple[str, ...] = ()  # tensors whose concat the batch norm scales


class Space(Combinations):
    """A search space: its Choices, and the networks of its architectures."""

    published_filters: ClassVar[int | None] = None  # F of a benchmark's networks

    @abc.abstractmethod
    def network(self, *, num_classes: int, filters: int, arch: str | None, **options) -> nn.Module:
        """Make the module: the supernet if `arch` is None, else one with only the ops of `arch`.

        It is a `nas_jax.nn.network.Network`, whose docstring has the options.
        """

    # What follows from these two, and may be overridden.

    def option_names(self, choice: choices_lib.Choice) -> tuple[str, ...]:
        """Name a Choice's options; equal names are the same option of different Choices.

        By default they are numbers.
        """
        return tuple(map(str, range(choice.num_options)))

    def to_str(self, arch: Arch) -> str:
        """Write the canonical string of one architecture, or of `all_on`.

        By default, '|' parts Choices, and ',' their options: see `nas_jax.spaces.strings`.

        Raises: ValueError if the masks have a batch axis; `to_strs` takes many.
        """
        return strings.write(self.choices, self.option_names, arch)

    def parse(self, text: str) -> Any:
        """Read which options a string names: the tree of Choices with a tuple at each leaf.

        Raises: ValueError if an option does not exist, or if the number of Choices differs.
        """
        return strings.read(self.choices, self.option_names, text)

    @property
    def reduction(self) -> int | None:
        """The factor by which the network reduces images, whose sides must be multiples of it.

        None: it takes images of any size, or refuses them when it is traced.
        """
        return None

    def deepened(self, depth: int) -> "Space":
        """Return the space with `depth` cells a stage and the same architectures.

        Raises: ValueError if an architecture belongs to one depth.
        """
        raise ValueError(f"{type(self).__name__} has no other depth: an architecture is a depth")

    def repeated(self, text: str) -> str:
        """Return the string, in this space, of an architecture whose string is for each cell."""
        return text

    def layers(self, text: str) -> list[Layer]:
        """List the layers of an architecture's network, in order; their tensors have widths.

        Raises: ValueError if the widths of the space's networks cannot be chosen.
        """
        raise ValueError(f"the networks of {type(self).__name__} have no widths of their own")

    def wirings(self) -> dict[wiring.Option, wiring.Wiring]:
        """Say what each option reads and writes, by (Choice's name, option).

        By default Choices are ops that follow each other, as in a chain.
        """
        return wiring.of_chain(jax.tree.leaves(self.choices))

    def outputs(self) -> tuple[str, ...]:
        """Name the tensors of `wirings` of which the output is made; () if there is no one graph.

        By default those that nothing reads.
        """
        every = self.wirings().values()
        read = {tensor for each in every for tensor, _ in each.reads}
        return tuple(sorted({each.writes for each in every} - read))

    def isomorph(self, text: str) -> str:
        """Return a string that isomorphs share; by default `text`, so that none share one."""
        return text

    # The rest is final.

    def supernet(self, *, num_classes: int, filters: int = 16, **options) -> nn.Module:
        """Make the supernet: `apply(variables, images, arch)` computes any network of the space.

        Args:
          num_classes: K, the number of logits.
          filters: F, channels of the first stage.
          **options: bn="batch" | "running" | "recorded", bn_momentum, bn_epsilon, relu_before_bn;
            dtype="float32" | "bfloat16" | "float16"; execution="masked" | "switch" (one
            architecture at a time) | "dispatch", see `nas_jax.nn.execution`.

        Returns:
          A flax.linen module. images [B, H, W, C] with masks [k] or, in G contiguous groups of
          B/G, [G, k] give logits float32 [B, K]; images [1 or G, n, H, W, C] give [G, n, K].

        Raises: ValueError if an option has no such value, with the nearest that exists.
        """
        _check_counts(num_classes=num_classes, filters=filters)
        return self.network(num_classes=num_classes, filters=filters, arch=None, **options)

    def standalone(
        self,
        arch: Arch | str,
        *,
        num_classes: int,
        filters: int,
        widths: Sequence[int] | None = None,
        **options,
    ) -> nn.Module:
        """Make the network of one architecture, with only the chosen ops.

        `apply(variables, images)` computes it. Its parameters have the names and shapes that they
        have in the supernet of the same `filters`. The other arguments are those of `supernet`.

        Args:
          arch: canonical string or concrete masks [num_options].
          widths: channels of every tensor, in the order of `tensors`; None: as `filters` says.

        Raises: ValueError if the number of widths is not that of tensors, if a width is below 1, or
          if an option has no such value.
        """
        _check_counts(num_classes=num_classes, filters=filters)
        text = arch if isinstance(arch, str) else self.to_str(arch)
        self.from_str(text)
        if widths is not None:
            options["widths"] = self._checked(text, tuple(map(int, widths)))
        return self.network(num_classes=num_classes, filters=filters, arch=text, **options)

    def tensors(self, text: str) -> tuple[str, ...]:
        """Name the tensors of an architecture's network that have a width, in order."""
        return tuple(dict.fromkeys(x.output for x in self.layers(text) if x.output is not None))

    def _checked(self, text, widths):
        if len(widths) != len(self.tensors(text)) or min(widths) < 1:
            raise ValueError(
                f"architecture {text!r} has {len(self.tensors(text))} tensors; their widths must "
                f"be as many numbers from 1 on, not {widths}"
            )
        return widths

    def check_image_size(self, image_size: ImageSize) -> None:
        """Check that the network takes images of that size, else raise a ValueError."""
        height, width = height_and_width(image_size)
        if not self.reduction:
            params_lib.check_traceable(self, (height, width))
        elif height % self.reduction or width % self.reduction:
            raise ValueError(
                f"images of {height}x{width} pixels (height x width): both must be multiples of "
                f"{self.reduction}, by which this space's networks (config.space) reduce them; set "
                "data.image_size to one"
            )

    @property
    def example_size(self) -> int:
        """Side of images for what hardly depends on their size, pixels."""
        return self.reduction or params_lib.EXAMPLE_SIZE

    def from_str(self, text: str) -> Arch:
        """Return masks float32 [num_options] of a canonical string, that of `all_on` included.

        Raises: ValueError if it is not one canonical string; `from_strs` takes many.
        """
        if not isinstance(text, str):
            kind = type(text).__name__
            raise ValueError(f"an architecture is given as one string, not as {kind}: {text!r:.60}")
        arch = choices_lib.from_indices(self.choices, self.parse(text))
        if self.to_str(arch) != text:
            raise ValueError(f"architecture {text!r} is not canonical: {self.to_str(arch)!r} is")
        return arch

    def to_strs(self, archs: Arch) -> list[str]:
        """Write the canonical strings of architectures with masks [N, num_options]."""
        host = jax.device_get(archs)
        count = len(jax.tree.leaves(host)[0])
        return [self.to_str(jax.tree.map(lambda mask, i=i: mask[i], host)) for i in range(count)]

    def from_strs(self, texts: Sequence[str]) -> Arch:
        """Return masks float32 [N, num_options] of canonical strings, one or more."""
        return jax.tree.map(lambda *masks: np.stack(masks), *map(self.from_str, texts))

    def indices(self, arch: Arch | str) -> Any:
        """Return for each Choice the tuple of its options that are on (a tree).

        `arch` is a canonical string or concrete masks [num_options], legal or not.

        Raises: ValueError if the string is not canonical, or the masks have a batch axis.
        """
        masks = self.from_str(arch) if isinstance(arch, str) else arch
        return choices_lib.to_indices(self.choices, masks)

    def owner(self, path: Path) -> tuple[str, int] | None:
        """Return (Choice's name, option) that owns a parameter; None: every network uses it."""
        names = {choice.name for choice in jax.tree.leaves(self.choices)}
        for scope, below in itertools.pairwise(path):
            if scope in names and below.isdigit():
                return scope, int(below)
        return None

    def multiply_adds(self, path: Path, shape: tuple[int, ...], image_size: ImageSize) -> int:
        """Count the multiply-adds of an array of parameters on one image; only kernels have any.

        `shape` may have other widths than the supernet's: a kernel is used at as many places.

        Raises: ValueError if the network does not take images of that size.
        """
        found = params_lib.traced(self, image_size, **params_lib.REFERENCE)
        return found.flops.get(path, 0) * math.prod(shape) // math.prod(found.shapes[path])

    def usage(self, params: Any, arch: Arch) -> Any:
        """Return the share of groups that use each parameter: float32 [], a tree like `params`.

        `arch` has masks [k] (the shares are 0 or 1) or [G, k].
        """
        shares = {
            choice.name: jnp.mean(jnp.atleast_2d(mask != 0).astype(jnp.float32), 0)
            for choice, mask in zip(jax.tree.leaves(self.choices), jax.tree.leaves(arch))
        }

        def share(path, _):
            owner = self.owner(path)
            return jnp.float32(1) if owner is None else shares[owner[0]][owner[1]]

        return flax.traverse_util.path_aware_map(share, params)

    def subnet(self, params: Any, arch: Arch | str) -> Any:
        """Cut out the supernet's parameters (or statistics) that one architecture uses."""
        # Masks become a string, which is checked: no Choice may be empty.
        indices = self.indices(arch if isinstance(arch, str) else self.to_str(arch))
        on = {
            (choice.name, j)
            for choice, chosen in zip(
                jax.tree.leaves(self.choices),
                jax.tree.structure(self.choices).flatten_up_to(indices),
            )
            for j in chosen
        }
        flat = flax.traverse_util.flatten_dict(params)
        kept = {path: leaf for path, leaf in flat.items() if self.owner(path) in on | {None}}
        return flax.traverse_util.unflatten_dict(kept)


def _check_counts(**counts):
    for name, count in counts.items():
        naming.check_whole(name, count, 1)


def arch_id(text: str) -> str:
    """Return the first 12 hex digits of a canonical string's SHA-256, which name folders."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
