"""Training variants: other ways to train the supernet, by the name of `supernet.variant`.

A variant's options are the keyword arguments of its maker.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from nas_jax import plugins
from nas_jax.oneshot.training_variant import OPTIONS, TrainingVariant
from nas_jax.spaces import Space
from nas_jax.training.variants import hypernetwork, morphnet, pbt


def plain(space: Space) -> TrainingVariant:
    """Change nothing: train the supernet as the paper does."""
    return TrainingVariant()


FIELD = "config.supernet.variant"
VARIANTS = {
    "none": plain,
    "smash": hypernetwork.make,
    "morphnet": morphnet.make,
    "pbt": pbt.make,
}


def make(name: str, space: Space, options: Iterable[tuple[str, Any]] = ()) -> TrainingVariant:
    """Make the variant of that name.

    Args:
      name: one of `VARIANTS`, or one that `plugins.resolve` finds.
      space: the search space.
      options: (option, value) pairs.

    Raises: ValueError if no variant has the name, or an option is unknown or out of its range.
    """
    given = {"options": options, "options_field": OPTIONS}
    made = plugins.make(FIELD, name, VARIANTS, "variants", space, **given)
    if not isinstance(made, TrainingVariant):
        raise ValueError(f"{FIELD}={name!r} made a {type(made).__name__}, not a TrainingVariant")
    return made


def of(settings: ConfigDict, space: Space) -> TrainingVariant:
    """Make the variant that a section `supernet` names; errors as of `make`."""
    return make(settings.variant, space, settings.variant_options)


__all__ = ["VARIANTS", "TrainingVariant", "make", "of"]
