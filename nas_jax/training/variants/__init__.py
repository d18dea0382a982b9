"""Training variants, by the name of `supernet.variant`: how else a supernet may be trained.

A variant's options are the keyword arguments of its maker.
"""

from collections.abc import Iterable
from typing import Any

from nas_jax import naming
from nas_jax.spaces import Space
from nas_jax.training.variants import hypernetwork, morphnet, pbt
from nas_jax.training.variants.base import OPTIONS, TrainingVariant


def plain(space: Space) -> TrainingVariant:
    """Change nothing: the supernet is trained as the paper trains it."""
    return TrainingVariant()


VARIANTS = {
    "none": plain,
    "smash": hypernetwork.make,
    "morphnet": morphnet.make,
    "pbt": pbt.make,
}


def make(name: str, space: Space, options: Iterable[tuple[str, Any]] = ()) -> TrainingVariant:
    """Make the variant of that name.

    Args:
      name: one of `VARIANTS`.
      space: the search space.
      options: (option, value) pairs.

    Raises: ValueError if there is none, or if an option is unknown or out of its range.
    """
    naming.check("config.supernet.variant", name, VARIANTS)
    known = naming.keywords(VARIANTS[name])
    naming.check_options(OPTIONS, name, options, known)
    return VARIANTS[name](space, **dict(options))


__all__ = ["VARIANTS", "TrainingVariant", "make"]
