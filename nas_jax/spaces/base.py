"""What every search space offers: the generic part follows from its Choices and parameter scopes.

A space is a frozen dataclass (hashable). Its own file defines the abstract members; nothing else
is overridden.
"""

import abc
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from nas_jax.nn import network
from nas_jax.runtime import rng
from nas_jax.spaces import choices as choices_lib
from nas_jax.spaces.image_size import ImageSize, height_and_width

Arch = choices_lib.Arch
Path = tuple[str, ...]  # of a parameter: its scopes, then its name
Op = Callable[..., Callable[[jax.Array], jax.Array]]
"""Builder of a candidate operation: op(features, *, name, norm, kernel_init) returns a module or
function [G, n, H, W, C] -> [G, n, H, W, features]; `norm` and `kernel_init` as in `nn.layers`. A
space may also give `hidden`, the channels between an op's layers (None: the op's own number), and
`stride`, by which the op reduces height and width."""


class Layer(NamedTuple):
    """Kernels, and their batch norm, if there is one.

    Tensors are named by what makes them; those that are summed or passed on are one tensor.
    """

    scope: Path  # of its parameters; those of its batch norm are in `norm` below
    inputs: tuple[str, ...]  # tensors whose concat it takes; () for the images
    output: str | None  # tensor; None for the logits
    normed: tuple[str, ...] = ()  # tensors whose concat its batch norm scales


class Space(abc.ABC):
    """A search space: what can be chosen and the network that it is chosen for."""

    published_filters: ClassVar[int | None] = None  # F of a benchmark's networks

    @property
    @abc.abstractmethod
    def choices(self) -> Any:
        """The tree of `Choice` records; their names are the scopes of their parameters."""

    @abc.abstractmethod
    def to_str(self, arch: Arch) -> str:
        """Canonical string of one architecture, also of `all_on`.

        Raises: ValueError if the masks have a batch axis: `to_strs` takes many.
        """

    @abc.abstractmethod
    def parse(self, text: str) -> Any:
        """Which options a string names: the tree of Choices with a tuple at each leaf.

        Raises: ValueError if it names others than there are, or not as many Choices.
        """

    @abc.abstractmethod
    def network(self, *, num_classes: int, filters: int, arch: str | None, **options) -> nn.Module:
        """The module: the supernet if `arch` is None, else only what that architecture uses."""

    @abc.abstractmethod
    def reduction_at(self, path: Path) -> int:
        """By how much the height and width of images are reduced where that path's kernel is used;
        not asked for the classifier's.
        """

    @property
    @abc.abstractmethod
    def reduction(self) -> int:
        """By how much the network reduces the height and width of images in all."""

    @abc.abstractmethod
    def option_names(self, choice: choices_lib.Choice) -> tuple[str, ...]:
        """Names of a Choice's options, to compare them over Choices."""

    def deepened(self, depth: int) -> "Space":
        """The space with `depth` cells a stage, whose architectures are the same.

        Raises: ValueError if an architecture belongs to one depth.
        """
        raise ValueError(f"{type(self).__name__} has no other depth: an architecture is a depth")

    def repeated(self, text: str) -> str:
        """The string, in this space, of an architecture whose string stands for every cell."""
        return text

    def layers(self, text: str) -> list[Layer]:
        """The layers of an architecture's network, in order: what has a width of its own.

        Raises: ValueError if the space's networks have none.
        """
        raise ValueError(f"the networks of {type(self).__name__} have no widths of their own")

    def isomorph(self, text: str) -> str:
        """What all architectures that compute the same have in common; here nothing is known."""
        return text

    # The rest is final.

    def supernet(self, *, num_classes: int, filters: int = 16, **options) -> nn.Module:
        """The one-shot model: `apply(variables, images, arch)` is any network of the space.

        Args:
          num_classes: K, the number of logits.
          filters: F, channels of the first stage.
          **options: bn="batch" | "running", bn_momentum, bn_epsilon, relu_before_bn;
            dtype="float32" | "bfloat16" | "float16"; execution="masked" | "switch" (one
            architecture at a time) | "dispatch", see `nas_jax.nn.execution`.

        Returns:
          A flax.linen module. images [B, H, W, C] with masks [k] or, in G contiguous groups of
          B/G, [G, k] give logits float32 [B, K]; images [1 or G, n, H, W, C] give [G, n, K].

        Raises: ValueError if an option has no such value, with the nearest that there is.
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
        """The network of one architecture, only the chosen ops: `apply(variables, images)`.

        Its parameters have the names and shapes that they have in the supernet of the same
        `filters`. Args as in `supernet`; `arch` is a string or concrete masks [num_options].

        Args:
          widths: channels of every tensor, in the order of `tensors`; None: as `filters` says.

        Raises: ValueError if there are not as many as tensors, or if a number is below 1, or if an
          option is not as in `supernet`.
        """
        _check_counts(num_classes=num_classes, filters=filters)
        text = arch if isinstance(arch, str) else self.to_str(arch)
        self.from_str(text)
        if widths is not None:
            options["widths"] = self._checked(text, tuple(map(int, widths)))
        return self.network(num_classes=num_classes, filters=filters, arch=text, **options)

    def tensors(self, text: str) -> tuple[str, ...]:
        """Names of the tensors of an architecture's network that have a width, in order."""
        return tuple(dict.fromkeys(x.output for x in self.layers(text) if x.output is not None))

    def _checked(self, text, widths):
        if len(widths) != len(self.tensors(text)) or min(widths) < 1:
            raise ValueError(
                f"architecture {text!r} has {len(self.tensors(text))} tensors; their widths must "
                f"be as many numbers from 1 on, not {widths}"
            )
        return widths

    def check_image_size(self, image_size: ImageSize) -> None:
        """Raises: ValueError if images of that size are none, or cannot be reduced evenly."""
        height, width = height_and_width(image_size)
        if height % self.reduction or width % self.reduction:
            raise ValueError(
                f"images of {height}x{width} pixels (height x width): both must be multiples of "
                f"{self.reduction}, by which this space's networks (config.space) reduce them; set "
                "data.image_size to one"
            )

    def from_str(self, text: str) -> Arch:
        """Masks float32 [num_options] of a canonical string; any that `to_str` gives.

        Raises: ValueError if it is none: `from_strs` takes many.
        """
        if not isinstance(text, str):
            kind = type(text).__name__
            raise ValueError(f"an architecture is given as one string, not as {kind}: {text!r:.60}")
        arch = choices_lib.from_indices(self.choices, self.parse(text))
        if self.to_str(arch) != text:
            raise ValueError(f"architecture {text!r} is not canonical: {self.to_str(arch)!r} is")
        return arch

    def to_strs(self, archs: Arch) -> list[str]:
        """Canonical strings of architectures with masks [N, num_options]."""
        host = jax.device_get(archs)
        count = len(jax.tree.leaves(host)[0])
        return [self.to_str(jax.tree.map(lambda mask, i=i: mask[i], host)) for i in range(count)]

    def from_strs(self, texts: Sequence[str]) -> Arch:
        """Masks float32 [N, num_options] of canonical strings, one or more."""
        return jax.tree.map(lambda *masks: np.stack(masks), *map(self.from_str, texts))

    def count(self) -> int:
        """Number of legal architectures."""
        return choices_lib.count(self.choices)

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> Arch:
        """Uniform legal architectures, masks [*shape, num_options]."""
        return choices_lib.sample(key, self.choices, shape)

    def mutate(self, key: jax.Array, arch: Arch) -> Arch:
        """One Choice of one legal architecture drawn anew."""
        return choices_lib.mutate(key, self.choices, arch)

    def crossover(self, key: jax.Array, a: Arch, b: Arch) -> Arch:
        """Each Choice from `a` or from `b`."""
        return choices_lib.crossover(key, a, b)

    def neighbours(self, arch: Arch) -> Arch:
        """All legal architectures one Choice away, masks [N, num_options]."""
        return choices_lib.neighbours(self.choices, arch)

    def enumerate_decisions(self, batch: int = 4096) -> Iterator[np.ndarray]:
        """Every architecture once, as decision vectors int32 [<= batch, D]."""
        return choices_lib.enumerate_decisions(self.choices, batch)

    def to_decisions(self, arch: Arch) -> jax.Array:
        """Decision vectors int32 [..., D]; -1 marks what is not legal."""
        return choices_lib.to_decisions(self.choices, arch)

    def from_decisions(self, decisions: jax.Array) -> Arch:
        """Masks [..., num_options] of decision vectors [..., D]."""
        return choices_lib.from_decisions(self.choices, decisions)

    def all_on(self) -> Arch:
        """Every path on."""
        return choices_lib.all_on(self.choices)

    def contains(self, arch: Arch) -> bool:
        """Whether `arch` is legal."""
        return choices_lib.contains(self.choices, arch)

    def indices(self, arch: Arch | str) -> Any:
        """The tuple of options that are on for each Choice (a tree).

        `arch` is a string or concrete masks [num_options], also of no legal architecture.

        Raises: ValueError if the string is not canonical, or the masks have a batch axis.
        """
        masks = self.from_str(arch) if isinstance(arch, str) else arch
        return choices_lib.to_indices(self.choices, masks)

    def owner(self, path: Path) -> tuple[str, int] | None:
        """(name of the Choice, option) that alone uses a parameter; None: every network does."""
        names = {choice.name for choice in jax.tree.leaves(self.choices)}
        for scope, below in itertools.pairwise(path):
            if scope in names:
                return scope, int(below)
        return None

    def multiply_adds(self, path: Path, shape: tuple[int, ...], image_size: ImageSize) -> int:
        """Of the array of parameters of that path, on one image; only kernels have any.

        Raises: ValueError if images of that size cannot be reduced evenly.
        """
        return math.prod(shape) * self.positions(path, image_size) if len(shape) > 1 else 0

    def positions(self, path: Path, image_size: ImageSize) -> int:
        """Number of places at which the kernel of that path is applied to one image.

        Raises: ValueError if images of that size cannot be reduced evenly.
        """
        self.check_image_size(image_size)
        if path[0] == network.CLASSIFIER:
            return 1
        return math.prod(side // self.reduction_at(path) for side in height_and_width(image_size))

    def usage(self, params: Any, arch: Arch) -> Any:
        """Share of the groups that use each parameter: a tree like `params` of float32 scalars.

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
        """The part of the supernet's parameters (or statistics) that one architecture uses."""
        # Masks become a string, since a string is checked: no Choice may be empty.
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
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count!r} must be a whole number from 1 on")


@functools.cache
def param_shapes(
    space: Space, filters: int, num_classes: int, channels: int = 3
) -> dict[Path, tuple[int, ...]]:
    """Shape of every parameter of the supernet, by path; traced, nothing is computed.

    The size of images changes none.
    """
    net = space.supernet(num_classes=num_classes, filters=filters)
    images = jax.ShapeDtypeStruct((1, space.reduction, space.reduction, channels), jnp.float32)
    variables = jax.eval_shape(net.init, rng.key(0), images, space.all_on())
    return shapes_by_path(variables["params"])


def shapes_by_path(params: Any) -> dict[Path, tuple[int, ...]]:
    """Shape of every array of a network's parameters."""
    flat = flax.traverse_util.flatten_dict(params)
    return {path: leaf.shape for path, leaf in flat.items()}


def identity(x: jax.Array) -> jax.Array:
    """The op that does nothing."""
    return x


def arch_id(text: str) -> str:
    """First 12 hex digits of the SHA-256 of a canonical string: names folders."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
